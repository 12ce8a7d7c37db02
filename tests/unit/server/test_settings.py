"""Settings: where they come from, what they may be, and what is said when they are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tools import settings_page

from lastunit_server.errors import SettingsError
from lastunit_server.loading import load_settings
from lastunit_server.methods import Listener
from lastunit_server.settings import Settings, host_and_port, is_loopback

if TYPE_CHECKING:
    from pathlib import Path

KEYS_WITH_RANGES = {
    "manual_start_ms": (0, 253_402_300_799_999),
    "data.max_concurrent_streams": (1, 100_000),
    "data.streams_max": (1, 100_000),
    "settlement.thread_count": (2, 256),
    "journal.segment_bytes": (262_144, 1_073_741_824),
    "journal.kept_back_bytes": (0, 1_073_741_824),
    "journal.snapshot_events": (1000, 100_000_000),
    "node.timer_step_limit": (1, 4096),
    "node.timer_interval_ms": (5, 10_000),
    "node.batch_chunk_operations": (1, 4096),
    "node.watch_interval_ms": (1, 10_000),
    "limits.connections_max": (1, 100_000),
    "limits.connection_age_seconds": (1, 86_400),
    "limits.connection_idle_seconds": (1, 86_400),
    "limits.handshake_seconds": (1, 120),
    "limits.connections_per_address_max": (1, 100_000),
    "limits.message_seconds": (1, 600),
    "limits.reader_seconds": (1, 3600),
    "limits.waiting_bytes_max": (1_048_576, 1_099_511_627_776),
}


def write(directory: Path, text: str) -> Path:
    """Writes a settings file."""
    file = directory / "server.toml"
    file.write_text(text)
    return file


def value_of(settings: Settings, key: str) -> object:
    """Follows a dotted key."""
    current: object = settings
    for part in key.split("."):
        current = getattr(current, part)
    return current


def test_defaults_need_nothing() -> None:
    """Without any source the server listens on loopback and flushes to ./lastunit-data."""
    settings = load_settings(environment={})

    assert str(settings.data_directory) == "lastunit-data"
    assert settings.data.address == "127.0.0.1:7400"
    assert settings.settlement.address == "127.0.0.1:7401"
    assert settings.metrics_address == "127.0.0.1:7404"
    assert settings.journal.durability == "flushed"


@pytest.mark.parametrize(
    ("flags", "address"),
    [
        ({"data.address": "127.0.0.1:0"}, "127.0.0.1:0"),
        ({"data.address": "127.0.0.1:0", "metrics.address": ""}, ""),
        ({"data.address": "127.0.0.1:0", "metrics.address": "127.0.0.1:9"}, "127.0.0.1:9"),
        ({"data.address": "127.0.0.1:9"}, "127.0.0.1:7404"),
    ],
)
def test_metrics_take_a_free_port_beside_a_free_port(flags: dict[str, str], address: str) -> None:
    """Unset, they would share the default port with the next server of a test run."""
    settings = load_settings(flags=flags, environment={})

    assert settings.metrics_address == address


def test_flags_beat_environment_beats_file(tmp_path: Path) -> None:
    """Each source overrides the weaker ones key by key and leaves their other keys alone."""
    file = write(
        tmp_path,
        'grace_seconds = 1\n[data]\naddress = "127.0.0.1:1"\nstreams_max = 11\n'
        '[settlement]\naddress = "127.0.0.1:2"\n',
    )
    environment = {
        "LASTUNIT_SERVER__DATA__ADDRESS": "127.0.0.1:3",
        "LASTUNIT_SERVER__SETTLEMENT__ADDRESS": "127.0.0.1:4",
        "UNRELATED": "x",
    }

    settings = load_settings(file, flags={"data.address": "127.0.0.1:5"}, environment=environment)

    assert settings.data.address == "127.0.0.1:5"
    assert settings.settlement.address == "127.0.0.1:4"
    assert settings.data.streams_max == 11
    assert settings.grace_seconds == 1


@pytest.mark.parametrize("key", KEYS_WITH_RANGES)
def test_a_number_is_taken_at_its_limits_and_refused_past_them(key: str) -> None:
    """Each bound is reached and not passed; the refusal names the source, key and range."""
    low, high = KEYS_WITH_RANGES[key]

    for inside in (low, high):
        settings = load_settings(flags={key: str(inside)}, environment={})
        assert value_of(settings, key) == inside
    for outside in (low - 1, high + 1):
        with pytest.raises(SettingsError) as caught:
            load_settings(flags={key: str(outside)}, environment={})
        [problem] = caught.value.problems
        assert problem.source == "flag"
        assert problem.key == key
        assert f"{low} to {high}" in problem.message


def test_small_segments_keep_back_what_they_can() -> None:
    """A default is lowered with them; what somebody asked for and cannot be is an error."""
    small = {"journal.segment_bytes": "1048576"}
    # 64 segments, each without its header and its seal of 64 bytes.
    most = 64 * (1_048_576 - 128)
    assert load_settings(flags=small).journal.kept_back_bytes == most
    asked = load_settings(flags=small | {"journal.kept_back_bytes": str(most)})
    assert asked.journal.kept_back_bytes == most
    with pytest.raises(SettingsError, match=f"can keep back {most} at most"):
        load_settings(flags=small | {"journal.kept_back_bytes": str(most + 1)})


def test_an_unknown_key_is_an_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    """A typing error is refused in each source, with the keys that exist there."""
    file = write(tmp_path, "[data]\nadress = 'x'\n")

    with pytest.raises(SettingsError) as caught:
        load_settings(
            file,
            flags={"colour": "red"},
            environment={"LASTUNIT_SERVER__JOURNAL__SEGMENTS": "1"},
        )

    found = {problem.key: problem for problem in caught.value.problems}
    assert set(found) == {"data.adress", "journal.segments", "colour"}
    assert found["data.adress"].source == f"{file}:2"
    assert "address" in found["data.adress"].advice
    assert found["journal.segments"].source == "environment"
    assert "segment_bytes" in found["journal.segments"].advice
    assert found["colour"].source == "flag"


def test_every_problem_is_reported_at_once() -> None:
    """Three wrong values give three problems, not the first of them."""
    flags = {"clock": "sundial", "grace_seconds": "-1", "journal.durability": "yes"}

    with pytest.raises(SettingsError) as caught:
        load_settings(flags=flags, environment={})

    assert [problem.key for problem in caught.value.problems] == sorted(flags)
    assert "one of system, manual" in str(caught.value)


def test_an_address_beyond_loopback_needs_allow_insecure() -> None:
    """Listening for other machines without encryption is a decision that has to be written."""
    flags = {"native.data_address": "0.0.0.0:7402"}

    with pytest.raises(SettingsError, match="allow_insecure = true"):
        load_settings(flags=flags, environment={})
    settings = load_settings(flags={**flags, "allow_insecure": "true"}, environment={})
    assert settings.native.data_address == "0.0.0.0:7402"


@pytest.mark.parametrize("listener", ["data", "settlement"])
def test_a_grpcio_listener_beyond_loopback_is_a_decision_of_its_own(listener: str) -> None:
    """Attacks stop it that the native one withstands, whatever protects the connections' words."""
    flags = {
        f"{listener}.address": "10.0.0.5:7410",
        f"native.{listener}_address": "10.0.0.5:7412",
        "allow_insecure": "true",
    }

    with pytest.raises(SettingsError) as caught:
        load_settings(flags=flags, environment={})
    assert f"give them native.{listener}_address = '10.0.0.5:7412'" in str(caught.value)

    settings = load_settings(flags=flags | {"allow_grpcio_beyond_loopback": "true"}, environment={})
    assert getattr(settings, listener).address == "10.0.0.5:7410"


