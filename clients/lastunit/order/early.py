"""Keeps the events of orders that are not written yet, inside a transaction of the caller.

Owns the SQL of early events, and up to where they were forgotten. An order is written seconds after
its units were held; what the ledger says of it meanwhile, or after a call that died, waits here for
whichever process writes it. Must not call anybody. Next: `lastunit.order.follower`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.order import schema, store
from lastunit.service import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FLOOR", "forget", "keep", "take"]

FLOOR: Final = "early_floor"
"""Under which name it is kept up to which event early ones were forgotten."""

_LOAD_EARLY: Final = (
    sa.select(schema.early_events.c.body)
    .where(schema.early_events.c.order_id == sa.bindparam("wanted"))
    .order_by(schema.early_events.c.sequence)
)


def keep(connection: sa.Connection, *, order_id: str, sequence: int, body: bytes) -> None:
    """Keeps an event that came before its order was written down; a repeat changes nothing.

    Args:
        connection: Inside the transaction that saves the position behind it.
        order_id: The order that may yet be written.
        sequence: The event's position.
        body: The event as its message's bytes.
    """
    values = {"order_id": order_id, "sequence": sequence, "body": body}
    sql.insert_new(connection, schema.early_events, values)


def forget(connection: sa.Connection, up_to_sequence: int) -> None:
    """Forgets events of reservations that nobody has written an order for since.

    Args:
        connection: Inside a transaction.
        up_to_sequence: The last one to forget; orders from before it are compared instead.
    """
    table = schema.early_events
    gone = connection.execute(sa.delete(table).where(table.c.sequence <= up_to_sequence))
    if gone.rowcount:
        store.raise_cursor(connection, FLOOR, up_to_sequence)


def take(
    connection: sa.Connection, order_id: str, create_sequence: int
) -> tuple[Sequence[bytes], bool]:
    """Returns the events that came before an order's row, and forgets them.

    Args:
        connection: Inside the transaction that writes the row and applies them.
        order_id: The order.
        create_sequence: Position of its reservation in the ledger.

    Returns:
        The events in order, and whether some may have been forgotten before.
    """
    bodies = connection.execute(_LOAD_EARLY, {"wanted": order_id}).scalars().all()
    if bodies:
        table = schema.early_events
        connection.execute(sa.delete(table).where(table.c.order_id == order_id))
    return bodies, create_sequence <= store.load_cursor(connection, FLOOR)
