"""A payment service in memory, with a ledger that records and answers by script.

Owns: the fakes. The database, the webhook and the sandbox are the real ones.
"""

from __future__ import annotations

import json
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import sqlalchemy as sa
from tests.storage import open_database

from lastunit.client.aio import EventPage
from lastunit.client.outcomes import AttemptState, Outcome, PaymentResult, Reply
from lastunit.errors import LastunitError, UnavailableError
from lastunit.payment import schema
from lastunit.payment.core import PaymentCore
from lastunit.payment.sandbox.core import SandboxCore
from lastunit.payment.sandbox.in_process import InProcessProvider
from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
from lastunit.payment.settings import PaymentSettings
from lastunit.payment.signature import sign
from lastunit.payment.v1 import payment_service_pb2 as pb
from lastunit.payment.webhook import Answer, Webhook
from lastunit.service.clock import SimulatedClock
from lastunit.stock.v1 import event_pb2, outcome_pb2, place_pb2, stock_service_pb2

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from lastunit.payment.dialect import Dialect
    from lastunit.payment.provider import Provider
    from lastunit.payment.sandbox.callbacks import Delivery
    from lastunit.payment.sandbox.knobs import SandboxKnobs

KEY = b"a key of sixteen bytes"
START_MS = 1_700_000_000_000
SETTLE_BY_MS = START_MS + 600_000
AMOUNT_MINOR = 84_000


@dataclass
class ScriptedLedger:
    """Records what it is told; answers OK unless told otherwise.

    Attributes:
        settlements: What `settle_payment` was called with, in order.
        refunds: What `record_refund` was called with, in order.
        errors: Raised by the next calls, one each.
        answers: Given by the next settlements instead of OK with APPLIED.
        events: The journal.
    """

    settlements: list[tuple[str, str, PaymentResult]] = field(default_factory=list)
    refunds: list[str] = field(default_factory=list)
    errors: deque[LastunitError] = field(default_factory=deque)
    answers: deque[stock_service_pb2.SettlePaymentResponse] = field(default_factory=deque)
    events: list[event_pb2.Event] = field(default_factory=list)

    async def settle_payment(
        self,
        request_id: str,
        *,
        reservation_id: str,
        attempt_id: str,
        payment_result: PaymentResult,
        occurred_ms: int | None = None,
        evidence: str = "",
    ) -> Reply[stock_service_pb2.SettlePaymentResponse]:
        """Records a settlement."""
        assert reservation_id
        assert occurred_ms
        assert 0 < len(evidence.encode()) <= 256
        self.settlements.append((request_id, attempt_id, payment_result))
        if self.errors:
            raise self.errors.popleft()
        if self.answers:
            return Reply(self.answers.popleft())
        state = AttemptState.APPLIED
        if payment_result is not PaymentResult.SUCCEEDED:
            state = AttemptState[payment_result.name]
        return Reply(settled(Outcome.OK, state))

    async def record_refund(
        self, request_id: str, *, reservation_id: str, attempt_id: str, evidence: str = ""
    ) -> Reply[stock_service_pb2.RecordRefundResponse]:
        """Records a refund."""
        assert reservation_id
        assert evidence
        assert request_id == f"{attempt_id}:refunded"
        self.refunds.append(attempt_id)
        if self.errors:
            raise self.errors.popleft()
        result = outcome_pb2.Result(outcome=outcome_pb2.OUTCOME_OK)
        return Reply(stock_service_pb2.RecordRefundResponse(place=place_pb2.Place(), result=result))

    async def read_event_page(self, after_sequence: int, *, page_size: int = 1024) -> EventPage:
        """Returns events after a position."""
        page = [event for event in self.events if event.sequence > after_sequence][:page_size]
        return EventPage(tuple(page), len(self.events), 1)

    def happen(self, **body: Any) -> None:
        """Appends an event of a reservation."""
        event = event_pb2.Event(sequence=len(self.events) + 1, reservation_id="order-1", **body)
        self.events.append(event)


def settled(
    outcome: Outcome, state: AttemptState, *, refund_due: bool = False
) -> stock_service_pb2.SettlePaymentResponse:
    """Returns an answer of the ledger."""
    return stock_service_pb2.SettlePaymentResponse(
        place=place_pb2.Place(),
        result=outcome_pb2.Result(outcome=outcome_pb2.Outcome.ValueType(outcome.value)),
        attempt_state=state.value,  # type: ignore[arg-type] # the same numbers as the contract's
        refund_due=refund_due,
    )


