"""Acts on stored callbacks, in the order in which they arrived.

Owns the position up to which the inbox was worked off; it commits together with the effects, so
each callback has its effect exactly once. Must not call anybody, so nothing can hold it up.
Next: `lastunit.payment.attempts` decides, `lastunit.payment.teller` tells the ledger.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import attempts, orphans, positions, refunds, schema
from lastunit.payment.callback import (
    Callback,
    CallbackKind,
    MalformedCallbackError,
)
from lastunit.payment.dialect import OWN_DIALECT
from lastunit.payment.incidents import IncidentKind, Sighting
from lastunit.payment.refund_states import RefundEvent
from lastunit.payment.refunds import RefundNews
from lastunit.payment.states import News
from lastunit.payment.transitions import Cause
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.payment.dialect import Dialect
    from lastunit.payment.schedule import Schedule
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner

__all__ = ["InboxReader", "InboxWorker"]

_POSITION: Final = "inbox"

_NEWS: Final[Mapping[CallbackKind, News]] = {
    CallbackKind.PAYMENT_SUCCEEDED: News.PAID,
    CallbackKind.PAYMENT_FAILED: News.FAILED,
    CallbackKind.PAYMENT_CLOSED: News.CLOSE_ACKNOWLEDGED,
}

_REFUND_EVENTS: Final[Mapping[CallbackKind, RefundEvent]] = {
    CallbackKind.REFUND_SUCCEEDED: RefundEvent.DONE,
    CallbackKind.REFUND_FAILED: RefundEvent.REFUSED,
}

_READ_AFTER: Final = (
    sa.select(schema.inbox)
    .where(schema.inbox.c.inbox_id > sa.bindparam("position"))
    .order_by(schema.inbox.c.inbox_id)
    .limit(sa.bindparam("limit"))
)

_log: Final = logging.getLogger(__name__)


class InboxReader:
    """Reads what the webhook has stored.

    Args:
        database: The inbox; only read here.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read_after(self, position: int, limit: int) -> Sequence[sa.Row[Any]]:
        """Returns stored callbacks in order of arrival.

        Args:
            position: `inbox_id` after which to read, 0 or more.
            limit: At most so many, 1 or more.
        """
        values = {"position": position, "limit": limit}
        with self._database.read() as connection:
            return connection.execute(_READ_AFTER, values).all()

    def find(self, provider: str, event_id: str) -> sa.Row[Any] | None:
        """Returns one stored callback, or None."""
        table = schema.inbox
        query = sa.select(table).where(table.c.provider == provider, table.c.event_id == event_id)
        with self._database.read() as connection:
            return connection.execute(query).one_or_none()


