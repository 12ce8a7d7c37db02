"""Sealed values: they open for their own row only, under any key that is still there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lastunit.account import sealing
from lastunit.account.keys import Key, KeyRing, UnknownKeyVersionError
from lastunit.account.sealing import SealError, seal, sealed_version, unseal

FIRST = Key(1, bytes(range(32)))
SECOND = Key(2, bytes(range(1, 33)))
TEXT = "anna.müller@example.org"


def test_a_sealed_value_opens_and_shows_nothing() -> None:
    """What is stored holds no part of the text, and twice the same text looks different."""
    ring = KeyRing([FIRST])
    sealed = seal(ring, TEXT, bound_to="i-1")

    assert unseal(ring, sealed, bound_to="i-1") == TEXT
    assert b"anna" not in sealed
    assert sealed != seal(ring, TEXT, bound_to="i-1")


def test_a_value_that_was_moved_to_another_row_does_not_open() -> None:
    """Who can write the database still cannot let a notice go to somebody else."""
    ring = KeyRing([FIRST])

    with pytest.raises(SealError, match="i-2"):
        unseal(ring, seal(ring, TEXT, bound_to="i-1"), bound_to="i-2")


def test_every_byte_is_protected() -> None:
    """Whichever byte changes, the value does not open, and the error does not show it."""
    ring = KeyRing([FIRST])
    sealed = seal(ring, TEXT, bound_to="i-1")
    for position in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises((SealError, UnknownKeyVersionError)) as caught:
            unseal(ring, bytes(damaged), bound_to="i-1")

        assert "anna" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 3, 14, 15, 16, 30])
def test_a_torn_value_is_told(length: int) -> None:
    """Half a value is an error that says so."""
    ring = KeyRing([FIRST])

    with pytest.raises(SealError):
        unseal(ring, seal(ring, TEXT, bound_to="i-1")[:length], bound_to="i-1")


def test_values_under_an_old_key_open_after_a_rotation() -> None:
    """New ones are sealed under the active key, and each says which it needs."""
    before = seal(KeyRing([FIRST]), TEXT, bound_to="i-1")
    ring = KeyRing([FIRST, SECOND])
    after = seal(ring, TEXT, bound_to="i-1")

    assert (sealed_version(before), sealed_version(after)) == (1, 2)
    assert unseal(ring, before, bound_to="i-1") == unseal(ring, after, bound_to="i-1")
    with pytest.raises(UnknownKeyVersionError):
        unseal(KeyRing([FIRST]), after, bound_to="i-1")


def test_another_secret_of_the_same_version_does_not_open() -> None:
    """The key file of another database is told from the right one."""
    with pytest.raises(SealError, match="key file"):
        unseal(
            KeyRing([Key(1, bytes(32))]),
            seal(KeyRing([FIRST]), TEXT, bound_to="i-1"),
            bound_to="i-1",
        )


def test_nobody_opens_a_value_past_the_access_log() -> None:
    """Of those who may decrypt, only `access` and `rotating` call it, and both note who read."""
    folder = Path(sealing.__file__).parent
    opening = sorted(
        path.name
        for path in folder.rglob("*.py")
        if re.search(r"\bunseal\b|\.decrypt\(", path.read_text(encoding="utf-8"))
    )

    assert opening == ["access.py", "keys.py", "rotating.py", "sealing.py"]
