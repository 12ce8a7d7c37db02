"""Tells the ledger what providers said, and sends money back where the ledger says it is owed.

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
from lastunit.payment import attempts, outbox
from lastunit.payment.attempts import Fact
from lastunit.payment.outbox import RefundState
from lastunit.payment.provider import ProviderUnavailableError, RefundStatus
from lastunit.payment.states import AttemptState, News
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from lastunit.payment.ports import SettlementPort
    from lastunit.payment.provider import Provider, RefundAnswer
    from lastunit.payment.schedule import Schedule
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import stock_service_pb2

    SettleReply = Reply[stock_service_pb2.SettlePaymentResponse]

__all__ = ["Teller"]

_SUCCEEDED: Final = "SUCCEEDED"

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
        providers: By name.
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
        providers: Mapping[str, Provider],
        clock: Clock,
        schedule: Schedule,
        settings: PaymentSettings,
    ) -> None:
        self._database = database
        self._runner = runner
        self._ledger = ledger
        self._providers = providers
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
        replies = await asyncio.gather(*(self._settle(row) for row in rows))

        def work(connection: sa.Connection) -> None:
            for row, reply in zip(rows, replies, strict=True):
                self._write_settled(connection, row, reply)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        return len(rows)

    async def refund_once(self, limit: int) -> int:
        """Carries on with refunds that are due: at the provider, then in the ledger.

        Args:
            limit: At most so many, 1 or more.

        Returns:
            How many were carried on with.
        """
        with self._database.read() as connection:
            rows = outbox.due_refunds(connection, self._clock.now_ms(), limit)
        for row in rows:
            await self._refund(row)
        return len(rows)

    # --- settlements -----------------------------------------------------------------------

    async def _settle(self, row: sa.Row[Any]) -> SettleReply | None:
        async with self._calls_at_once:
            try:
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

    def _write_settled(
        self,
        connection: sa.Connection,
        row: sa.Row[Any],
        reply: SettleReply | None,
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
            attempt_state = LedgerAttemptState(reply.response.attempt_state)
            values["attempt_state"] = attempt_state.name
            if reply.response.refund_due or attempt_state is LedgerAttemptState.REFUND_DUE:
                self._owe(connection, row.attempt_id)
        outbox.update_settlement(connection, row.settlement_id, values)

    def _owe(self, connection: sa.Connection, attempt_id: str) -> None:
        attempt = attempts.load(connection, attempt_id)
        if attempt is not None:
            outbox.add_refund(connection, attempt, now_ms=self._clock.now_ms())

    # --- refunds ---------------------------------------------------------------------------

    async def _refund(self, row: sa.Row[Any]) -> None:
        with self._database.read() as connection:
            attempt = attempts.load(connection, row.attempt_id)
        if attempt is None:
            raise AssertionError(f"refund of {row.attempt_id} has no attempt")
        if row.state != RefundState.DONE:
            answer = await self._send_back(row, attempt)
            await self._write_refund(row, answer)
            if answer is None or answer.status is not RefundStatus.DONE:
                return
        if attempt.state == AttemptState.QUARANTINED:
            await self._leave_quarantine(row)
        else:
            await self._record_refund(row)

    async def _send_back(self, row: sa.Row[Any], attempt: sa.Row[Any]) -> RefundAnswer | None:
        try:
            return await self._providers[attempt.provider].refund(
                row.attempt_id,
                amount_minor=row.amount_minor,
                currency=row.currency,
                # One key for ever: however often it is tried, the money goes back once.
                refund_key=f"{row.attempt_id}:refund",
            )
        except ProviderUnavailableError:
            return None

    async def _write_refund(self, row: sa.Row[Any], answer: RefundAnswer | None) -> None:
        now_ms = self._clock.now_ms()
        tries = row.try_count + 1
        values: dict[str, object] = {"try_count": tries}
        if answer is None:
            values["next_try_ms"] = self._schedule.retry_ms(try_count=tries, now_ms=now_ms)
        elif answer.status is RefundStatus.DONE:
            values |= {
                "state": RefundState.DONE.value,
                "refund_no": answer.refund_no,
                "next_try_ms": now_ms,
            }
        elif answer.status is RefundStatus.PENDING:
            again_ms = self._schedule.ask_again_ms(now_ms)
            values |= {"state": RefundState.PENDING.value, "next_try_ms": again_ms}
        else:
            refusals = row.refusal_count + 1
            values |= {
                "state": RefundState.FAILED.value,
                "refusal_count": refusals,
                "next_try_ms": self._schedule.refund_again_ms(
                    refusal_count=refusals, now_ms=now_ms
                ),
            }
            _log.error("refund refused", extra={"attempt_id": row.attempt_id})
        await self._update_refund(row.attempt_id, values)

    async def _leave_quarantine(self, row: sa.Row[Any]) -> None:
        now_ms = self._clock.now_ms()
        fact = Fact(news=News.REFUNDED, source="refund after quarantine")

        def work(connection: sa.Connection) -> None:
            attempts.record(
                connection, row.attempt_id, fact, now_ms=now_ms, schedule=self._schedule
            )
            done = {"is_recorded": True, "next_try_ms": None}
            outbox.update_refund(connection, row.attempt_id, done)

        await self._runner.run(work, lane=Lane.SETTLEMENT)

    async def _record_refund(self, row: sa.Row[Any]) -> None:
        is_recorded = False
        try:
            reply = await self._ledger.record_refund(
                f"{row.attempt_id}:refunded",
                reservation_id=row.reservation_id,
                attempt_id=row.attempt_id,
                evidence=f"refund {row.attempt_id}",
            )
            is_recorded = reply.is_ok
        except LastunitError as error:
            _log.warning(
                "refund not recorded", extra={"attempt_id": row.attempt_id, "why": str(error)}
            )
        tries = row.try_count + 1
        again_ms = self._schedule.retry_ms(try_count=tries, now_ms=self._clock.now_ms())
        values: dict[str, object] = {
            "is_recorded": is_recorded,
            "try_count": tries,
            "next_try_ms": None if is_recorded else again_ms,
        }
        await self._update_refund(row.attempt_id, values)

    async def _update_refund(self, attempt_id: str, values: Mapping[str, object]) -> None:
        def work(connection: sa.Connection) -> None:
            outbox.update_refund(connection, attempt_id, values)

        await self._runner.run(work, lane=Lane.SETTLEMENT)


def _is_settled(row: sa.Row[Any], reply: SettleReply) -> bool:
    if reply.is_ok:
        return True
    if row.payment_result != _SUCCEEDED and reply.outcome in _NOTHING_TO_CLOSE:
        return True
    _log.error(
        "the ledger refused a settlement; it is told again",
        extra={"attempt_id": row.attempt_id, "outcome": reply.outcome.name},
    )
    return False
