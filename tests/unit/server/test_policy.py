"""The admission policy file: read by the node's own reader, told with file and line when wrong."""

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


def test_a_policy_file_reaches_the_node_as_it_is(tmp_path: Path) -> None:
    """The node gets the text and where it comes from; settings have their defaults filled in."""
    text = "version = 1\n[lanes.reservation]\nrate_per_second = 100\nburst = 10\n"
    policy = load_policy(write(tmp_path, text))

    held = json.loads(native_settings_json(load_settings(environment={}), policy))["policy"]

    assert held == {"document": text, "origin": "file"}
    assert policy.settings["lanes.reservation.rate_per_second"] == "100"
    assert policy.settings["costs.GetReservation"] == "0.05"
    assert policy.stamp is not None


def test_without_a_file_the_built_in_policy_holds() -> None:
    """It has a bucket for reservations, and is marked as nobody's wish."""
    policy = load_policy(None)

    assert policy.origin == "built_in"
    assert policy.settings["lanes.reservation.rate_per_second"] == "50000"
    assert "lanes.settlement.rate_per_second" not in policy.settings


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("", 1, "version", "is missing"),
        ("version = 1\n[lanes", 2, "(whole file)", "not TOML"),
        ("version = 1\n[lanes.settlement]\nrate_per_second = 1", 3, "lanes", "known key"),
        ("version = 1\n[costs]\nReserv = 1", 3, "costs.Reserv", "names no method"),
    ],
)
def test_a_wrong_policy_names_file_line_key_and_reason(
    tmp_path: Path, text: str, line: int, key: str, words: str
) -> None:
    """Each kind of mistake is told with the file, the line, the key and what is wrong."""
    file = write(tmp_path, text)

    with pytest.raises(SettingsError) as caught:
        load_policy(file)

    (problem,) = caught.value.problems
    assert problem.source == f"{file}:{line}"
    assert problem.key.startswith(key)
    assert words in problem.message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are told as such."""
    file = tmp_path / "admission.toml"
    file.write_bytes(b"version = 1 # \xff")

    with pytest.raises(SettingsError, match="UTF-8"):
        load_policy(file)
