"""The key file: made once, for its owner only."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from lastunit.account.keys import KeyFileError, load_or_create_key

if TYPE_CHECKING:
    from pathlib import Path


def test_a_missing_key_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """The new file has mode 0600, and the next start reads the same key."""
    path = tmp_path / "data" / "account.key"
    key = load_or_create_key(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(key) == 32
    assert key == load_or_create_key(path)
    assert [file.name for file in path.parent.iterdir()] == ["account.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the file and what to run."""
    path = tmp_path / "account.key"
    load_or_create_key(path)
    path.chmod(mode)

    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create_key(path)


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "00" * 33])
def test_a_file_with_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """A damaged key is never used and never replaced."""
    path = tmp_path / "account.key"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(KeyFileError, match="hexadecimal"):
        load_or_create_key(path)
    assert path.read_text() == text