@pytest.mark.parametrize("listener", ["data", "settlement"])
def test_a_listener_is_off_on_one_front_and_not_on_both(listener: str) -> None:
    """Without the grpcio one its native sibling stays where it was; without both nobody calls."""
    off = {f"{listener}.address": ""}
    settings = load_settings(flags=off, environment={})

    assert settings.address_of(Listener(listener)) in {"127.0.0.1:7402", "127.0.0.1:7403"}
    with pytest.raises(SettingsError, match="are both off"):
        load_settings(flags=off | {f"native.{listener}_address": ""}, environment={})


def test_two_listeners_on_one_address_are_refused() -> None:
    """Settlement on the reservations' port would queue behind them."""
    with pytest.raises(SettingsError, match="share one address"):
        load_settings(flags={"settlement.address": "127.0.0.1:7400"}, environment={})


def test_a_port_that_follows_from_another_is_named_when_it_is_taken() -> None:
    """Data on 7402 puts its native listener where metrics are; both keys stand in the message."""
    with pytest.raises(SettingsError) as caught:
        load_settings(flags={"data.address": "127.0.0.1:7402"}, environment={})

    told = str(caught.value)
    assert "native.data_address and metrics.address share one address, 127.0.0.1:7404" in told
    assert "plus 2" in told


def test_free_ports_may_be_asked_for_twice() -> None:
    """Port 0 names no port yet, so two listeners may both have it."""
    flags = {"settlement.address": "127.0.0.1:0", "data.address": "127.0.0.1:0"}

    settings = load_settings(flags=flags, environment={})

    assert settings.data.address == settings.settlement.address


@pytest.mark.parametrize("text", ["7400", ":7400", "host:", "host:70000", "host:x", "h:1:2x"])
def test_a_malformed_address_is_named(text: str) -> None:
    """What is not host:port is refused with an example of what is."""
    with pytest.raises(SettingsError, match=r"127\.0\.0\.1:7400"):
        load_settings(flags={"data.address": text}, environment={})


def test_loopback_is_told_from_the_text() -> None:
    """Literal loopback addresses and localhost count, names that must be resolved do not."""
    assert is_loopback("127.0.0.1:1")
    assert is_loopback("[::1]:1")
    assert is_loopback("localhost:1")
    assert not is_loopback("10.0.0.1:1")
    assert not is_loopback("ledger.example:1")
    assert host_and_port("[::1]:7") == ("::1", 7)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    """The text names the file and the line."""
    with pytest.raises(SettingsError, match=r"none\.toml.*can't be read"):
        load_settings(tmp_path / "none.toml", environment={})
    file = write(tmp_path, "a = 1\nb = = 2\n")
    with pytest.raises(SettingsError, match=r"server\.toml.*line 2"):
        load_settings(file, environment={})


def test_a_value_and_a_table_of_one_name_are_refused() -> None:
    """A flag can't put keys below another flag's value."""
    flags = {"data": "x", "data.address": "127.0.0.1:1"}

    with pytest.raises(SettingsError, match="value already"):
        load_settings(flags=flags, environment={})


def test_the_page_of_settings_is_what_the_code_says() -> None:
    """docs/reference/settings.md is made from the settings, and says something about each key."""
    rows = [line for line in settings_page.page().splitlines() if line.startswith("| `")]

    assert settings_page.PAGE.read_text() == settings_page.page()
    assert len(rows) > 50
    assert [row for row in rows if row.endswith("|  |")] == []
    # A default and a range as they stand in the code, so that the form can't drop them.
    assert "| `thread_count` | `2` | 1 to 64 | threads of each listener |" in rows
