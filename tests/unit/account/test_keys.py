"""Key versions: look-ups try all of them, new rows use one."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from lastunit.account.keys import VERSIONS_MAX, Key, KeyRing, UnknownKeyVersionError

FIRST = Key(1, bytes(range(32)))
SECOND = Key(2, bytes(range(1, 33)))


def test_look_ups_try_the_active_version_first() -> None:
    """What is stored is under the active version; what is looked for is under every one."""
    ring = KeyRing([FIRST, SECOND, Key(3, bytes(32))], active=2)

    assert ring.digest("email", "x").version == 2
    assert [each.version for each in ring.digests("email", "x")] == [2, 3, 1]
    assert len({each.digest for each in ring.digests("email", "x")}) == 3


def test_digests_are_those_of_databases_that_exist() -> None:
    """A database filled before keys had versions is still found."""
    expected = hmac.new(FIRST.secret, b"lastunit.account:email:a@b.de", hashlib.sha256).digest()

    assert FIRST.digest("email", "a@b.de") == expected


def test_labels_keep_digests_apart() -> None:
    """A phone number is never equal to an identity number of the same digits."""
    assert FIRST.digest("phone", "+4930123456") != FIRST.digest("identity", "+4930123456")


def test_a_stored_digest_is_known_under_any_version() -> None:
    """A digest made before a rotation still compares."""
    ring = KeyRing([FIRST, SECOND])

    assert ring.is_digest(FIRST.digest("code", "123456"), "code", "123456")
    assert ring.is_digest(SECOND.digest("code", "123456"), "code", "123456")
    assert not ring.is_digest(FIRST.digest("code", "123456"), "code", "123457")


def test_a_missing_version_is_named() -> None:
    """The error says that the newest key file is needed here."""
    with pytest.raises(UnknownKeyVersionError, match=r"no version 7.*newest key file"):
        KeyRing([FIRST]).key(7)


def test_a_key_is_never_shown() -> None:
    """A representation ends in logs, so it has no secret in it."""
    shown = repr(FIRST) + repr(KeyRing([FIRST]))

    assert FIRST.secret.hex() not in shown
    assert repr(FIRST.secret)[2:-1] not in shown


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    """A short key would be a weak one."""
    with pytest.raises(ValueError, match="32"):
        Key(1, bytes(size))


@pytest.mark.parametrize("version", [0, -1, 65_536])
def test_a_version_out_of_range_is_refused(version: int) -> None:
    """A sealed value has two bytes for it."""
    with pytest.raises(ValueError, match="65535"):
        Key(version, bytes(32))


def test_a_ring_has_one_to_sixteen_versions() -> None:
    """At the limit a ring is made, past it and without any key it is refused."""
    keys = [Key.made(version) for version in range(1, VERSIONS_MAX + 2)]

    assert KeyRing(keys[:VERSIONS_MAX]).active.version == VERSIONS_MAX
    for wrong in (keys, []):
        with pytest.raises(ValueError, match="1 to 16"):
            KeyRing(wrong)
    with pytest.raises(ValueError, match="same version"):
        KeyRing([FIRST, FIRST])
    with pytest.raises(ValueError, match="no key"):
        KeyRing([FIRST], active=2)
