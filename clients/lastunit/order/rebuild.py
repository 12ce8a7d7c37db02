"""Makes the projections of the order database anew: `lastunit order rebuild`.

Owns the order of the work, the cursor with which it goes on after a stop, and what is done about
events that the ledger has removed. Sources are read and never written. Must not run beside a
service on the same database: `serve` refuses while a rebuild is under way, and this while it runs.
Next: `lastunit.order.schema` says what is a source and what a projection.

The fold is that of the service: the ledger's events in order, and between them the facts of this
service, each after the event that it came after then. So the rows are the same, numbers and all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.errors import EventsRemovedError
from lastunit.order import early, facts, schema, store, translation
from lastunit.order.moves import CauseKind, Entity
from lastunit.order.states import (
    FulfilmentState,
    IllegalTransitionError,
    OrderEvent,
    OrderState,
    next_state,
)
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastunit.order.follower import OrderFollower
    from lastunit.order.ports import LedgerPort
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import event_pb2

__all__ = ["Progress", "Rebuild", "RebuildUnderWayError", "Rebuilt", "check_not_under_way"]

# Its position is the oldest event that the ledger had when the rebuild began.
_UNDER_WAY: Final = "rebuild"

# Set if the service had not seen all events that are removed now.
_HAS_GAP: Final = "rebuild_gap"

_log: Final = logging.getLogger(__name__)

_EVENTS_PER_PAGE: Final = 2_048
_ORDERS_AT_ONCE: Final = 500
_COMPARED_AT_ONCE: Final = 64


class RebuildUnderWayError(RuntimeError):
    """The projections are half made; only `lastunit order rebuild` may go on."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Says how far a rebuild is.

    Attributes:
        sequence: The last event that was taken in.
        last_sequence: The last event that the ledger has now.
        events_per_second: Since this run began.
    """

    sequence: int
    last_sequence: int
    events_per_second: float


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Is what a rebuild came to.

    Attributes:
        order_count: Orders in the database.
        transition_count: Moves of all of them.
        sequence: The last event of the ledger that they show.
        compared: Orders whose events the ledger has removed before they were seen, or whose
            projection was gone, or in which an event made no sense: they have the state that the
            ledger shows, and one row COMPARED for moves that are not told.
        unknown: Of these, orders of which the ledger knows nothing any more.
    """

    order_count: int
    transition_count: int
    sequence: int
    compared: Sequence[str]
    unknown: Sequence[str]


def check_not_under_way(database: Database) -> None:
    """Refuses to work on projections that are half made.

    Raises:
        RebuildUnderWayError: A rebuild was begun and not ended.
    """
    with database.read() as connection:
        if store.load_cursor(connection, _UNDER_WAY):
            raise RebuildUnderWayError(
                "a rebuild of the order database was begun and not ended; run"
                " `lastunit order rebuild` until it says that it is done"
            )


