"""How far a reader of the inbox or of the ledger's journal has come.

Owns the rows; a position is saved in the transaction of the effects it stands for. Must not know
what was read. Next: `lastunit.payment.inbox`, `lastunit.payment.follower`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.payment import schema
from lastunit.service import sql

if TYPE_CHECKING:
    from lastunit.service.database import Database

__all__ = ["load", "read", "save"]

_LOAD: Final = sa.select(schema.cursors.c.position).where(
    schema.cursors.c.name == sa.bindparam("wanted")
)


def load(connection: sa.Connection, name: str) -> int:
    """Returns a position, 0 before the first save."""
    position = connection.execute(_LOAD, {"wanted": name}).scalar_one_or_none()
    return 0 if position is None else int(position)


def read(database: Database, name: str) -> int:
    """Returns a position as it is on disk, 0 before the first save."""
    with database.read() as connection:
        return load(connection, name)


def save(connection: sa.Connection, name: str, position: int) -> None:
    """Saves a position; it never goes back.

    Args:
        connection: Inside the transaction of the effects.
        name: Which reader.
        position: 0 or more.
    """
    cursors = schema.cursors
    statement = sql.insert(connection, cursors).values(name=name, position=position)
    further = sql.greatest(cursors.c.position, statement.excluded.position)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[cursors.c.name], set_={"position": further})
    )
