"""Tells the payment service and the ledger what was written down to be told.

Owns the calls that the rows of refunds and returns stand for, and their retries: a row is left
only by an answer, so nothing is lost; each call has its row's own id, so nothing is done twice, by
however many processes. Must not decide anything about orders, sleep or loop.
Next: `lastunit.order.refunds` (the rows), `lastunit.order.after_sale` (who writes them).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.outcomes import Disposition, Outcome, State
from lastunit.errors import LastunitError
from lastunit.order import facts, refunds, store
from lastunit.order.ids import digest
from lastunit.order.moves import CauseKind, Fact
from lastunit.order.refunds import RefundState, ReturnState
from lastunit.order.states import OrderEvent, OrderState
from lastunit.payment.v1 import payment_service_pb2
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import sqlalchemy as sa

    from lastunit.order.ports import LedgerPort, PaymentPort
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner

__all__ = ["Deliveries"]

# Between two questions whether the money is back: at first a buyer watches, later nobody does.
_ASK_AGAIN_MS: Final = (500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000)

# A refusal needs a person; asking again every quarter of an hour notices when one has helped.
_REFUSED_AGAIN_MS: Final = 900_000

_PAYMENT_SERVICE: Final = "payment-service"

_log: Final = logging.getLogger(__name__)


class Deliveries:
    """Carries on with refunds and returns that are due.

    Args:
        database: The order service's tables, for reading.
        runner: Writes them.
        ledger: Takes units back.
        payments: Gives money back.
        clock: Tells the time.
        on_moved: Told of orders that moved, once that is durable.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        ledger: LedgerPort,
        payments: PaymentPort,
        clock: Clock,
        on_moved: Callable[[Iterable[str]], None],
    ) -> None:
        self._database = database
        self._runner = runner
        self._ledger = ledger
        self._payments = payments
        self._clock = clock
        self._on_moved = on_moved

    async def deliver_once(self, limit: int = 64) -> int:
        """Tries everything that is due once.

        Args:
            limit: At most so many of each kind, 1 or more.

        Returns:
            How many were tried.
        """
        now_ms = self._clock.now_ms()
        with self._database.read() as connection:
            returned = refunds.due_returns(connection, now_ms, limit)
            owed = refunds.due_refunds(connection, now_ms, limit)
        # Goods first: the ledger takes an order's units back in the order in which they came.
        for row in returned:
            await self._tell_return(row)
        for row in owed:
            if row.state == RefundState.ASKED:
                await self._ask_refund(row)
            else:
                await self._give_back(row)
        return len(returned) + len(owed)

    # --- money ---------------------------------------------------------------------------

    async def _ask_refund(self, row: sa.Row[Any]) -> None:
        request = payment_service_pb2.RefundAttemptRequest(
            attempt_id=row.attempt_id,
            request_id=row.refund_id,
            amount_minor=row.amount_minor,
            reason=row.reason,
            actor=row.actor,
        )
        try:
            response = await self._payments.refund_attempt(request)
        except LastunitError as error:
            _log.warning("refund not asked", extra={"refund_id": row.refund_id, "why": str(error)})
            await self._try_refund_again(row, _again_ms(row.try_count))
            return
        if response.refusal:
            name = payment_service_pb2.Refusal.Name(response.refusal).removeprefix("REFUSAL_")
            _log.error("refund refused", extra={"refund_id": row.refund_id, "refusal": name})
            await self._try_refund_again(row, _REFUSED_AGAIN_MS, last_refusal=name)
        elif response.refund.state == payment_service_pb2.REFUND_STATE_DONE:
            await self._finish_refund(row)
        else:
            await self._try_refund_again(row, _again_ms(row.try_count), last_refusal="")

    async def _try_refund_again(self, row: sa.Row[Any], after_ms: int, **values: Any) -> None:
        again = {
            "try_count": row.try_count + 1,
            "next_try_ms": self._clock.now_ms() + after_ms,
            **values,
        }

        def work(connection: sa.Connection) -> None:
            # Another process may have finished it meanwhile.
            if refunds.load_refund(connection, row.refund_id).state == row.state:
                refunds.update_refund(connection, row.refund_id, again)

        await self._runner.run(work, lane=Lane.SETTLEMENT)

    async def _finish_refund(self, row: sa.Row[Any]) -> None:
        """Writes down that the money is back; once all of an order's is, its units follow."""
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> None:
            if refunds.load_refund(connection, row.refund_id).state != RefundState.ASKED:
                return
            after = RefundState.GIVING_BACK if row.gives_back else RefundState.DONE
            done = {
                "state": after.value,
                "done_ms": now_ms,
                "try_count": row.try_count + 1,
                "last_refusal": "",
                "next_try_ms": None,
            }
            refunds.update_refund(connection, row.refund_id, done)
            all_of_it = refunds.load_refunds(connection, row.order_id)
            is_last = all(each.state != RefundState.ASKED for each in all_of_it)
            order = store.load_order(connection, row.order_id)
            is_full = is_last and order is not None and order.state == OrderState.REFUND_DUE
            event = OrderEvent.FULL_REFUND_DONE if is_full else OrderEvent.PART_REFUND_DONE
            fact = Fact(
                event, CauseKind.REFUND, row.refund_id, _PAYMENT_SERVICE, row.reason, now_ms
            )
            facts.add(connection, row.order_id, fact)
            for each in all_of_it if is_full else ():
                if each.state == RefundState.GIVING_BACK:
                    due = {"next_try_ms": now_ms, "try_count": 0}
                    refunds.update_refund(connection, each.refund_id, due)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        self._on_moved((row.order_id,))

    # --- units ---------------------------------------------------------------------------

    async def _give_back(self, row: sa.Row[Any]) -> None:
        """Gives back what the order has out, its coupon and gifts too, until nothing is."""
        try:
            refusal = await self._return_all(row)
        except LastunitError as error:
            _log.warning("units not back", extra={"refund_id": row.refund_id, "why": str(error)})
            await self._try_refund_again(row, _again_ms(row.try_count))
            return
        if refusal is not None and refusal is not Outcome.UNKNOWN_RESERVATION:
            _log.error("units refused", extra={"refund_id": row.refund_id, "outcome": refusal.name})
            await self._try_refund_again(row, _REFUSED_AGAIN_MS, last_refusal=refusal.name)
            return
        # A reservation that the ledger has forgotten has been final for long: see retention.
        done: Mapping[str, Any] = {
            "state": RefundState.DONE.value,
            "next_try_ms": None,
            "try_count": row.try_count + 1,
            "last_refusal": "" if refusal is None else refusal.name,
        }

        def work(connection: sa.Connection) -> None:
            refunds.update_refund(connection, row.refund_id, done)

        await self._runner.run(work, lane=Lane.SETTLEMENT)

    async def _return_all(self, row: sa.Row[Any]) -> Outcome | None:
        """Returns every unit that is out; gives the first refusal, None if all are back."""
        shown = await self._ledger.get_reservation(row.order_id)
        if not shown.is_ok:
            return shown.outcome
        if State(shown.response.reservation.state) is not State.CONFIRMED:
            return None
        out: dict[str, int] = {}
        for piece in shown.response.reservation.taken:
            out[piece.sku] = out.get(piece.sku, 0) + piece.units - piece.returned_units
        for sku, units in out.items():
            if not units:
                continue
            reply = await self._ledger.return_units(
                "g-" + digest(f"{row.refund_id} {sku} {units}"),
                reservation_id=row.order_id,
                sku=sku,
                units=units,
                disposition=Disposition.RESELL,
            )
            if not reply.is_ok:
                return reply.outcome
        return None

    async def _tell_return(self, row: sa.Row[Any]) -> None:
        values: dict[str, Any] = {"try_count": row.try_count + 1}
        try:
            reply = await self._ledger.return_units(
                row.return_id,
                reservation_id=row.order_id,
                sku=row.sku,
                pool=row.pool,
                units=row.units,
                disposition=Disposition[row.disposition],
            )
        except LastunitError as error:
            _log.warning("return not told", extra={"return_id": row.return_id, "why": str(error)})
            values["next_try_ms"] = self._clock.now_ms() + _again_ms(row.try_count)
        else:
            state = ReturnState.DONE if reply.is_ok else ReturnState.REFUSED
            refusal = "" if reply.is_ok else reply.outcome.name
            values |= {
                "state": state.value,
                "last_refusal": refusal,
                "done_ms": self._clock.now_ms(),
                "next_try_ms": None,
            }
            if refusal:
                _log.error(
                    "the ledger refused a return; look why and book it by hand",
                    extra={"return_id": row.return_id, "outcome": refusal},
                )

        def work(connection: sa.Connection) -> None:
            refunds.update_return(connection, row.return_id, values)

        await self._runner.run(work, lane=Lane.SETTLEMENT)


def _again_ms(try_count: int) -> int:
    return _ASK_AGAIN_MS[min(try_count, len(_ASK_AGAIN_MS) - 1)]
