"""An order service in memory, with stand-ins around it.

Owns: the wiring and what buyers and operators do. Next: `ledger`, its ledger.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from tests.storage import open_database

from lastunit.account.v1.account_service_pb2 import WatchPersonsResponse
from lastunit.client.outcomes import (
    AttemptState,
    Disposition,
    State,
)
from lastunit.order import store
from lastunit.order.core import OrderCore
from lastunit.order.person_watch import PersonWatch
from lastunit.order.persons import AccountState, PersonDirectory, ResolvedPerson
from lastunit.order.schema import ORDER_METADATA
from lastunit.order.settings import OrderSettings
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.v1 import payment_service_pb2
from lastunit.prices.catalogue import plain
from lastunit.prices.quote import Prices
from lastunit.service.clock import SimulatedClock
from lastunit.service.database import Lane
from lastunit.stock.v1 import (
    reservation_pb2,
)

from .ledger import START_MS, LedgerDouble, no_answer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    import sqlalchemy as sa

    from lastunit.errors import LastunitError
    from lastunit.order.doorman import Doorman
    from lastunit.service.database import Database


class PaymentDouble:
    """Starts and refunds attempts, and remembers in which order ledger and provider were called.

    Attributes:
        refunds: Every refund by its request id; a test sets how far it is.
        refund_state: How far a new one is at once.
        transitions: What it explains.
    """

    def __init__(self, ledger: LedgerDouble) -> None:
        self.refunds: dict[str, payment_service_pb2.Refund] = {}
        self.refund_state = payment_service_pb2.REFUND_STATE_DONE
        self.refund_refusal = payment_service_pb2.REFUSAL_UNSPECIFIED
        self.refund_errors: deque[LastunitError] = deque()
        self.lost_refund_replies: deque[LastunitError] = deque()
        self.transitions: list[payment_service_pb2.Transition] = []
        self.list_error: LastunitError | None = None
        self.started: list[str] = []
        self.refusal = payment_service_pb2.REFUSAL_UNSPECIFIED
        self.errors: deque[LastunitError] = deque()
        self._ledger = ledger

    async def start_attempt(
        self, request: payment_service_pb2.StartAttemptRequest
    ) -> payment_service_pb2.StartAttemptResponse:
        """Starts an attempt; the ledger must know it already."""
        begun = {
            event.payment_begun.attempt_id
            for event in self._ledger.events
            if event.HasField("payment_begun")
        }
        assert request.attempt_id in begun, "the provider would be called before the ledger knows"
        self.started.append(request.attempt_id)
        if self.errors:
            raise self.errors.popleft()
        response = payment_service_pb2.StartAttemptResponse(refusal=self.refusal)
        if not self.refusal:
            response.attempt.attempt_id = request.attempt_id
            response.attempt.pay_url = f"http://pay/{request.attempt_id}"
        return response

    async def refund_attempt(
        self, request: payment_service_pb2.RefundAttemptRequest
    ) -> payment_service_pb2.RefundAttemptResponse:
        """Gives money back once for each request id."""
        if self.refund_errors:
            raise self.refund_errors.popleft()
        if self.refund_refusal:
            return payment_service_pb2.RefundAttemptResponse(refusal=self.refund_refusal)
        found = self.refunds.get(request.request_id)
        if found is None:
            found = payment_service_pb2.Refund(
                refund_id=f"at-{request.request_id}",
                attempt_id=request.attempt_id,
                request_id=request.request_id,
                amount_minor=request.amount_minor,
                state=self.refund_state,
                reason=request.reason,
            )
            self.refunds[request.request_id] = found
        asked = (request.attempt_id, request.amount_minor, request.reason)
        assert asked == (found.attempt_id, found.amount_minor, found.reason), "another request"
        if self.lost_refund_replies:
            raise self.lost_refund_replies.popleft()
        return payment_service_pb2.RefundAttemptResponse(refund=found)

    async def list_transitions(
        self, request: payment_service_pb2.ListTransitionsRequest
    ) -> payment_service_pb2.ListTransitionsResponse:
        """Lists what the test has put there, two to a page."""
        if self.list_error is not None:
            raise self.list_error
        start = int(request.page_token or 0)
        response = payment_service_pb2.ListTransitionsResponse(
            transitions=self.transitions[start : start + 2]
        )
        if start + 2 < len(self.transitions):
            response.next_page_token = str(start + 2)
        return response


class AccountDouble:
    """Knows every account called `account-…`; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.states: dict[str, AccountState] = {}
        self.persons: dict[str, str] = {}
        self.versions: dict[str, int] = {}

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        """Returns the persons."""
        self.calls.append(len(account_ids))
        return {
            account_id: ResolvedPerson(
                self.persons.get(account_id, account_id.replace("account", "person")),
                account_id.replace("account", "person"),
                self.states.get(account_id, AccountState.ACTIVE),
                self.versions.get(account_id, 1),
            )
            for account_id in account_ids
            if account_id.startswith("account-")
        }

    async def watch_persons(self, after_sequence: int) -> AsyncGenerator[WatchPersonsResponse]:
        """Is never opened: tests hand the changes over themselves."""
        raise AssertionError(f"opened after {after_sequence}")
        yield WatchPersonsResponse()


