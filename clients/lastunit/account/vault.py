"""Lends the keys inside a transaction, so that no row is written that another process cannot find.

Owns the facts of which key versions the database has rows under. Must not read a key file itself.
Next: `lastunit.account.key_file`, `lastunit.account.rotating`.

Whoever begins to write under a version says so first, in the same transaction. Everybody else sees
it under the writers' lock, before it looks anything up, and reads its key file again if it lacks
the version. So a process with an old key file stops instead of making a second account for
somebody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.keys import KeyRing, UnknownKeyVersionError
from lastunit.errors import UnavailableError

if TYPE_CHECKING:
    from lastunit.account.identifiers import Identifier
    from lastunit.account.keys import VersionDigest

__all__ = ["FixedKeys", "KeyMismatchError", "KeySource", "Vault", "digests_of"]

# Version 1 is told of as it was before keys had versions.
_FIRST: Final = "blind_index_check"
_LATER: Final = "key_check:"


class KeyMismatchError(Exception):
    """The database was filled under another key, so no identifier would be found in it."""


class KeySource(Protocol):
    """Is where keys come from; `KeyFile` is one."""

    def ring(self) -> KeyRing:
        """Returns the keys as they are known."""
        ...

    def ring_with(self, version: int) -> KeyRing:
        """Returns keys that include a version; raises UnknownKeyVersionError."""
        ...


class FixedKeys:
    """Keys that never change, for tests and simulations."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def ring(self) -> KeyRing:
        """Returns them."""
        return self._ring

    def ring_with(self, version: int) -> KeyRing:
        """Returns them; raises UnknownKeyVersionError."""
        self._ring.key(version)
        return self._ring


class Vault:
    """Lends keys that every process can read with.

    Args:
        source: Where they come from.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source

    def present(self) -> KeyRing:
        """Returns the keys without looking into the database: only for what is not stored."""
        return self._source.ring()

    def ring(self, connection: sa.Connection) -> KeyRing:
        """Returns the keys for a transaction; from now on there may be rows under the active one.

        Args:
            connection: Inside a transaction of the writer.

        Raises:
            KeyMismatchError: A version has another secret than the one that rows are under.
            UnavailableError: The key file lacks a version that rows are under.
        """
        checks = stored_checks(connection)
        ring = self._ring_with(checks)
        active = ring.active
        if active.version not in checks:
            connection.execute(
                sa.insert(_tables.facts),
                {"name": _name(active.version), "value": active.digest("check", "")},
            )
        return ring

    def _ring_with(self, checks: dict[int, bytes]) -> KeyRing:
        ring = self._source.ring()
        for version, check in checks.items():
            try:
                ring = ring if version in ring else self._source.ring_with(version)
            except UnknownKeyVersionError as error:
                raise UnavailableError(str(error), reason="KEY_MISSING") from error
            if ring.key(version).digest("check", "") != check:
                raise KeyMismatchError(
                    f"rows were written under another key of version {version}; "
                    "put the key file back that belongs to this database"
                )
        return ring


def stored_checks(connection: sa.Connection) -> dict[int, bytes]:
    """Returns what tells each version in use from another key."""
    table = _tables.facts
    rows = connection.execute(
        sa.select(table.c.name, table.c.value).where(
            (table.c.name == _FIRST) | table.c.name.startswith(_LATER, autoescape=True)
        )
    )
    return {_version(row.name): row.value for row in rows}


def digests_of(ring: KeyRing, identifier: Identifier) -> list[VersionDigest]:
    """Returns the digests to look an identifier up by: the blind index under every version."""
    return ring.digests(identifier.kind.value, identifier.normalized)


def _name(version: int) -> str:
    return _FIRST if version == 1 else f"{_LATER}{version}"


def _version(name: str) -> int:
    return 1 if name == _FIRST else int(name.removeprefix(_LATER))
