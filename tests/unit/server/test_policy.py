"""The admission policy file: its form, ranges and what is said when it is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lastunit_server.errors import SettingsError
from lastunit_server.loading import load_policy, load_settings
from lastunit_server.native_settings import native_settings_json

if TYPE_CHECKING:
    from pathlib import Path


def write(directory: Path, text: str) -> Path:
    """Writes a policy file."""
    file = directory / "admission.toml"
    file.write_text(text)
    return file


def test_a_whole_policy_reaches_the_node(tmp_path: Path) -> None:
    """Lanes, callers and costs of the file stand in the node's settings; the rest has defaults."""
    file = write(
        tmp_path,
        "version = 1\n[lanes.reservation]\nrate_per_second = 100\nburst = 10\n"
        "calls_in_flight_max = 7\n[callers.default]\nrate_per_second = 5\nburst = 2\n"
        '[callers."order-service"]\nrate_per_second = 50\nburst = 20\n'
        "[costs]\nReserve = 2.5\nper_line = 0.5\n",
    )

    text = native_settings_json(load_settings(environment={}), load_policy(file))

    admission = json.loads(text)["admission"]
    assert admission["version"] == 1
    assert admission["lanes"]["reservation"] == {
        "rate_per_second": 100,
        "burst": 10,
        "calls_in_flight_max": 7,
    }
    assert admission["lanes"]["settlement"] == {"calls_in_flight_max": 16384}
    assert admission["callers"]["default"] == {"rate_per_second": 5, "burst": 2}
    assert admission["callers"]["order-service"] == {"rate_per_second": 50, "burst": 20}
    assert admission["costs"]["Reserve"] == 2.5
    assert admission["costs"]["per_line"] == 0.5
    assert admission["costs"]["GetReservation"] == 0.05
    assert admission["costs"]["SettlePayment"] == 0


def test_a_lane_without_a_rate_has_no_bucket(tmp_path: Path) -> None:
    """Naming a lane and leaving the rate out switches its bucket off."""
    file = write(tmp_path, "version = 1\n[lanes.read]\ncalls_in_flight_max = 5\n")

    text = native_settings_json(load_settings(environment={}), load_policy(file))

    assert json.loads(text)["admission"]["lanes"]["read"] == {"calls_in_flight_max": 5}


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("", "version", "is missing"),
        ("version = 2", "version", "1"),
        ("version = 1\n[lanes.settlement]\nrate_per_second = 1", "lanes.settlement", "known key"),
        ("version = 1\n[lanes.fast]\n", "lanes.fast", "known key"),
        ("version = 1\n[lanes.read]\nrate_per_second = 5", "lanes.read", "belong together"),
        (
            "version = 1\n[lanes.read]\nrate_per_second = 1000\nburst = 9",
            "lanes.read",
            "less than 10 ms",
        ),
        ("version = 1\n[lanes.read]\ncalls_in_flight_max = 0", "lanes.read", "1 to 1000000"),
        ("version = 1\n[callers.default]\nburst = 1", "callers.default.rate", "is missing"),
        ('version = 1\n[callers."a b"]\nburst = 1\nrate_per_second = 1', "callers.a b", "a b"),
        ("version = 1\n[costs]\nReserv = 1", "costs", "names no method: Reserv"),
        ("version = 1\n[costs]\nReserve = -1", "costs.Reserve", "-1"),
    ],
)
def test_a_wrong_policy_names_file_key_and_reason(
    tmp_path: Path, text: str, key: str, words: str
) -> None:
    """Each kind of mistake is told with the file, the key and what is wrong."""
    file = write(tmp_path, text)

    with pytest.raises(SettingsError) as caught:
        load_policy(file)

    sources = {problem.source.partition(":")[0] for problem in caught.value.problems}
    assert sources == {str(file)}
    assert any(problem.key.startswith(key) for problem in caught.value.problems)
    assert words in str(caught.value)