def over_http(app: Starlette) -> httpx.AsyncClient:
    """Returns a client that calls an app without a socket."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def no_answer() -> UnavailableError:
    """Returns the error of a ledger that does not answer."""
    return UnavailableError("no ledger", reason="UNAVAILABLE")


class World:
    """One payment service with its provider and its door, on one simulated clock."""

    def __init__(
        self,
        knobs: SandboxKnobs | None = None,
        settings: PaymentSettings | None = None,
        seed: int = 1,
    ) -> None:
        self.clock = SimulatedClock(START_MS)
        self.ledger = ScriptedLedger()
        self.database = open_database(PAYMENT_METADATA)
        self.inbox = open_database(INBOX_METADATA)
        self.sandbox = SandboxCore(self.clock, key=KEY, seed=seed, knobs=knobs)
        self.settings = settings or PaymentSettings()
        # Of a second provider, where a test has one.
        self.second = self.sandbox
        # Further providers, in their order.
        self.others: list[Provider] = []
        # How providers word their callbacks; ours if left out.
        self.dialects: dict[str, Dialect] = {}
        self.webhook = Webhook(self.inbox, {"sandbox": [KEY]}, self.clock)
        self.core = self.new_core()

    def new_core(self) -> PaymentCore:
        """Returns a service as after a restart: same files, nothing in memory."""
        return PaymentCore(
            database=self.database,
            inbox=self.inbox,
            ledger=self.ledger,
            providers=[InProcessProvider(self.sandbox), *self.others],
            clock=self.clock,
            settings=self.settings,
            random=random.Random(7),
            dialects=self.dialects,
        )

    def close(self) -> None:
        """Closes the databases."""
        self.database.close()
        self.inbox.close()

    async def start(self, attempt_id: str = "order-1:1", **changes: Any) -> pb.StartAttemptResponse:
        """Starts an attempt."""
        request = pb.StartAttemptRequest(
            attempt_id=attempt_id,
            order_id="order-1",
            reservation_id="order-1",
            provider="sandbox",
            method="card",
            amount_minor=AMOUNT_MINOR,
            currency="CNY",
        )
        request.settle_by_time.FromMilliseconds(SETTLE_BY_MS)
        for name, value in changes.items():
            if name == "settle_by_time":
                request.settle_by_time.CopyFrom(value)
            else:
                setattr(request, name, value)
        return await self.core.start_attempt(request)

    async def deliver(self) -> list[Answer]:
        """Posts every callback that is due to the door."""
        due = self.sandbox.deliveries_due(self.clock.now_ms())
        return [await self.post(delivery) for delivery in due]

    async def post(self, delivery: Delivery) -> Answer:
        """Posts one callback, and tells the sandbox if it was not taken."""
        answer = await self.webhook.receive("sandbox", delivery.headers, delivery.raw_body)
        if answer.status != 200:
            self.sandbox.delivery_failed(delivery)
        return answer

    async def tell(self, kind: str, event_id: str, **changes: Any) -> Answer:
        """Posts a signed callback of the test's own about `order-1:1`, and has it acted upon."""
        body: dict[str, Any] = {
            "event_id": event_id,
            "type": kind,
            "merchant_no": "order-1:1",
            "provider_no": "sandbox-1",
            "amount_minor": AMOUNT_MINOR,
            "currency": "CNY",
            "occurred_at": self.clock.now_ms(),
            "state_version": 9,
        }
        raw_body = json.dumps(body | changes).encode()
        timestamp = str(self.clock.now_ms() // 1000)
        headers = {
            "x-timestamp": timestamp,
            "x-event-id": event_id,
            "x-signature": sign(KEY, timestamp=timestamp, raw_body=raw_body),
        }
        answer = await self.webhook.receive("sandbox", headers, raw_body)
        await self.work()
        return answer

    async def work(self) -> None:
        """Runs every step until nothing is due any more at this instant."""
        while True:
            done = await self.core.process_inbox_once()
            done += await self.core.settle_once()
            done += await self.core.refund_once()
            done += await self.core.follow_once()
            if not done:
                return

    async def run_until(self, end_ms: int) -> None:
        """Lets time pass: callbacks arrive, the provider is asked, the ledger is told."""
        while True:
            await self.deliver()
            await self.work()
            await self.core.reconcile_once(self.clock.now_ms())
            await self.work()
            due = [self.core.next_due_ms(), self.sandbox.next_delivery_ms()]
            next_ms = min((each for each in due if each is not None), default=end_ms)
            if next_ms >= end_ms:
                self.clock.advance_to(end_ms)
                return
            self.clock.advance_to(max(next_ms, self.clock.now_ms() + 1))

    def state(self, attempt_id: str = "order-1:1") -> str:
        """Returns the state of an attempt."""
        with self.database.read() as connection:
            query = sa.select(schema.attempts.c.state).where(
                schema.attempts.c.attempt_id == attempt_id
            )
            return str(connection.execute(query).scalar_one())

    async def totals(self) -> dict[str, int]:
        """Returns the service's sums."""
        response = await self.core.get_totals(pb.GetTotalsRequest())
        return dict(response.counters)

    def results(self) -> list[PaymentResult]:
        """Returns what the ledger was told, in order."""
        return [result for _, _, result in self.ledger.settlements]
