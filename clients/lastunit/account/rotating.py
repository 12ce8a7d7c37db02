"""Brings rows under the active key, in portions, while the service serves.

Owns the moving of digests and ciphertexts from key to key. Must not change a key file.
Next: `lastunit.account.keys_cli`; docs/operating/accounts-privacy.md.

Fingerprints of real names stay where they are: the numbers are not kept, so nobody can compute
others. They are looked up under every version, and an old key is kept for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables, access
from lastunit.account.sealing import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastunit.account.vault import Vault
    from lastunit.service.database import Database

__all__ = ["Usage", "move_some", "usage"]

ROWS_PER_PORTION: Final = 500
"""Takes about 0.1 s, in which others wait for the writers' lock."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts what is under each version of the keys.

    Attributes:
        identifiers: Version to count of identifiers, those that lead nowhere any more included.
        real_names: Version to count of fingerprints.
        unsealed: Identifiers from before they were kept, that only their next login can move.
    """

    identifiers: Mapping[int, int]
    real_names: Mapping[int, int]
    unsealed: int


def usage(connection: sa.Connection) -> Usage:
    """Counts rows; reads every one, so not for each second."""
    identifiers, real_names = _tables.identifiers, _tables.real_names
    unsealed = connection.scalar(
        sa.select(sa.func.count())
        .select_from(identifiers)
        .where(identifiers.c.ciphertext.is_(None))
    )
    return Usage(_counted(connection, identifiers), _counted(connection, real_names), unsealed or 0)


def move_some(database: Database, vault: Vault, now_ms: int) -> int:
    """Moves up to 500 identifiers to the active key; returns how many, 0 once all are there.

    Args:
        database: Opened with `_tables.metadata`.
        vault: Lends the keys.
        now_ms: Milliseconds since the epoch.

    Raises:
        SealError: A row is damaged; what was moved before stays moved.
    """
    return database.writer.submit(lambda connection: _move(connection, vault, now_ms)).result()


def _move(connection: sa.Connection, vault: Vault, now_ms: int) -> int:
    table = _tables.identifiers
    ring = vault.ring(connection)
    active = ring.active
    rows = connection.execute(
        sa.select(table.c.identifier_id, table.c.kind, table.c.ciphertext)
        .where(table.c.key_version != active.version, table.c.ciphertext.is_not(None))
        .order_by(table.c.identifier_id)
        .limit(ROWS_PER_PORTION)
    ).all()
    if not rows:
        return 0
    changes = []
    for row in rows:
        text = unseal(ring, row.ciphertext, bound_to=row.identifier_id)
        changes.append(
            {
                "row_id": row.identifier_id,
                "new_digest": active.digest(row.kind, text),
                "new_ciphertext": seal(ring, text, bound_to=row.identifier_id),
            }
        )
    connection.execute(
        sa.update(table)
        .where(table.c.identifier_id == sa.bindparam("row_id"))
        .values(
            digest=sa.bindparam("new_digest"),
            ciphertext=sa.bindparam("new_ciphertext"),
            key_version=active.version,
        ),
        changes,
    )
    reader = access.Reader("keys", "rotation", now_ms)
    access.note(connection, reader, subject="identifiers", field=f"{len(rows)} rows")
    return len(rows)


def _counted(connection: sa.Connection, table: sa.Table) -> dict[int, int]:
    rows = connection.execute(
        sa.select(table.c.key_version, sa.func.count()).group_by(table.c.key_version)
    )
    return {row[0]: row[1] for row in rows}
