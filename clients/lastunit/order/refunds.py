"""Reads and writes what still has to be done after a sale, inside a transaction of the caller.

Owns the SQL of refunds and returns: rows that are written in the transaction of the fact that
causes them, and left only by an answer. Must not call anybody.
Next: `lastunit.order.after_sale` makes the calls.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.order import schema
from lastunit.order.shares import ReturnedUnits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "RefundState",
    "ReturnState",
    "add_refund",
    "add_return",
    "due_refunds",
    "due_returns",
    "load_refund",
    "load_refunds",
    "load_returns",
    "returned_units",
    "shares_of",
    "update_refund",
    "update_return",
]


class RefundState(StrEnum):
    """How far money is on its way back."""

    ASKED = "ASKED"
    """The payment service is asked until it says that the money is back."""
    GIVING_BACK = "GIVING_BACK"
    """The money is back; units that never left go back once all of the order's money is."""
    DONE = "DONE"


class ReturnState(StrEnum):
    """How far the ledger knows of goods that came back."""

    ASKED = "ASKED"
    DONE = "DONE"
    REFUSED = "REFUSED"
    """The ledger has no such units out; somebody has to look."""


def _of_order(table: sa.Table, *keys: str) -> sa.Select[Any]:
    query = sa.select(table).where(table.c.order_id == sa.bindparam("wanted"))
    return query.order_by(*(table.c[key] for key in keys))


def _due(table: sa.Table, key: str) -> sa.Select[Any]:
    return (
        sa.select(table)
        .where(table.c.next_try_ms <= sa.bindparam("now_ms"))
        .order_by(table.c.next_try_ms, table.c[key])
        .limit(sa.bindparam("limit"))
    )


# Statements of every step are built once: building one costs more than running it.
_LOAD_REFUNDS: Final = _of_order(schema.order_refunds, "number")
_LOAD_RETURNS: Final = _of_order(schema.order_returns, "create_ms", "return_id")
_DUE_REFUNDS: Final = _due(schema.order_refunds, "refund_id")
_DUE_RETURNS: Final = _due(schema.order_returns, "return_id")


def add_refund(connection: sa.Connection, values: Mapping[str, Any], shares: Sequence[int]) -> None:
    """Writes down that money is to go back; it is due at once.

    Args:
        connection: Inside the transaction of the fact.
        values: The columns, but for the shares and the state.
        shares: Each part's, which sum to the amount.
    """
    connection.execute(
        sa.insert(schema.order_refunds),
        {
            **values,
            "shares": json.dumps(shares, separators=(",", ":")),
            "state": RefundState.ASKED.value,
            "next_try_ms": values["create_ms"],
        },
    )


def add_return(connection: sa.Connection, values: Mapping[str, Any]) -> None:
    """Writes down that units came back; the ledger is told at once."""
    connection.execute(
        sa.insert(schema.order_returns),
        {**values, "state": ReturnState.ASKED.value, "next_try_ms": values["create_ms"]},
    )


def load_refunds(connection: sa.Connection, order_id: str) -> Sequence[sa.Row[Any]]:
    """Returns the refunds of an order, oldest first."""
    return connection.execute(_LOAD_REFUNDS, {"wanted": order_id}).all()


def load_refund(connection: sa.Connection, refund_id: str) -> sa.Row[Any]:
    """Returns one refund, which must exist."""
    table = schema.order_refunds
    return connection.execute(sa.select(table).where(table.c.refund_id == refund_id)).one()


def load_returns(connection: sa.Connection, order_id: str) -> Sequence[sa.Row[Any]]:
    """Returns what came back of an order, oldest first."""
    return connection.execute(_LOAD_RETURNS, {"wanted": order_id}).all()


def due_refunds(connection: sa.Connection, now_ms: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Returns refunds to carry on with now, those that wait longest first."""
    return connection.execute(_DUE_REFUNDS, {"now_ms": now_ms, "limit": limit}).all()


def due_returns(connection: sa.Connection, now_ms: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Returns returns to tell the ledger now, those that wait longest first."""
    return connection.execute(_DUE_RETURNS, {"now_ms": now_ms, "limit": limit}).all()


def update_refund(connection: sa.Connection, refund_id: str, values: Mapping[str, Any]) -> None:
    """Writes down how a try went."""
    table = schema.order_refunds
    connection.execute(sa.update(table).where(table.c.refund_id == refund_id).values(**values))


def update_return(connection: sa.Connection, return_id: str, values: Mapping[str, Any]) -> None:
    """Writes down how a try went."""
    table = schema.order_returns
    connection.execute(sa.update(table).where(table.c.return_id == return_id).values(**values))


def shares_of(rows: Iterable[sa.Row[Any]]) -> list[list[int]]:
    """Returns the shares of refunds, one list for each."""
    return [json.loads(row.shares) for row in rows]


def returned_units(rows: Iterable[sa.Row[Any]]) -> list[ReturnedUnits]:
    """Returns the units of returns that the ledger did not refuse."""
    counted = (row for row in rows if row.state != ReturnState.REFUSED)
    return [ReturnedUnits(row.sku, row.pool, row.units) for row in counted]
