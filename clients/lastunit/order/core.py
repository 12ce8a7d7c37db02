"""The order service as plain steps: place, pay, cancel, show.

Owns the order in which ledger, database and payment service are called to pay and to cancel, so
that a crash between any two of them heals. Must not sleep, loop or decide on stock.
Next: `lastunit.order.placing` places, `follower` moves orders on, `store` has the SQL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.client.outcomes import Outcome
from lastunit.order import store, translation, views
from lastunit.order.after_sale import AfterSale
from lastunit.order.deliveries import Deliveries
from lastunit.order.explaining import Explainer
from lastunit.order.follower import OrderFollower
from lastunit.order.grants import GrantCount
from lastunit.order.ids import digest
from lastunit.order.placing import Placing
from lastunit.order.states import PAYABLE_STATES, OrderState
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.order.watching import OrderWatch
from lastunit.payment.v1 import payment_service_pb2
from lastunit.service.database import Lane

if TYPE_CHECKING:
    import sqlalchemy as sa

    from lastunit.client.outcomes import Reply
    from lastunit.order.after_sale import Answer
    from lastunit.order.doorman import Doorman
    from lastunit.order.persons import PersonDirectory
    from lastunit.order.ports import LedgerPort, PaymentPort
    from lastunit.order.settings import OrderSettings
    from lastunit.prices.quote import Prices
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import stock_service_pb2

__all__ = ["OrderCore"]


class OrderCore:
    """Is the order service without its wires.

    Args:
        database: Its tables.
        ledger: A `StockClient`, or what stands in for it.
        persons: Knows who stands behind an account.
        payments: The payment service.
        prices: What units cost.
        clock: Tells the time.
        settings: Spans and bounds.
        runner: Writes the database; None: the database's own writer.
        doorman: Turns newcomers away while a gate says so; None lets everybody on to the ledger.

    Attributes:
        follower: Moves the orders on; its steps are called beside these.
        watch: Streams the orders' transitions.
        grants: How many of the ledger's grants were written down, or given up, since the start.
    """

    def __init__(
        self,
        *,
        database: Database,
        ledger: LedgerPort,
        persons: PersonDirectory,
        payments: PaymentPort,
        prices: Prices,
        clock: Clock,
        settings: OrderSettings,
        runner: TransactionRunner | None = None,
        doorman: Doorman | None = None,
    ) -> None:
        self._database = database
        self._runner: TransactionRunner = runner or database
        self._ledger = ledger
        self._payments = payments
        self._clock = clock
        self._settings = settings
        self.grants = GrantCount()
        self.watch = OrderWatch(database, settings)
        self.follower = OrderFollower(
            database=database,
            runner=self._runner,
            ledger=ledger,
            clock=clock,
            on_moved=self.watch.notify,
        )
        self._after_sale = AfterSale(runner=self._runner, clock=clock, on_moved=self.watch.notify)
        self._deliveries = Deliveries(
            database=database,
            runner=self._runner,
            ledger=ledger,
            payments=payments,
            clock=clock,
            on_moved=self.watch.notify,
        )
        self._explainer = Explainer(database=database, ledger=ledger, payments=payments)
        self._placing = Placing(
            database=database,
            runner=self._runner,
            ledger=ledger,
            persons=persons,
            prices=prices,
            clock=clock,
            settings=settings,
            doorman=doorman,
            follower=self.follower,
            grants=self.grants,
        )

    async def follow_once(self, limit: int = 1_024) -> int:
        """Takes in the ledger's next events; returns how many there were."""
        return await self.follower.follow_once(limit)

    async def deliver_once(self, limit: int = 64) -> int:
        """Carries on with refunds and returns that are due; returns how many were tried."""
        return await self._deliveries.deliver_once(limit)

    # --- quote and place ------------------------------------------------------------------

    async def quote(self, request: pb.QuoteRequest) -> pb.QuoteResponse:
        """Says what an order would cost; see `Placing.quote`."""
        return await self._placing.quote(request)

    async def place_order(self, request: pb.PlaceOrderRequest) -> pb.PlaceOrderResponse:
        """Holds units and writes the order down; see `Placing.place_order`."""
        return await self._placing.place_order(request)

    # --- pay -------------------------------------------------------------------------------

    async def pay(self, request: pb.PayRequest) -> pb.PayResponse:
        """Opens an attempt: its number first, then the ledger, then the provider.

        A repeat with the same id finds its number again and carries on where it stopped.

        Raises:
            LastunitError: Ledger or payment service did not answer; repeat with the same id.
        """
        row = store.read_order(self._database, request.order_id)
        if row is None:
            return pb.PayResponse(refusal=pb.REFUSAL_UNKNOWN_ORDER)
        if not self._may_pay(row, request.request_id):
            return pb.PayResponse(
                outcome=views.outcome(Outcome.WRONG_STATE),
                refusal=_pay_refusal(OrderState(row.state)),
                order_state=views.state(row),
            )
        allocation = await self._allocate(request)
        if allocation.conflict_field:
            return pb.PayResponse(
                outcome=views.outcome(Outcome.CONFLICT),
                refusal=pb.REFUSAL_CONFLICT,
                conflict_field=allocation.conflict_field,
            )
        if allocation.is_too_many:
            return pb.PayResponse(outcome=views.outcome(Outcome.TOO_MANY_ATTEMPTS))
        reply = await self._ledger.begin_payment(
            allocation.attempt_id,
            reservation_id=row.order_id,
            provider=self._settings.provider,
            amount_minor=row.amount_minor,
            currency=row.currency,
        )
        if not reply.is_ok:
            return _not_begun(reply)
        return await self._start(row, request, allocation, reply)

    def _may_pay(self, row: sa.Row[Any], request_id: str) -> bool:
        if OrderState(row.state) in PAYABLE_STATES:
            return True
        with self._database.read() as connection:
            attempts = store.load_attempts(connection, row.order_id)
        return any(attempt.request_id == request_id for attempt in attempts)

    async def _allocate(self, request: pb.PayRequest) -> store.Allocation:
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> store.Allocation:
            return store.allocate_attempt(
                connection,
                order_id=request.order_id,
                request_id=request.request_id,
                method=request.method,
                now_ms=now_ms,
                number_max=self._settings.pays_per_order_max,
            )

        # Who holds a unit and wants to pay goes before those who want one.
        return await self._runner.run(work, lane=Lane.SETTLEMENT)

    async def _start(
        self,
        row: sa.Row[Any],
        request: pb.PayRequest,
        allocation: store.Allocation,
        reply: Reply[stock_service_pb2.BeginPaymentResponse],
    ) -> pb.PayResponse:
        begun = reply.response
        started = await self._payments.start_attempt(
            payment_service_pb2.StartAttemptRequest(
                attempt_id=allocation.attempt_id,
                order_id=row.order_id,
                reservation_id=row.order_id,
                provider=self._settings.provider,
                method=request.method,
                amount_minor=row.amount_minor,
                currency=row.currency,
                settle_by_time=begun.settle_by_time,
            )
        )
        outcome, refusal = _started(started)
        state = translation.order_state(reply.state) or OrderState.PAYING
        return pb.PayResponse(
            outcome=views.outcome(outcome),
            refusal=refusal,
            replayed=not allocation.is_new,
            attempt_id=allocation.attempt_id,
            pay_url=started.attempt.pay_url,
            provider=started.attempt.provider,
            provider_no=started.attempt.provider_no,
            settle_by_time=begun.settle_by_time,
            retaken=begun.retaken,
            order_state=views.state_value(state),
            sequence=reply.sequence,
        )

    # --- cancel and show -------------------------------------------------------------------

    async def cancel(self, request: pb.CancelRequest) -> pb.CancelResponse:
        """Gives the units back at once, or, while a payment is open, asks for that.

        Raises:
            LastunitError: The ledger did not answer; repeat with the same id.
        """
        if store.read_order(self._database, request.order_id) is None:
            return pb.CancelResponse(refusal=pb.REFUSAL_UNKNOWN_ORDER)
        reply = await self._ledger.release(
            "c-" + digest(f"{request.order_id} {request.request_id}"),
            reservation_id=request.order_id,
        )
        state = translation.order_state(reply.state)
        refusal = pb.REFUSAL_UNSPECIFIED
        if not reply.is_ok and state is OrderState.PAID:
            refusal = pb.REFUSAL_ALREADY_PAID
        elif reply.is_ok and reply.response.release_requested:
            refusal = pb.REFUSAL_IN_PAYMENT
        return pb.CancelResponse(
            outcome=views.outcome(reply.outcome),
            refusal=refusal,
            replayed=reply.is_replayed,
            conflict_field=reply.conflict_field,
            order_state=views.state_value(state),
            is_release_requested=reply.response.release_requested,
            sequence=reply.sequence,
        )

    async def get_order(self, request: pb.GetOrderRequest) -> pb.GetOrderResponse:
        """Shows an order, once the ledger was followed to `minimum_sequence`.

        Raises:
            LastunitError: The ledger did not answer.
        """
        if request.minimum_sequence > self.follower.position:
            await self.follower.reach(request.minimum_sequence)
        with self._database.read() as connection:
            row = store.load_order(connection, request.order_id)
            if row is None:
                return pb.GetOrderResponse(refusal=pb.REFUSAL_UNKNOWN_ORDER)
            shown = views.full_order(connection, row)
        return pb.GetOrderResponse(
            order=shown,
            as_of_sequence=max(self.follower.position, row.ledger_sequence),
        )

    async def list_orders(self, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
        """Lists orders of an account or a person, newest first."""
        with self._database.read() as connection:
            return views.list_orders(connection, request)

    async def explain(self, request: pb.ExplainRequest) -> pb.ExplainResponse:
        """Explains an order, as far as ledger and payment service answer."""
        return await self._explainer.explain(request)

    # --- after the sale --------------------------------------------------------------------

    async def refund(self, request: pb.RefundRequest) -> pb.RefundResponse:
        """Gives money of a paid order back."""
        answer = await self._after_sale.refund(request)
        response = pb.RefundResponse(**_told(answer), refundable_minor=answer.left_minor)
        if answer.refund is not None:
            response.refund.CopyFrom(views.refund(answer.refund))
        return response

    async def return_goods(self, request: pb.ReturnGoodsRequest) -> pb.ReturnGoodsResponse:
        """Takes goods back."""
        answer = await self._after_sale.return_goods(request)
        response = pb.ReturnGoodsResponse(**_told(answer), sku=answer.sku)
        if answer.refund is not None:
            response.refund.CopyFrom(views.refund(answer.refund))
        return response

    async def ship(self, request: pb.ShipRequest) -> pb.ShipResponse:
        """Says that the goods left."""
        return pb.ShipResponse(**_told(await self._after_sale.ship(request)))

    async def deliver(self, request: pb.DeliverRequest) -> pb.DeliverResponse:
        """Says that the goods arrived."""
        return pb.DeliverResponse(**_told(await self._after_sale.deliver(request)))


def _told(answer: Answer) -> dict[str, Any]:
    """Returns the fields that every answer to a call after the sale has."""
    fields: dict[str, Any] = {
        "refusal": answer.refusal,
        "replayed": answer.is_replayed,
        "conflict_field": answer.conflict_field,
    }
    if answer.order is not None:
        fields["order_state"] = views.state(answer.order)
        fields["fulfilment_state"] = views.fulfilment(answer.order)
    return fields


def _not_begun(reply: Reply[stock_service_pb2.BeginPaymentResponse]) -> pb.PayResponse:
    result = reply.response.result
    state = translation.order_state(reply.state)
    response = pb.PayResponse(
        outcome=result.outcome,
        refusal=_pay_refusal(state),
        conflict_field=result.conflict_field,
        order_state=views.state_value(state),
        level=result.level,
        level_epoch=result.level_epoch,
    )
    if result.HasField("come_back_time"):
        response.come_back_time.CopyFrom(result.come_back_time)
    return response


def _pay_refusal(state: OrderState | None) -> pb.Refusal.ValueType:
    is_paid = state is OrderState.PAID
    return pb.REFUSAL_ALREADY_PAID if is_paid else pb.REFUSAL_UNSPECIFIED


def _started(
    started: payment_service_pb2.StartAttemptResponse,
) -> tuple[Outcome, pb.Refusal.ValueType]:
    """Returns what the buyer is told of the attempt's start."""
    payment = payment_service_pb2
    if started.attempt.state == payment.ATTEMPT_STATE_SUCCEEDED:
        return Outcome.OK, pb.REFUSAL_ALREADY_PAID
    match started.refusal:
        case payment.REFUSAL_UNSPECIFIED:
            return Outcome.OK, pb.REFUSAL_UNSPECIFIED
        case payment.REFUSAL_CONFLICT:
            return Outcome.CONFLICT, pb.REFUSAL_CONFLICT
        case payment.REFUSAL_TOO_MANY_ATTEMPTS:
            return Outcome.TOO_MANY_ATTEMPTS, pb.REFUSAL_UNSPECIFIED
        case payment.REFUSAL_ALREADY_CLOSED:
            return Outcome.WRONG_STATE, pb.REFUSAL_UNSPECIFIED
        case _:
            return Outcome.OK, pb.REFUSAL_PROVIDER_DOWN
