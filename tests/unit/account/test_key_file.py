"""The key file: made once, for its owner only, and changed whole or not at all."""

from __future__ import annotations

import json
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from lastunit.account.key_file import KeyFile, KeyFileError, load_or_create_keys
from lastunit.account.keys import VERSIONS_MAX, UnknownKeyVersionError

if TYPE_CHECKING:
    from pathlib import Path

OLD = "ab" * 32


class Seconds:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Returns what was set."""
        return self.now


def test_a_missing_key_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """The new file has mode 0600, and the next start reads the same key."""
    path = tmp_path / "data" / "account.key"
    ring = load_or_create_keys(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [key.version for key in ring.keys] == [1]
    assert ring.active == load_or_create_keys(path).active
    assert [file.name for file in path.parent.iterdir()] == ["account.key"]


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    """Whoever comes second reads what the first one made."""
    path = tmp_path / "account.key"
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(load_or_create_keys(path).active.secret))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_file_from_before_versions_is_version_one(tmp_path: Path) -> None:
    """Its digits stay the secret, and a further version is written beside it."""
    path = tmp_path / "account.key"
    path.write_text(OLD + "\n")
    path.chmod(0o600)
    keys = KeyFile(path)
    before = keys.ring().active
    keys.add(1_000)

    assert (before.version, before.secret.hex()) == (1, OLD)
    assert [key["version"] for key in json.loads(path.read_text())["keys"]] == [1, 2]
    assert load_or_create_keys(path).active == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the file and what to run."""
    path = tmp_path / "account.key"
    load_or_create_keys(path)
    path.chmod(mode)

    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create_keys(path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", "zz" * 32, "00" * 33, "{", "{}", '{"active": 1, "keys": []}'),
        json.dumps({"active": 2, "keys": [{"version": 1, "secret": OLD, "create_time_ms": 0}]}),
        json.dumps({"active": 1, "keys": [{"version": 1, "secret": "ab", "create_time_ms": 0}]}),
        "{" + " " * 20_000 + "}",
    ],
)
def test_a_file_with_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """A damaged file is never used and never replaced, and the error shows no digit of it."""
    path = tmp_path / "account.key"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match="hexadecimal") as caught:
        load_or_create_keys(path)
    assert OLD[2:20] not in str(caught.value)
    assert path.read_text() == text


def test_a_new_version_is_for_reading_until_it_is_active(tmp_path: Path) -> None:
    """Adding changes no new row; activating does, and the old version still reads."""
    keys = KeyFile(tmp_path / "account.key")
    added = keys.add(5_000)
    between = keys.ring().active.version
    keys.activate(added.version)

    assert (added.version, added.create_ms, between) == (2, 5_000, 1)
    assert [key.version for key in keys.ring().keys] == [2, 1]


def test_another_process_sees_a_change_within_a_second(tmp_path: Path) -> None:
    """The file is looked at once a second, and at once for a version that is missing."""
    seconds = Seconds()
    path = tmp_path / "account.key"
    reader = KeyFile(path, monotonic_seconds=seconds)
    writer = KeyFile(path)
    writer.add(0)
    early = len(reader.ring().keys)
    seconds.now = 1.0
    late = len(reader.ring().keys)
    writer.add(0)

    assert (early, late) == (1, 2)
    assert 3 in reader.ring_with(3)
    with pytest.raises(UnknownKeyVersionError, match="no version 4"):
        reader.ring_with(4)


def test_a_file_that_goes_bad_leaves_the_old_keys_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A service that runs is not stopped by a bad copy of its keys; the log tells once."""
    seconds = Seconds()
    path = tmp_path / "account.key"
    keys = KeyFile(path, monotonic_seconds=seconds)
    before = keys.ring().active
    path.write_text("something else")
    for seconds.now in (1.0, 2.0, 3.0):
        assert keys.ring().active == before

    assert [record.getMessage() for record in caplog.records] == ["the old keys stay in use"]


def test_sixteen_versions_fit_and_not_one_more(tmp_path: Path) -> None:
    """At the limit a version is added, past it the error says what to remove."""
    keys = KeyFile(tmp_path / "account.key")
    for _ in range(VERSIONS_MAX - 1):
        keys.add(0)

    with pytest.raises(KeyFileError, match="16 versions"):
        keys.add(0)
    assert len(keys.ring().keys) == VERSIONS_MAX


def test_a_version_that_is_not_there_cannot_be_active(tmp_path: Path) -> None:
    """The error says what comes first."""
    with pytest.raises(KeyFileError, match="add one first"):
        KeyFile(tmp_path / "account.key").activate(2)
