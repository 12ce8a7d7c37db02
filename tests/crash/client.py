"""One client of the crash rounds: it sends all kinds of calls and remembers every answer.

Owns what a client keeps over the server's deaths: its reservations, the calls whose answer it never
got, the first answer to each call, the highest place it was shown. It trusts nothing else.
Must not: kill anybody (`places.py`) or compare clients with the ledger (`checks.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration
from tests.crash.calls import KINDS, Call, same_answer
from tests.crash.claims import (
    CONFIRMED,
    HELD,
    OK,
    OVERDUE,
    PAYING,
    REFUND_DUE,
    RELEASED,
    Claim,
)
from tests.crash.stall import Stall

from lastunit.stock.v1 import place_pb2, reservation_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    import threading

SALE, SHORT_SALE = "main-sale", "short-sale"
SKUS = ("a", "b", "c")
SECONDS = 10.0
BATCH_MAX = 24
# Claims that a client goes on with; older ones rest as they are.
OPEN_CLAIMS_MAX = 150
# Faults by which a call is refused before it has an effect, while the server lives.
NOT_NOW = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


class Connection:
    """The two listeners of one server's life."""

    def __init__(self, ready: dict[str, Any]) -> None:
        # A pool of its own: no answer of the server before this one comes through it.
        options = [("grpc.use_local_subchannel_pool", 1)]
        self.data = grpc.insecure_channel(ready["data"], options)
        self.settlement = grpc.insecure_channel(ready["settlement"], options)
        self.epoch = int(ready["epoch"])

    def close(self) -> None:
        """Gives up every call under way."""
        self.data.close()
        self.settlement.close()


