"""Lets orders follow the ledger's events.

Owns the position in the journal, saved with the effects, and the comparison with the ledger where
an event makes no sense. Must not decide: the ledger has, and the table says what that means here.
Next: `lastunit.order.translation` (events into moves), `lastunit.order.store`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from lastunit.errors import RolledBackError
from lastunit.order import early, store, translation
from lastunit.order.pressure import PayTimes
from lastunit.order.states import IllegalTransitionError, OrderState, is_reachable
from lastunit.service.database import Lane
from lastunit.stock.v1 import event_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import sqlalchemy as sa

    from lastunit.order.ports import LedgerPort
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import reservation_pb2

__all__ = ["OrderFollower"]

# Events that move no order need no transaction; the position is saved once in so many, so that a
# restart does not read the whole sale again.
_UNSAVED_EVENTS_MAX: Final = 4_096

# Events of reservations that have no order are kept for so long: an order is written seconds after
# its units were held, unless the call died and is never repeated.
_EARLY_EVENTS_BEHIND_MAX: Final = 1_000_000

# Orders compared with the ledger at once.
_COMPARED_AT_ONCE_MAX: Final = 64

_log: Final = logging.getLogger(__name__)


class OrderFollower:
    """Moves orders as the ledger's events say.

    Args:
        database: The order service's tables, for reading.
        runner: Writes them.
        ledger: Its events, and its word on one reservation.
        clock: Tells the time of a comparison.
        on_moved: Told of orders that may have moved, once that is durable.

    Attributes:
        illegal_count: Events that had no place in an order's state; each led to a comparison.
        divergent_count: Comparisons in which the table knows no way to what the ledger says.
        pays: How long payments of these orders take.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        ledger: LedgerPort,
        clock: Clock,
        on_moved: Callable[[Iterable[str]], None] | None = None,
    ) -> None:
        self._runner = runner
        self._ledger = ledger
        self._clock = clock
        self._on_moved = on_moved or (lambda _order_ids: None)
        with database.read() as connection:
            self._saved = store.load_position(connection)
        self._position = self._saved
        # One page at a time: whoever waits for an event may ask for it beside the loop.
        self._taking = asyncio.Lock()
        self._rolled_back: RolledBackError | None = None
        self.illegal_count = 0
        self.divergent_count = 0
        self.pays = PayTimes()

    def check_not_rolled_back(self) -> None:
        """Refuses to go on once the ledger was seen to have lost what it told us.

        Raises:
            RolledBackError: The error with which that was noticed.
        """
        if self._rolled_back is not None:
            raise self._rolled_back

    def note_rolled_back(self, error: RolledBackError) -> None:
        """Remembers that the ledger has lost events, until it has told us new ones."""
        self._rolled_back = error

    @property
    def position(self) -> int:
        """Sequence of the last event whose effects are durable here."""
        return self._position

    async def follow_once(self, limit: int = 1_024) -> int:
        """Takes in the next events.

        Args:
            limit: At most so many, 1 to 4,096.

        Returns:
            How many there were; 0 means up to date.

        Raises:
            RolledBackError: The ledger's journal ends before what it once told us.
            LastunitError: The ledger did not answer.
        """
        page = await self._ledger.read_event_page(self._position, page_size=limit)
        if page.durable_sequence < self._position:
            error = RolledBackError(
                f"the ledger's journal ends at {page.durable_sequence}, it had told us "
                f"{self._position}; do not sell before its data is restored",
                seen_sequence=self._position,
                reason="JOURNAL_ROLLED_BACK",
            )
            self.note_rolled_back(error)
            raise error
        return await self.take(page.events)

    async def reach(self, sequence: int) -> None:
        """Takes in events until one is reached, or until there are no more.

        Args:
            sequence: The event, 0 or more.

        Raises:
            RolledBackError: The ledger's journal ends before what it once told us.
            LastunitError: The ledger did not answer.
        """
        while self._position < sequence and await self.follow_once():
            pass

    async def take(self, events: Sequence[event_pb2.Event]) -> int:
        """Takes in events that follow the last one; returns how many were new."""
        async with self._taking:
            new = [event for event in events if event.sequence > self._position]
            if not new:
                return 0
            self._rolled_back = None
            last = new[-1].sequence
            moving = [event for event in new if translation.moves_an_order(event)]
            illegal: Sequence[str] = ()
            if moving or last - self._saved >= _UNSAVED_EVENTS_MAX:
                illegal = await self._write(moving, last)
            self._position = last
        for event in moving:
            self.pays.note(event)
        if illegal:
            self.illegal_count += len(illegal)
            await self._compare_all(sorted(set(illegal)))
        self._on_moved({event.reservation_id for event in moving})
        return len(new)

    def catch_up(self, connection: sa.Connection, order_id: str, create_sequence: int) -> bool:
        """Applies what came before an order was written down, in the transaction that writes it.

        Args:
            connection: Inside that transaction.
            order_id: The order.
            create_sequence: Position of its reservation in the ledger.

        Returns:
            True if the order must be compared: something makes no sense or was forgotten.
        """
        bodies, is_doubtful = early.take(connection, order_id, create_sequence)
        for body in bodies:
            is_doubtful |= not self.apply(connection, event_pb2.Event.FromString(body))
        return is_doubtful

    async def compare(self, order_id: str, *, is_equal_left: bool = False) -> bool:
        """Sets an order to what the ledger says of its reservation, as far as the table allows.

        Args:
            order_id: The order; its reservation has the same id.
            is_equal_left: True writes nothing where the two agree already.

        Returns:
            False if the ledger knows nothing of it.
        """
        reply = await self._ledger.get_reservation(order_id)
        if not reply.is_ok:
            _log.error(
                "the ledger does not know an order's reservation",
                extra={"order_id": order_id, "outcome": reply.outcome.name},
            )
            return False
        reservation, sequence = reply.response.reservation, reply.as_of_sequence

        def work(connection: sa.Connection) -> None:
            order = store.load_order(connection, order_id)
            if order is None or sequence <= order.ledger_sequence:
                return
            state, values = translation.snapshot(reservation, OrderState(order.state))
            shown = order._asdict()
            is_equal = {**shown, **values, "state": state} == shown
            if not (is_equal and is_equal_left):
                self._set(connection, order, reservation, sequence)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        self._on_moved((order_id,))
        return True

    async def _write(self, events: Sequence[event_pb2.Event], last: int) -> Sequence[str]:
        """Applies events and saves the position; returns whose events had no place."""

        def work(connection: sa.Connection) -> Sequence[str]:
            # Another process may have been here; its effects are in the database already.
            seen = store.load_position(connection)
            illegal = [
                event.reservation_id
                for event in events
                if event.sequence > seen and not self.apply(connection, event)
            ]
            if last - self._saved >= _UNSAVED_EVENTS_MAX:
                early.forget(connection, last - _EARLY_EVENTS_BEHIND_MAX)
            store.save_position(connection, last)
            return illegal

        illegal = await self._runner.run(work, lane=Lane.SETTLEMENT)
        self._saved = last
        return illegal

    async def _compare_all(self, order_ids: Sequence[str]) -> None:
        for start in range(0, len(order_ids), _COMPARED_AT_ONCE_MAX):
            batch = order_ids[start : start + _COMPARED_AT_ONCE_MAX]
            await asyncio.gather(*(self.compare(order_id) for order_id in batch))

    def _set(
        self,
        connection: sa.Connection,
        order: sa.Row[Any],
        reservation: reservation_pb2.Reservation,
        sequence: int,
    ) -> None:
        source = OrderState(order.state)
        target, values = translation.snapshot(reservation, source)
        if not is_reachable(source, target):
            self.divergent_count += 1
            _log.error(
                "order and ledger disagree; find out why before touching either",
                extra={"order_id": order.order_id, "order": source, "ledger": target},
            )
            return
        now_ms = self._clock.now_ms()
        store.overwrite_order(
            connection, order, state=target, sequence=sequence, time_ms=now_ms, values=values
        )
        for attempt in reservation.attempts:
            store.set_attempt_state(
                connection,
                order_id=order.order_id,
                attempt_id=attempt.attempt_id,
                state=translation.attempt_state_name(attempt.state),
                sequence=sequence,
                time_ms=attempt.begin_time.ToMilliseconds(),
            )

    def apply(self, connection: sa.Connection, event: event_pb2.Event) -> bool:
        """Applies one event to its order; returns False if it has no place there."""
        order = store.load_order(connection, event.reservation_id)
        if order is None:
            early.keep(
                connection,
                order_id=event.reservation_id,
                sequence=event.sequence,
                body=event.SerializeToString(),
            )
            return True
        if event.sequence <= order.ledger_sequence:
            return True
        translated = translation.translate(event, OrderState(order.state))
        try:
            store.move_order(connection, order, translated.move)
        except IllegalTransitionError as error:
            _log.warning("unexpected event", extra={"order_id": order.order_id, "why": str(error)})
            return False
        if translated.attempt_id:
            store.set_attempt_state(
                connection,
                order_id=order.order_id,
                attempt_id=translated.attempt_id,
                state=translated.attempt_state,
                sequence=event.sequence,
                time_ms=translated.move.time_ms,
            )
        return True