class CountingRunner:
    """Counts transactions by lane, and can lose one."""

    def __init__(self, database: Database) -> None:
        self.counts: Counter[Lane] = Counter()
        self.fail_next = False
        self._database = database

    async def run(
        self, work: Callable[[sa.Connection], Any], *, lane: Lane = Lane.RESERVATION
    ) -> Any:
        """Runs a unit of work."""
        self.counts[lane] += 1
        if self.fail_next:
            self.fail_next = False
            raise no_answer()
        return await self._database.run(work, lane=lane)


class World:
    """One order service with stand-ins around it."""

    def __init__(self, units: int = 10, settings: OrderSettings | None = None) -> None:
        self.clock = SimulatedClock(START_MS)
        self.ledger = LedgerDouble(units)
        self.payments = PaymentDouble(self.ledger)
        self.accounts = AccountDouble()
        self.database = open_database(ORDER_METADATA)
        self.runner = CountingRunner(self.database)
        self.settings = settings or OrderSettings()
        self.prices = Prices(plain(default_minor=84_000))
        self.doorman: Doorman | None = None
        self.core = self.new_core()
        self.person_watch = PersonWatch(
            database=self.database, accounts=self.accounts, directory=self.persons
        )

    def new_core(self) -> OrderCore:
        """Returns a service as after a restart: same file, nothing in memory."""
        self.persons = PersonDirectory(self.accounts, self.clock)
        return OrderCore(
            database=self.database,
            ledger=self.ledger,
            persons=self.persons,
            payments=self.payments,
            prices=self.prices,
            clock=self.clock,
            settings=self.settings,
            runner=self.runner,
            doorman=self.doorman,
        )

    async def place(
        self,
        request_id: str = "request-1",
        account_id: str = "account-1",
        lines: Sequence[tuple[str, int]] = (("phone", 1),),
        coupon_id: str = "",
    ) -> pb.PlaceOrderResponse:
        """Places an order."""
        request = pb.PlaceOrderRequest(
            request_id=request_id, account_id=account_id, sale_id="flash", coupon_id=coupon_id
        )
        for sku, units in lines:
            request.lines.add(sku=sku, units=units)
        return await self.core.place_order(request)

    async def pay(
        self, order_id: str, request_id: str = "pay-1", method: str = "card"
    ) -> pb.PayResponse:
        """Starts a payment."""
        return await self.core.pay(
            pb.PayRequest(request_id=request_id, order_id=order_id, method=method)
        )

    async def cancel(self, order_id: str, request_id: str = "cancel-1") -> pb.CancelResponse:
        """Cancels an order."""
        return await self.core.cancel(pb.CancelRequest(request_id=request_id, order_id=order_id))

    async def buy(
        self,
        request_id: str = "request-1",
        account_id: str = "account-1",
        lines: Sequence[tuple[str, int]] = (("phone", 1),),
        coupon_id: str = "",
    ) -> str:
        """Places and pays an order; returns its id."""
        order_id = (await self.place(request_id, account_id, lines, coupon_id)).order_id
        attempt_id = (await self.pay(order_id)).attempt_id
        self.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
        await self.show(order_id)
        return order_id

    async def refund(
        self, order_id: str, amount_minor: int = 0, request_id: str = "refund-1"
    ) -> pb.RefundResponse:
        """Asks for money back; 0 for all that is left."""
        return await self.core.refund(
            pb.RefundRequest(
                request_id=request_id,
                order_id=order_id,
                amount_minor=amount_minor,
                reason="buyer asked",
                actor="desk-1",
            )
        )

    async def ship(self, order_id: str, request_id: str = "ship-1") -> pb.ShipResponse:
        """Says that the goods left."""
        return await self.core.ship(
            pb.ShipRequest(
                request_id=request_id, order_id=order_id, carrier="post", actor="warehouse-1"
            )
        )

    async def deliver(self, order_id: str, request_id: str = "deliver-1") -> pb.DeliverResponse:
        """Says that the goods arrived."""
        return await self.core.deliver(
            pb.DeliverRequest(request_id=request_id, order_id=order_id, actor="post-1")
        )

    async def give_back(
        self,
        order_id: str,
        lines: Sequence[tuple[str, int]] = (("phone", 1),),
        request_id: str = "return-1",
        *,
        does_refund: bool = True,
        disposition: Disposition = Disposition.RESELL,
    ) -> pb.ReturnGoodsResponse:
        """Says that goods came back."""
        request = pb.ReturnGoodsRequest(
            request_id=request_id,
            order_id=order_id,
            disposition=reservation_pb2.Disposition.ValueType(disposition.value),
            does_refund=does_refund,
            reason="did not fit",
            actor="warehouse-1",
        )
        for sku, units in lines:
            request.lines.add(sku=sku, units=units)
        return await self.core.return_goods(request)

    async def settle_down(self) -> None:
        """Carries on with refunds and returns, hour by hour, until nothing is left to do."""
        for _ in range(48):
            while await self.core.deliver_once() or await self.core.follow_once():
                pass
            self.clock.advance_to(self.clock.now_ms() + 1_800_000)

    async def show(self, order_id: str, *, is_followed: bool = True) -> pb.GetOrderResponse:
        """Shows an order, after the ledger's events are taken in."""
        while is_followed and await self.core.follow_once():
            pass
        return await self.core.get_order(pb.GetOrderRequest(order_id=order_id))

    def transitions(self, order_id: str) -> Sequence[sa.Row[Any]]:
        """Returns the stored transitions of an order."""
        with self.database.read() as connection:
            return store.load_transitions(connection, order_id, limit=1_000)

    def close(self) -> None:
        """Closes the database."""
        self.database.close()
