"""Carries refunds on at the provider: asks for them, and how far they are, until they are done.

Owns the calls and their retries. Must not decide what may go back: `refunds` has written it down.
Next: `lastunit.payment.refunds`, `lastunit.payment.refund_states`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from lastunit.payment import attempts, refunds
from lastunit.payment.provider import (
    Known,
    ProviderRefusedError,
    ProviderUnavailableError,
    RefundStatus,
)
from lastunit.payment.refund_states import RefundEvent
from lastunit.payment.refunds import RefundNews
from lastunit.payment.transitions import Cause
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from lastunit.payment.provider import Provider, RefundAnswer
    from lastunit.payment.schedule import Schedule
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner

__all__ = ["Refunder"]

# Refunds are few and wait for nothing of ours; a provider should not feel a wave of them.
CALLS_AT_ONCE_MAX: Final = 16

_EVENTS: Final[Mapping[RefundStatus, RefundEvent]] = {
    RefundStatus.DONE: RefundEvent.DONE,
    RefundStatus.PENDING: RefundEvent.ACCEPTED,
    RefundStatus.FAILED: RefundEvent.REFUSED,
}

_log: Final = logging.getLogger(__name__)


class Refunder:
    """Sends money back.

    Args:
        database: The payment service's tables, for reading.
        runner: Writes them.
        providers: By name.
        clock: Tells the time.
        schedule: Says when to ask and to try again.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        providers: Mapping[str, Provider],
        clock: Clock,
        schedule: Schedule,
    ) -> None:
        self._database = database
        self._runner = runner
        self._providers = providers
        self._clock = clock
        self._schedule = schedule
        self._calls_at_once = asyncio.Semaphore(CALLS_AT_ONCE_MAX)

    async def refund_once(self, limit: int) -> int:
        """Carries on with refunds that are due.

        Args:
            limit: At most so many, 1 or more.

        Returns:
            How many were carried on with.
        """
        with self._database.read() as connection:
            rows = refunds.due(connection, self._clock.now_ms(), limit)
            known = [_known(connection, row) for row in rows]
        if not rows:
            return 0
        answers = await asyncio.gather(*map(self._call, rows, known))
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> None:
            for row, answer in zip(rows, answers, strict=True):
                self._write(connection, row, answer, now_ms)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        return len(rows)

    async def _call(self, row: sa.Row[Any], known: Known) -> RefundAnswer | None:
        """Returns what the provider says, or None if it says nothing."""
        async with self._calls_at_once:
            try:
                return await self._providers[row.provider].refund(
                    row.attempt_id,
                    amount_minor=row.amount_minor,
                    currency=row.currency,
                    refund_key=refunds.key(row),
                    known=known,
                )
            except (ProviderUnavailableError, ProviderRefusedError) as error:
                extra = {"refund_id": row.refund_id, "why": str(error)}
                _log.info("refund not answered", extra=extra)
                return None

    def _write(
        self, connection: sa.Connection, row: sa.Row[Any], answer: RefundAnswer | None, now_ms: int
    ) -> None:
        if refunds.of_key(connection, refunds.key(row)) is None:
            # A callback refused it meanwhile; what is said of the old key says nothing of the next.
            return
        cause = Cause("timer refund", row.provider)
        if answer is None:
            news = RefundNews(RefundEvent.NO_ANSWER, cause)
        else:
            news = RefundNews(
                _EVENTS[answer.status],
                cause,
                refund_no=answer.refund_no,
                failure_code=answer.detail,
                occurred_ms=answer.occurred_ms,
            )
        refunds.record(connection, row.refund_id, news, now_ms=now_ms, schedule=self._schedule)
        if news.event is RefundEvent.REFUSED:
            extra = {"refund_id": row.refund_id, "why": news.failure_code}
            _log.error("refund refused", extra=extra)


def _known(connection: sa.Connection, row: sa.Row[Any]) -> Known:
    attempt = attempts.load(connection, row.attempt_id)
    if attempt is None or attempt.provider != row.provider:
        # A stranger's: nobody here has asked for that money.
        return Known(refund_no=row.refund_no)
    return attempts.known(attempt, refund_no=row.refund_no)
