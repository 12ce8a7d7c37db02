"""Follows the ledger's journal for what it asks of the payment service.

Owns the position in the journal, saved with the effects. Must not call anybody but the journal:
what an event asks for is written down as a due ask or refund, and others carry it out.
Next: `lastunit.payment.reconciler`, `lastunit.payment.teller`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lastunit.errors import RolledBackError
from lastunit.payment import attempts, orphans, positions, refunds
from lastunit.payment.incidents import IncidentKind, Sighting
from lastunit.payment.transitions import Cause
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from lastunit.payment.ports import JournalPort
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import event_pb2

__all__ = ["PaymentFollower"]

_POSITION: Final = "journal"

# Events that ask nothing of us need no transaction; the position is saved once in so many, so
# that a restart does not read the whole sale again.
_UNSAVED_EVENTS_MAX: Final = 4_096

_ASKS: Final = frozenset(
    {"cancel_at_provider_requested", "ask_provider_requested", "refund_became_due"}
)

_log: Final = logging.getLogger(__name__)


class PaymentFollower:
    """Turns the ledger's requests into due work.

    Args:
        database: The payment service's tables, for reading.
        runner: Writes them.
        journal: The ledger's events.
        clock: Tells the time.
        provider: Name of the provider at which an attempt is barred that nobody started.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        journal: JournalPort,
        clock: Clock,
        provider: str,
    ) -> None:
        self._runner = runner
        self._journal = journal
        self._clock = clock
        self._provider = provider
        self._saved = positions.read(database, _POSITION)
        self._position = self._saved

    @property
    def position(self) -> int:
        """Sequence of the last event that was looked at."""
        return self._position

    async def follow_once(self, limit: int) -> int:
        """Looks at the next events.

        Args:
            limit: At most so many, 1 to 4,096.

        Returns:
            How many there were; 0 means up to date.

        Raises:
            RolledBackError: The ledger's journal ends before what it once told us.
            LastunitError: The ledger did not answer.
        """
        page = await self._journal.read_event_page(self._position, page_size=limit)
        if page.durable_sequence < self._position:
            raise RolledBackError(
                f"the ledger's journal ends at {page.durable_sequence}, it had told us "
                f"{self._position}; do not sell before its data is restored",
                seen_sequence=self._position,
                reason="JOURNAL_ROLLED_BACK",
            )
        return await self.take(page.events)

    async def take(self, events: Sequence[event_pb2.Event]) -> int:
        """Acts on events that follow the last one; returns how many were new."""
        new = [event for event in events if event.sequence > self._position]
        if not new:
            return 0
        last = new[-1].sequence
        asked = [event for event in new if event.WhichOneof("body") in _ASKS]
        if asked or last - self._saved >= _UNSAVED_EVENTS_MAX:
            await self._write(asked, last)
        self._position = last
        return len(new)

    async def _write(self, events: Sequence[event_pb2.Event], last: int) -> None:
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> None:
            # Another process may have been here; what it did must not be done again.
            seen = positions.load(connection, _POSITION)
            for event in events:
                if event.sequence > seen:
                    self._act(connection, event, now_ms)
            positions.save(connection, _POSITION, last)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        self._saved = last

    def _act(self, connection: sa.Connection, event: event_pb2.Event, now_ms: int) -> None:
        body = event.WhichOneof("body")
        if body == "refund_became_due":
            self._owe(connection, event, now_ms)
            return
        is_close_asked = body == "cancel_at_provider_requested"
        attempt_id = (
            event.cancel_at_provider_requested.attempt_id
            if is_close_asked
            else event.ask_provider_requested.attempt_id
        )
        cause = Cause(f"ledger {event.sequence}", "ledger")
        is_known = attempts.ask_soon(
            connection, attempt_id, cause, now_ms=now_ms, is_close_asked=is_close_asked
        )
        if not is_known:
            _log.warning("closing an attempt nobody started", extra={"attempt_id": attempt_id})
            attempts.to_close(
                connection,
                attempt_id,
                reservation_id=event.reservation_id,
                provider=self._provider,
                cause=cause,
                now_ms=now_ms,
            )

    def _owe(self, connection: sa.Connection, event: event_pb2.Event, now_ms: int) -> None:
        attempt_id = event.refund_became_due.attempt_id
        cause = Cause(f"ledger {event.sequence}", "ledger")
        if refunds.owe(connection, attempt_id, cause, now_ms=now_ms):
            return
        _log.error("a refund is due for an unknown attempt", extra={"attempt_id": attempt_id})
        sighting = Sighting(
            IncidentKind.OWED_UNKNOWN,
            provider="ledger",
            attempt_id=attempt_id,
            what="refund.due",
            source=cause.text,
            order_id=event.reservation_id,
        )
        event_id = f"sequence-{event.sequence}"
        orphans.keep(connection, sighting, event_id=event_id, now_ms=now_ms)