class Rebuild:
    """Makes projections anew, once, and goes on where an earlier run stopped.

    Args:
        database: The order service's tables, for reading.
        runner: Writes them.
        ledger: Its events, and its word on one reservation.
        follower: Applies events; made on the same database, and used for nothing else.
        on_progress: Told after each page.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        ledger: LedgerPort,
        follower: OrderFollower,
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        self._database = database
        self._runner = runner
        self._ledger = ledger
        self._follower = follower
        self._on_progress = on_progress

    async def run(self) -> Rebuilt:
        """Rebuilds everything.

        Raises:
            LastunitError: The ledger did not answer; run it again, it goes on from there.
        """
        with self._database.read() as connection:
            floor = store.load_cursor(connection, _UNDER_WAY)
        if not floor:
            floor = await self._first_sequence()
            await self._run(lambda connection: _begin(connection, floor))
        compared, unknown = await self._compare(self._untold(floor), is_equal_left=True)
        illegal = await self._replay() | await self._apply_late_facts()
        odd, lost = await self._compare(sorted(illegal - compared - unknown))
        rebuilt: Rebuilt = await self._run(
            lambda connection: _end(connection, compared | odd, unknown | lost)
        )
        return rebuilt

    async def _run(self, work: Callable[[sa.Connection], Any]) -> Any:
        return await self._runner.run(work, lane=Lane.SETTLEMENT)

    async def _first_sequence(self) -> int:
        try:
            await self._ledger.read_event_page(0, page_size=1)
        except EventsRemovedError as error:
            return error.first_sequence
        return 1

    async def _replay(self) -> set[str]:
        """Takes in every event, page by page; returns orders in which one had no place."""
        with self._database.read() as connection:
            position = store.load_position(connection)
        illegal: set[str] = set()
        begin, began_at = position, time.monotonic()
        while True:
            page = await self._ledger.read_event_page(position, page_size=_EVENTS_PER_PAGE)
            if not page.events:
                return illegal
            moving = [event for event in page.events if translation.moves_an_order(event)]
            position = page.events[-1].sequence
            illegal |= await self._write(moving, position)
            seconds = max(time.monotonic() - began_at, 1e-9)
            self._on_progress(
                Progress(position, page.durable_sequence, (position - begin) / seconds)
            )

    async def _write(self, events: Sequence[event_pb2.Event], position: int) -> set[str]:
        def work(connection: sa.Connection) -> set[str]:
            illegal = set()
            for event in events:
                order_id = event.reservation_id
                is_legal = _apply_facts(connection, order_id, before_sequence=event.sequence)
                if not self._follower.apply(connection, event) or not is_legal:
                    illegal.add(order_id)
            store.save_position(connection, position)
            return illegal

        written: set[str] = await self._run(work)
        return written

    async def _apply_late_facts(self) -> set[str]:
        """Applies the facts that came after the last event of their order; as `_replay`."""
        table, standing = schema.order_facts, schema.order_states
        behind = (
            sa.select(standing.c.order_id)
            .join(table, table.c.order_id == standing.c.order_id)
            .where(table.c.number > standing.c.fact_count)
            .distinct()
            .limit(_ORDERS_AT_ONCE)
        )

        illegal: set[str] = set()

        def work(connection: sa.Connection) -> int:
            order_ids = connection.execute(behind).scalars().all()
            illegal.update(each for each in order_ids if not _apply_facts(connection, each))
            return len(order_ids)

        while await self._run(work):
            pass
        return illegal

    def _untold(self, floor: int) -> Sequence[str]:
        """Returns orders from before the oldest event whose moves may not all be there.

        These are the ones that have nothing but their first move; all, if the service had fallen
        so far behind that it never saw events which are removed now.
        """
        table, standing = schema.orders, schema.order_states
        query = (
            sa.select(table.c.order_id)
            .join(standing, standing.c.order_id == table.c.order_id)
            .where(table.c.create_sequence < floor, standing.c.ledger_sequence < floor)
            .order_by(table.c.order_id)
        )
        only_first = standing.c.ledger_sequence == table.c.create_sequence
        with self._database.read() as connection:
            has_gap = store.load_cursor(connection, _HAS_GAP)
            return connection.execute(query if has_gap else query.where(only_first)).scalars().all()

    async def _compare(
        self, order_ids: Sequence[str], *, is_equal_left: bool = False
    ) -> tuple[set[str], set[str]]:
        """Asks the ledger for what its events do not tell; returns whom it knew and whom not."""

        async def ask(order_id: str) -> bool:
            return await self._follower.compare(order_id, is_equal_left=is_equal_left)

        known: set[str] = set()
        for start in range(0, len(order_ids), _COMPARED_AT_ONCE):
            some = order_ids[start : start + _COMPARED_AT_ONCE]
            answers = await asyncio.gather(*map(ask, some))
            known |= {
                order_id for order_id, is_known in zip(some, answers, strict=True) if is_known
            }
        return known, {*order_ids} - known


def _begin(connection: sa.Connection, floor: int) -> None:
    """Deletes what can be made again, and seeds every order as it was when it was placed."""
    old = sa.select(schema.orders.c.order_id).where(schema.orders.c.create_sequence < floor)
    for table in schema.PROJECTIONS:
        # What began before the oldest event is kept: nothing could make its first moves again.
        connection.execute(sa.delete(table).where(table.c.order_id.not_in(old)))
    connection.execute(sa.delete(schema.early_events))
    _seed_orders(connection)
    if store.load_position(connection) < floor - 1:
        _set_cursor(connection, _HAS_GAP, 1)
    _forget_cursor(connection, early.FLOOR)
    _set_cursor(connection, store.JOURNAL, floor - 1)
    _set_cursor(connection, _UNDER_WAY, floor)


def _apply_facts(
    connection: sa.Connection, order_id: str, *, before_sequence: int | None = None
) -> bool:
    """Applies what an order does not show yet; returns False if something had no place."""
    order = store.load_order(connection, order_id)
    if order is None:
        return True
    is_legal = True
    for row in facts.load_unapplied(connection, order, before_sequence=before_sequence):
        try:
            facts.apply_stored(connection, order_id, row)
        except IllegalTransitionError as error:
            is_legal = False
            _log.error("a fact has no place", extra={"order_id": order_id, "why": str(error)})
            facts.pass_over(connection, order_id, row)
    return is_legal


def _end(connection: sa.Connection, compared: set[str], unknown: set[str]) -> Rebuilt:
    _forget_cursor(connection, _UNDER_WAY)
    _forget_cursor(connection, _HAS_GAP)
    counts = [
        int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        for table in (schema.orders, schema.order_transitions)
    ]
    return Rebuilt(
        order_count=counts[0],
        transition_count=counts[1],
        sequence=store.load_position(connection),
        compared=sorted(compared),
        unknown=sorted(unknown),
    )


def _set_cursor(connection: sa.Connection, name: str, position: int) -> None:
    """Sets a position, also back."""
    _forget_cursor(connection, name)
    connection.execute(sa.insert(schema.cursors), {"name": name, "position": position})


def _forget_cursor(connection: sa.Connection, name: str) -> None:
    """Forgets a position."""
    connection.execute(sa.delete(schema.cursors).where(schema.cursors.c.name == name))


def _seed_orders(connection: sa.Connection) -> None:
    """Sets every order without a projection to where it stood when it was placed."""
    table, standing, steps = schema.orders, schema.order_states, schema.order_transitions
    first = next_state(OrderState.CREATED, OrderEvent.RESERVED)
    is_missing = ~sa.exists().where(standing.c.order_id == table.c.order_id)
    step = {
        "order_id": table.c.order_id,
        "number": sa.literal(1),
        "entity": sa.literal(Entity.ORDER.value),
        "event": sa.literal(OrderEvent.RESERVED.value),
        "state_from": sa.literal(OrderState.CREATED.value),
        "state_to": sa.literal(first.value),
        "cause_kind": sa.literal(CauseKind.CALL.value),
        "cause": table.c.request_id,
        "actor": table.c.account_id,
        "reason": sa.literal(""),
        "ledger_sequence": table.c.create_sequence,
        "time_ms": table.c.create_ms,
    }
    row = {
        "order_id": table.c.order_id,
        "state": sa.literal(first.value),
        "close_reason": sa.literal(""),
        "is_overdue": sa.false(),
        "is_cancel_asked": sa.false(),
        "is_retaken": sa.false(),
        "expire_ms": table.c.hold_expire_ms,
        "fulfilment_state": sa.literal(FulfilmentState.UNSHIPPED.value),
        "ledger_sequence": table.c.create_sequence,
        "transition_count": sa.literal(1),
        "fact_count": sa.literal(0),
    }
    # Some tables may have been deleted by hand and others not.
    for gone in (steps, schema.attempt_states):
        ours = sa.select(table.c.order_id).where(is_missing)
        connection.execute(sa.delete(gone).where(gone.c.order_id.in_(ours)))
    for target, values in ((steps, step), (standing, row)):
        chosen = sa.select(*values.values()).where(is_missing)
        connection.execute(sa.insert(target).from_select([*values], chosen))
