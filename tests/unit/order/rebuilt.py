"""Compares every row of an order database before and after a rebuild.

Owns: what is compared. A history in which an event made no sense was compared with the ledger then;
a rebuild tells the single steps instead, so there only the end is held against the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.order import schema, store
from lastunit.order.follower import OrderFollower
from lastunit.order.rebuild import Rebuild, Rebuilt
from lastunit.service.clock import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.order.ports import LedgerPort
    from lastunit.service.database import Database, TransactionRunner

Rows = dict[str, list[dict[str, Any]]]

# What an order that was compared has only once.
_TOLD_DIFFERENTLY = ("transition_count", "ledger_sequence")


def read_rows(database: Database) -> Rows:
    """Returns every row of every table but the cursors and what is measured."""
    rows: Rows = {}
    with database.read() as connection:
        for table in schema.ORDER_METADATA.sorted_tables:
            if table in (schema.cursors, schema.pressures):
                continue
            query = sa.select(table).order_by(*table.primary_key.columns)
            rows[table.name] = [row._asdict() for row in connection.execute(query)]
    return rows


def delete_projections(database: Database, tables: Sequence[sa.Table] = schema.PROJECTIONS) -> None:
    """Deletes tables as an operator would by hand."""
    with database.engine.begin() as connection:
        for table in tables:
            connection.execute(sa.delete(table))


async def rebuild(
    database: Database, ledger: LedgerPort, runner: TransactionRunner | None = None
) -> Rebuilt:
    """Rebuilds a database."""
    runner = runner or database
    follower = OrderFollower(
        database=database, runner=runner, ledger=ledger, clock=SimulatedClock(1)
    )
    return await Rebuild(database=database, runner=runner, ledger=ledger, follower=follower).run()


async def check_rebuild(database: Database, ledger: LedgerPort, *, is_shared: bool = False) -> None:
    """Deletes the projections, rebuilds them and compares every row.

    Args:
        database: As a test has left it, with every event taken in.
        ledger: Where its events come from.
        is_shared: True if others have orders in the same ledger, whose events then wait for rows.
    """
    before = read_rows(database)
    delete_projections(database)
    await rebuild(database, ledger)
    after = read_rows(database)
    compared = {
        row["order_id"] for row in before["order_transitions"] if row["event"] == store.COMPARED
    }
    for name, rows in before.items():
        if name == "early_events" and is_shared:
            continue
        if name == "order_states":
            _forget_differences(rows, compared)
            _forget_differences(after[name], compared)
        left = compared if name == "order_transitions" else set[str]()
        expected = [row for row in rows if row.get("order_id") not in left]
        actual = [row for row in after[name] if row.get("order_id") not in left]
        assert expected == actual, f"{name} is not as it was"


def _forget_differences(rows: Sequence[dict[str, Any]], compared: set[str]) -> None:
    for row in rows:
        if row["order_id"] in compared:
            for column in _TOLD_DIFFERENTLY:
                del row[column]
