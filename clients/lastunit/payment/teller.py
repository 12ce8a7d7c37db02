"""Tells the ledger what providers said, and that owed money is back.

Owns the calls that the outbox's rows stand for, and their retries. Must not decide anything about
attempts. Next: `lastunit.payment.outbox` (the rows), `lastunit.payment.ports` (the ledger).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.outcomes import AttemptState as LedgerAttemptState
from lastunit.client.outcomes import Outcome, PaymentResult, Reply
from lastunit.errors import LastunitError
from lastunit.payment import outbox, refunds
from lastunit.payment.transitions import Cause
from lastunit.service.database import Lane

if TYPE_CHECKING:
    import sqlalchemy as sa

    from lastunit.payment.ports import SettlementPort
    from lastunit.payment.schedule import Schedule
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import stock_service_pb2

    SettleReply = Reply[stock_service_pb2.SettlePaymentResponse]
    RefundReply = Reply[stock_service_pb2.RecordRefundResponse]

__all__ = ["Teller"]

_NOES: Final = frozenset({"FAILED", "CANCELLED"})

# A no that came too late for the ledger to care: it holds nothing open for this attempt.
_NOTHING_TO_CLOSE: Final = frozenset(
    {
        Outcome.UNKNOWN_RESERVATION,
        Outcome.UNKNOWN_ATTEMPT,
        Outcome.WRONG_STATE,
    }
)

_log: Final = logging.getLogger(__name__)


class Teller:
    """Empties the outbox.

    Args:
        database: The payment service's tables, for reading.
        runner: Writes them.
        ledger: Its settlement listener.
        clock: Tells the time.
        schedule: Says when to try again.
        settings: Bounds the calls at once.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        ledger: SettlementPort,
        clock: Clock,
        schedule: Schedule,
        settings: PaymentSettings,
    ) -> None:
        self._database = database
        self._runner = runner
        self._ledger = ledger
        self._clock = clock
        self._schedule = schedule
        self._calls_at_once = asyncio.Semaphore(settings.calls_at_once_max)

    async def settle_once(self, limit: int) -> int:
        """Tells the ledger of results that are due.

        Args:
            limit: At most so many, 1 or more.

        Returns:
            How many were told or tried.
        """
        with self._database.read() as connection:
            rows = outbox.due_settlements(connection, self._clock.now_ms(), limit)
        if not rows:
            return 0
        replies = await asyncio.gather(*(self._tell(row) for row in rows))

        def work(connection: sa.Connection) -> None:
            for row, reply in zip(rows, replies, strict=True):
                self._write_told(connection, row, reply)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        return len(rows)

    async def _tell(self, row: sa.Row[Any]) -> SettleReply | RefundReply | None:
        """Makes the call that a row stands for; None if there was no answer."""
        async with self._calls_at_once:
            try:
                if row.payment_result == outbox.REFUNDED:
                    return await self._ledger.record_refund(
                        row.request_id,
                        reservation_id=row.reservation_id,
                        attempt_id=row.attempt_id,
                        evidence=row.evidence,
                    )
                return await self._ledger.settle_payment(
                    row.request_id,
                    reservation_id=row.reservation_id,
                    attempt_id=row.attempt_id,
                    payment_result=PaymentResult[row.payment_result],
                    occurred_ms=row.occurred_ms,
                    evidence=row.evidence,
                )
            except LastunitError as error:
                _log.warning(
                    "settlement not told",
                    extra={"attempt_id": row.attempt_id, "why": str(error)},
                )
                return None

    def _write_told(
        self,
        connection: sa.Connection,
        row: sa.Row[Any],
        reply: SettleReply | RefundReply | None,
    ) -> None:
        values: dict[str, object] = {"try_count": row.try_count + 1}
        now_ms = self._clock.now_ms()
        if reply is not None:
            values["outcome"] = reply.outcome.name
        if reply is None or not _is_settled(row, reply):
            values["next_try_ms"] = self._schedule.retry_ms(
                try_count=row.try_count + 1, now_ms=now_ms
            )
        else:
            values["next_try_ms"] = None
            if row.payment_result != outbox.REFUNDED:
                values["attempt_state"] = self._note_state(connection, row, reply, now_ms)
        outbox.update_settlement(connection, row.settlement_id, values)

    def _note_state(
        self, connection: sa.Connection, row: sa.Row[Any], reply: Any, now_ms: int
    ) -> str:
        """Owes the money if the ledger has no unit for it; returns the attempt's state there."""
        state = LedgerAttemptState(reply.response.attempt_state)
        if reply.response.refund_due or state is LedgerAttemptState.REFUND_DUE:
            cause = Cause(f"ledger answer to {row.request_id}", "ledger")
            refunds.owe(connection, row.attempt_id, cause, now_ms=now_ms)
        return state.name


def _is_settled(row: sa.Row[Any], reply: SettleReply | RefundReply) -> bool:
    if reply.is_ok:
        return True
    if row.payment_result in _NOES and reply.outcome in _NOTHING_TO_CLOSE:
        return True
    _log.error(
        "the ledger refused a settlement; it is told again",
        extra={"attempt_id": row.attempt_id, "outcome": reply.outcome.name},
    )
    return False