class InboxWorker:
    """Works the inbox off.

    Args:
        database: The payment service's own tables, for reading.
        runner: Writes them.
        reader: The inbox.
        clock: Tells the time.
        schedule: Says when to ask next where a callback leaves an attempt open.
        dialects: How providers word their callbacks, by name; ours for those that are not there.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        reader: InboxReader,
        clock: Clock,
        schedule: Schedule,
        dialects: Mapping[str, Dialect],
    ) -> None:
        self._dialects = dialects
        self._runner = runner
        self._reader = reader
        self._clock = clock
        self._schedule = schedule
        self._position = positions.read(database, _POSITION)

    async def process_once(self, limit: int) -> int:
        """Acts on the next callbacks in one transaction.

        Args:
            limit: At most so many, 1 or more.

        Returns:
            How many there were; 0 means that the inbox is worked off.
        """
        rows = self._reader.read_after(self._position, limit)
        if not rows:
            return 0

        def work(connection: sa.Connection) -> int:
            # Another run may have been here since; what it did must not be done again.
            done = positions.load(connection, _POSITION)
            for row in rows:
                if row.inbox_id > done:
                    self._act(connection, row)
            furthest = max(done, int(rows[-1].inbox_id))
            positions.save(connection, _POSITION, furthest)
            return furthest

        # Who takes over from another process goes on where that one was.
        self._position = await self._runner.run(work, lane=Lane.SETTLEMENT)
        return len(rows)

    async def reprocess(self, provider: str, event_id: str) -> tuple[int, str] | None:
        """Acts once more on a stored callback, wherever the position is.

        Args:
            provider: Name of the provider.
            event_id: The event's id there.

        Returns:
            When it came, and the attempt it tells of (empty if it cannot be read); None if it was
            never stored.
        """
        row = self._reader.find(provider, event_id)
        if row is None:
            return None

        def work(connection: sa.Connection) -> None:
            self._act(connection, row)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        try:
            callback = self._dialects.get(provider, OWN_DIALECT).read(row.raw_body).callback
        except MalformedCallbackError:
            callback = None
        return int(row.arrive_ms), callback.merchant_no if callback else ""

    def _act(self, connection: sa.Connection, row: sa.Row[Any]) -> None:
        try:
            callback = self._dialects.get(row.provider, OWN_DIALECT).read(row.raw_body).callback
        except MalformedCallbackError as error:
            # The door lets none in; if one got there all the same it must be seen, not block.
            _log.exception("unreadable callback", extra={"event_id": row.event_id, "why": error})
            self._keep(connection, row, IncidentKind.UNREADABLE_CALLBACK)
            return
        if callback is None:
            # A provider tells more than we asked for; it is kept and nothing follows from it.
            return
        attempt = attempts.load(connection, callback.merchant_no)
        if attempt is None or attempt.provider != row.provider:
            _log.error("callback for an unknown attempt", extra={"event_id": row.event_id})
            self._keep(connection, row, IncidentKind.UNKNOWN_ATTEMPT, callback)
        elif callback.kind in _NEWS:
            self._record(connection, row.event_id, callback)
        elif callback.refund_key:
            self._record_refund(connection, row, callback)
        else:
            self._hurry_refunds(connection, callback)

    def _record(self, connection: sa.Connection, event_id: str, callback: Callback) -> None:
        fact = attempts.Fact(
            news=_NEWS[callback.kind],
            source=f"callback {event_id}",
            provider_no=callback.provider_no,
            amount_minor=callback.amount_minor,
            currency=callback.currency,
            occurred_ms=callback.occurred_ms,
            state_version=callback.state_version,
            failure_code=callback.failure_code,
        )
        attempts.record(
            connection,
            callback.merchant_no,
            fact,
            now_ms=self._clock.now_ms(),
            schedule=self._schedule,
        )

    def _record_refund(
        self, connection: sa.Connection, row: sa.Row[Any], callback: Callback
    ) -> None:
        """Writes down what became of a refund, if it is one of ours and about the same money."""
        refund = refunds.of_key(connection, callback.refund_key)
        if refund is None or refund.attempt_id != callback.merchant_no:
            if refunds.load(connection, callback.refund_key.partition(".")[0]) is None:
                _log.error("callback for an unknown refund", extra={"event_id": row.event_id})
                self._keep(connection, row, IncidentKind.UNKNOWN_REFUND, callback)
            # Else it is news of a try that was refused before: the present one is asked for.
            self._hurry_refunds(connection, callback)
            return
        told = (callback.amount_minor, callback.currency)
        if told != (refund.amount_minor, refund.currency):
            _log.error("callback for another sum than refunded", extra={"event_id": row.event_id})
            self._keep(connection, row, IncidentKind.REFUND_DIFFERS, callback, refund)
            self._hurry_refunds(connection, callback)
            return
        news = RefundNews(
            _REFUND_EVENTS[callback.kind],
            Cause(f"callback {row.event_id}", row.provider),
            refund_no=callback.refund_no,
            failure_code=callback.failure_code,
            occurred_ms=callback.occurred_ms,
        )
        now_ms = self._clock.now_ms()
        refunds.record(connection, refund.refund_id, news, now_ms=now_ms, schedule=self._schedule)

    def _hurry_refunds(self, connection: sa.Connection, callback: Callback) -> None:
        """Lets refunds that are under way be asked for now; the answer to that counts."""
        refund = schema.refunds
        connection.execute(
            sa.update(refund)
            .where(refund.c.attempt_id == callback.merchant_no, refund.c.next_try_ms.is_not(None))
            .values(next_try_ms=self._clock.now_ms())
        )

    def _keep(
        self,
        connection: sa.Connection,
        row: sa.Row[Any],
        kind: IncidentKind,
        callback: Callback | None = None,
        refund: sa.Row[Any] | None = None,
    ) -> None:
        """Keeps a callback that fits nothing; `refund` is what the books say of it, if anything."""
        sighting = Sighting(
            kind,
            provider=row.provider,
            attempt_id=callback.merchant_no if callback else "",
            what=callback.kind.value if callback else "unreadable",
            source=f"callback {row.event_id}",
            refund_key=callback.refund_key if callback else "",
            order_id=refund.order_id if refund is not None else "",
            expected_minor=refund.amount_minor if refund is not None else 0,
            expected_currency=refund.currency if refund is not None else "",
            found_minor=callback.amount_minor if callback else 0,
            found_currency=callback.currency if callback else "",
        )
        now_ms = self._clock.now_ms()
        orphans.keep(connection, sighting, event_id=row.event_id, now_ms=now_ms)