class Client:
    """A client with its own reservations, persons and stall; runs in one thread at a time."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.random = random.Random(f"{seed} {name}")
        self.claims: dict[str, Claim] = {}
        self.open: list[Claim] = []
        self.stall = Stall(name, self.random)
        # Every changing call by its key.
        self.calls: dict[str, Call] = {}
        # Acknowledged calls that can be repeated, newest last.
        self.acknowledged: list[Call] = []
        self.unknown: list[Call] = []
        self.problems: list[tuple[str, str]] = []
        self.kinds: Counter[str] = Counter()
        self.outcomes: Counter[int] = Counter()
        # The highest state that any reply revealed, reads and refusals too.
        self.revealed = 0
        self.unknown_count = 0
        self.repeat_count = 0
        self._number = 0
        self._epoch = 0

    # What is sent.

    def run(self, connection: Connection, stop: threading.Event) -> None:
        """Sends batches until told to stop or the server is gone."""
        while not stop.is_set():
            calls = self.plan()
            if not self.send(connection, calls):
                return

    def plan(self) -> list[Call]:
        """Chooses the next calls, at most one on each claim; notes them as unknown."""
        self.open = [claim for claim in self.open if claim.state in {0, *_ALIVE}][-OPEN_CLAIMS_MAX:]
        size = self.random.choice((1, 1, 2, 8, BATCH_MAX))
        calls = [self._next() for _ in range(size)]
        changing = [call for call in calls if call.key]
        for call in changing:
            self.calls[call.key] = call
        self.unknown += changing
        return calls

    def _next(self) -> Call:
        free = [claim for claim in self.open if not claim.is_busy]
        if self.random.random() < 0.06:
            return self.stall.next_call(self.open)
        if not free or self.random.random() < 0.4:
            return self._reserve()
        claim = self.random.choice(free)
        return self._go_on(claim)

    def _reserve(self) -> Call:
        chosen = self.random.sample(SKUS, self.random.choice((1, 1, 1, 2, 3)))
        units = {sku: self.random.randint(1, 3) for sku in chosen}
        is_short = self.random.random() < 0.1
        claim = Claim(
            self._id("r"), SHORT_SALE if is_short else SALE, units, is_short=is_short, is_busy=True
        )
        self.claims[claim.reservation_id] = claim
        self.open.append(claim)
        lines = [reservation_pb2.Line(sku=sku, units=count) for sku, count in units.items()]
        request = stock.ReserveRequest(
            reservation_id=claim.reservation_id,
            sale_id=claim.sale_id,
            person_id=f"person-{claim.reservation_id}",
            lines=lines,
        )
        return Call(KINDS["Reserve"], request)

    def _go_on(self, claim: Claim) -> Call:
        if self.random.random() < 0.1:
            request = stock.GetReservationRequest(reservation_id=claim.reservation_id)
            return Call(KINDS["GetReservation"], request)
        if self.random.random() < 0.02:
            return Call(
                KINDS["GetAvailability"], stock.GetAvailabilityRequest(sale_id=claim.sale_id)
            )
        kind = self.random.choice(_MOVES.get(claim.state, ["Release"]))
        claim.is_busy = True
        fields: dict[str, Any] = {"reservation_id": claim.reservation_id}
        if kind == "BeginPayment":
            attempt = f"{claim.reservation_id}:{len(claim.attempts) + 1}"
            claim.attempts.append(attempt)
            return Call(KINDS[kind], stock.BeginPaymentRequest(**fields, attempt_id=attempt))
        return self._move(kind, claim, {**fields, "request_id": self._id("q")})

    def _move(self, kind: str, claim: Claim, fields: dict[str, Any]) -> Call:
        if kind == "SettlePayment" and not claim.attempts:
            kind = "Release"
        if kind == "RecordRefund" and not claim.refunds:
            kind = "Return"
        if kind == "SettlePayment":
            fields |= {
                "attempt_id": self.random.choice(claim.attempts),
                "payment_result": self.random.choice((1, 1, 2, 3)),
            }
        elif kind == "Release":
            fields["release_reason"] = reservation_pb2.RELEASE_REASON_CLIENT
        elif kind == "Extend":
            fields["extension"] = Duration(nanos=self.random.randint(1, 9) * 1_000_000)
        elif kind == "RecordRefund":
            fields["attempt_id"] = self.random.choice(claim.refunds)
        elif kind == "Return":
            sku = self.random.choice(list(claim.units))
            fields |= {"sku": sku, "units": 1, "disposition": self.random.choice((1, 2, 3))}
        request: Any = getattr(stock, f"{kind}Request")(**fields)
        return Call(KINDS[kind], request)

    def _id(self, letter: str) -> str:
        self._number += 1
        return f"{letter}-{self.name}-{self._number}"

    def moving(self) -> list[Claim]:
        """Returns the reservations that a timer may move."""
        claims = self.claims.values()
        return [claim for claim in claims if claim.is_short and len(claim.may_be()) > 1]

    # How it is sent.

    def send(self, connection: Connection, calls: list[Call]) -> bool:
        """Sends calls, in one Exchange where that takes them; returns whether all were answered."""
        self._epoch = connection.epoch
        batch = [call for call in calls if call.kind.field]
        single = [call for call in calls if not call.kind.field]
        if len(batch) == 1 or (len(batch) <= BATCH_MAX and self.random.random() < 0.1):
            single, batch = single + batch, []
        try:
            for call in single:
                self.note(call, call.send(self._channel(connection, call), SECONDS))
            return not batch or self._exchange(connection, batch + self._repeats())
        except grpc.RpcError as error:
            return self._failed(error)

    @staticmethod
    def _channel(connection: Connection, call: Call) -> grpc.Channel:
        is_data = call.kind.name == "Reserve" or not call.key
        return connection.data if is_data else connection.settlement

    def _repeats(self) -> list[Call]:
        """Returns a few acknowledged calls to be sent again, as clients do that doubt."""
        count = min(len(self.acknowledged), self.random.choice((0, 0, 1, 3)))
        recent = self.acknowledged[-200:]
        return list(self.random.sample(recent, min(count, len(recent))))

    def _exchange(self, connection: Connection, calls: list[Call]) -> bool:
        message = stock.ExchangeRequest(operations=[call.operation() for call in calls])
        stub: Any = StockServiceStub(connection.data)
        responses = list(stub.Exchange(iter([message]), timeout=SECONDS))
        replies = [reply for response in responses for reply in response.replies]
        if len(replies) != len(calls):
            self.problem("wrong", f"{len(replies)} replies to {len(calls)} operations")
            return False
        is_well = True
        for call, reply in zip(calls, replies, strict=True):
            if reply.WhichOneof("response") == "fault":
                is_well = self._refused(call, reply.fault)
            else:
                self.note(call, getattr(reply, call.kind.field))
        return is_well

    def _refused(self, call: Call, fault: Any) -> bool:
        if fault.code not in {code.value[0] for code in NOT_NOW}:
            self.problem("wrong", f"{call.kind.name} got {fault.reason}: {fault.message}")
        return False

    def _failed(self, error: Any) -> bool:
        if error.code() not in NOT_NOW:
            self.problem("wrong", f"a call got {error.code()}: {error.details()}")
        return False

    # What was answered.

    def note(self, call: Call, response: Any) -> None:
        """Notes an answer: the first one, or a repetition, which must be the same."""
        self._note_place(response)
        if call.first is not None:
            self._note_repeat(call, response)
            return
        call.first = response
        if not call.key:
            self._note_read(call, response)
            return
        self.unknown.remove(call)
        self.outcomes[response.result.outcome] += 1
        if response.result.outcome == OK:
            self.kinds[call.kind.name] += 1
            self.acknowledged += [call] if call.kind.field else []
        self._note_claim(call, response)

    def _note_claim(self, call: Call, response: Any) -> None:
        claim = self.claims.get(getattr(call.request, "reservation_id", ""))
        if claim is None:
            self.problem("wrong", self.stall.answered(call, response))
            return
        claim.is_busy = False
        if call.kind.name == "Reserve" and response.result.outcome != OK:
            # A refusal is not remembered: under this id nothing was ever reserved.
            del self.claims[claim.reservation_id]
            self.open.remove(claim)
        self.problem("wrong", claim.answered(call.kind.name, call.request, response))

    def _note_repeat(self, call: Call, response: Any) -> None:
        self.repeat_count += 1
        if not response.result.replayed:
            self.problem("doubled", f"{call.kind.name} {call.key} ran again: {response}")
        elif not same_answer(call.first, response):
            self.problem("doubled", f"{call.key} is answered {response}, first was {call.first}")

    def _note_read(self, call: Call, response: Any) -> None:
        if call.kind.name == "GetReservation":
            claim = self.claims[call.request.reservation_id]
            if not claim.is_busy:
                self.problem("wrong", claim.found(response.reservation.state))

    def _note_place(self, response: Any) -> None:
        place = response.place
        if place.durable_sequence < place.as_of_sequence:
            self.problem("wrong", f"a reply shows what is not durable: {place}")
        if place.durability != place_pb2.DURABILITY_FLUSHED or place.epoch != self._epoch:
            self.problem("wrong", f"a reply of epoch {self._epoch} says {place}")
        self.revealed = max(self.revealed, place.as_of_sequence)

    def problem(self, kind: str, text: str) -> None:
        """Keeps something that must not be; an empty text is no problem."""
        if text:
            self.problems.append((kind, " ".join(f"{self.name}: {text}".split())))


_ALIVE = (HELD, PAYING, OVERDUE, CONFIRMED, RELEASED, REFUND_DUE)
_MOVES = {
    HELD: ["BeginPayment", "BeginPayment", "BeginPayment", "Confirm", "Release", "Extend"],
    PAYING: ["SettlePayment", "SettlePayment", "SettlePayment", "BeginPayment", "Release"],
    OVERDUE: ["SettlePayment", "Release"],
    CONFIRMED: ["Return", "SettlePayment", "RecordRefund"],
    RELEASED: ["SettlePayment", "BeginPayment"],
    REFUND_DUE: ["RecordRefund"],
}
