"""Random histories from a seed: operations that meet each other often.

Owns what is asked, how often and with which ids. Must not look at answers: a history is a plain
list, so that any part of it can be left out and the rest still makes sense.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.reference.words import duration, timestamp
from lastunit.stock.v1 import reservation_pb2, sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

START_MS: Final = 1_700_000_000_000
WINDOW: Final = 12
# After so many operations one sale gives way to a new one: most that are old are over.
SALE_LIFE: Final = 150
SKUS: Final = ("red", "blue")
POOLS: Final = ("north", "south", "east")
PROVIDERS: Final = ("", "wallet", "card")
SECOND: Final = 1_000


@dataclass(frozen=True)
class Clock:
    """Moves ledger time forward by so many milliseconds and lets timers run."""

    by_ms: int


@dataclass(frozen=True)
class Reopen:
    """Opens the ledger anew: from the snapshot of a clean end, or from what a dead one left."""

    is_clean: bool


Operation = Any


class History:
    """Makes one history.

    Args:
        seed: The same seed makes the same history.
        operations: How many, 1 or more.
        reopens: Whether the ledger is closed and opened now and then.
    """

    def __init__(self, seed: int, operations: int, *, reopens: bool = False) -> None:
        self.random = random.Random(seed)
        self.count = operations
        self.reopens = reopens
        self.now = START_MS
        self.serial = 0
        self.reservations: list[str] = ["nobody"]
        self.attempts: list[tuple[str, str]] = [("nobody", "nothing")]
        self.sent: list[Any] = []
        self.sales: list[str] = []
        self.persons = [f"person-{i}" for i in range(self.random.choice((3, 6, 12)))]

    def operations(self) -> list[Operation]:
        """Returns the history: what makes the sales, then a random mix."""
        history: list[Operation] = []
        for _ in range(self.random.choice((1, 2, 3))):
            history += self.opening()
        kinds = [kind for kind, _ in self.mix()]
        weights = [weight for _, weight in self.mix()]
        renewed = 0
        while len(history) < self.count:
            if len(history) - renewed > SALE_LIFE:
                renewed = len(history)
                history += self.opening()
            [kind] = self.random.choices(kinds, weights)
            operation = kind()
            if not isinstance(operation, (Clock, Reopen)):
                self.sent.append(operation)
                del self.sent[:-60]
            history.append(operation)
        return history

    def mix(self) -> list[tuple[Callable[[], Operation], float]]:
        """Returns each kind of operation with how often it comes."""
        return [
            (self.reserve, 26),
            (self.begin, 14),
            (self.settle, 16),
            (self.confirm, 4),
            (self.release, 4),
            (self.extend, 3),
            (self.return_units, 8),
            (self.record_refund, 3),
            (self.again, 7),
            (self.again_otherwise, 3),
            (self.get_reservation, 3),
            (self.get_availability, 4),
            (self.list_reservations, 0.5),
            (self.clock, 4),
            (self.supply, 1.2),
            (self.withdraw, 0.4),
            (self.adjust, 0.4),
            (self.move, 0.5),
            (self.pour, 0.5),
            (self.put_pool, 0.5),
            (self.put_sale, 0.4),
            (self.set_sale_state, 0.5),
            (self.release_unverified, 0.7),
            (self.merge, 0.15),
            (self.split, 0.15),
            (self.brake, 0.2),
            (self.explain, 0.3),
            (self.audit, 0.05),
            (self.reopen, 0.02 if self.reopens else 0),
        ]

    # Ids and the like.

    def new(self, kind: str) -> str:
        """Returns an id that was not used before."""
        self.serial += 1
        return f"{kind}-{self.serial}"

    def pick(self, *choices: Any) -> Any:
        """Returns one of some."""
        return self.random.choice(choices)

    def some_reservation(self) -> str:
        """Returns a recent reservation most of the time, any other otherwise."""
        recent = self.reservations[-WINDOW:]
        return self.random.choice(recent if self.random.random() < 0.9 else self.reservations)

    def some_sale(self) -> str:
        """Returns one of the last three sales; seldom one that does not exist."""
        return "nowhere" if self.odd(0.01) else self.pick(*self.sales[-3:])

    def odd(self, chance: float) -> bool:
        """Tells whether something rare happens."""
        return self.random.random() < chance

    def by(self) -> dict[str, Any]:
        """Returns what every admin request carries."""
        return {"request_id": self.new("q"), "actor": "operator", "reason": "drill"}

    def asks(self) -> dict[str, Any]:
        """Returns what most settling requests carry."""
        return {"request_id": self.new("q"), "reservation_id": self.some_reservation()}

    def pool_of(self) -> dict[str, Any]:
        """Returns what names a pool; seldom one that does not exist."""
        return {
            "sale_id": self.some_sale(),
            "sku": "ghost" if self.odd(0.03) else self.pick(*SKUS),
            "pool": "ghost" if self.odd(0.03) else self.pick(*POOLS),
        }

    # The sale and its stock.

    def opening(self) -> list[Operation]:
        """Makes a sale with its pools and a little stock."""
        sale_id = self.new("sale")
        self.sales.append(sale_id)
        made: list[Operation] = [self.put_sale(sale_id, is_first=True)]
        for sku in SKUS:
            for pool in self.random.sample(POOLS, self.random.choice((1, 2, 3))):
                made.append(self.put_pool(sale_id=sale_id, sku=sku, pool=pool))
                where = {"sale_id": sale_id, "sku": sku, "pool": pool}
                units = self.random.randint(1, 12)
                supply = admin_pb2.SupplyStockRequest(**self.by(), **where, units=units)
                made.append(supply)
                if self.odd(0.4):
                    supply = admin_pb2.SupplyStockRequest(
                        **self.by(), **where, units=self.random.randint(1, 3), is_buffer=True
                    )
                    made.append(supply)
        return made

    def policy(self) -> sale_pb2.SalePolicy:
        """Returns rules: most of them far from the defaults now and then."""
        policy = sale_pb2.SalePolicy(
            units_per_person_per_sku_max=self.pick(0, 0, 1, 3),
            units_per_person_max=self.pick(0, 0, 2, 5),
            is_unverified_release_allowed=self.odd(0.5),
            does_return_give_limit_back=self.odd(0.5),
            does_forget_while_open=self.odd(0.07),
        )
        if self.odd(0.8):
            policy.unpaid_reservations_per_person_max = self.pick(0, 1, 2, 3)
        if self.odd(0.3):
            policy.attempts_per_reservation_max = self.pick(1, 2, 3)
        if self.odd(0.3):
            policy.low_level_percent = self.pick(0, 50, 100)
        for span, choices in (
            ("reservation_ttl", (60, 300, 600)),
            ("settle_by", (30, 900)),
            ("retry_grace", (0, 10, 600)),
            ("max_life", (120, 900, 1800)),
            ("expiry_brake_lag", (0, 30)),
            ("forget_after", (1, 600, 3_600)),
        ):
            if self.odd(0.3):
                getattr(policy, span).CopyFrom(duration(self.pick(*choices) * SECOND))
        return policy

    def put_sale(self, sale_id: str = "", *, is_first: bool = False) -> Operation:
        """Makes or changes a sale."""
        request = admin_pb2.PutSaleRequest(
            **self.by(), sale_id=sale_id or self.some_sale(), policy=self.policy()
        )
        if self.odd(0.2 if is_first else 0.5):
            request.opens_time.CopyFrom(timestamp(self.now + self.pick(-60, 0, 30) * SECOND))
        if self.odd(0.15 if is_first else 0.4):
            request.closes_time.CopyFrom(
                timestamp(self.now + self.pick(-30, 60, 900, 9000) * SECOND)
            )
        if self.odd(0.3):
            request.expected_revision = self.pick(0, 0, 1, 2) if not is_first else 0
        return request

    def set_sale_state(self) -> Operation:
        """Moves a sale, mostly to where life goes on."""
        state = self.pick(2, 2, 2, 2, 3, 3, 4, 1, 5, 6) if self.odd(0.6) else 2
        return admin_pb2.SetSaleStateRequest(**self.by(), sale_id=self.some_sale(), state=state)

    def put_pool(self, **where: str) -> Operation:
        """Makes or changes a pool."""
        where = where or self.pool_of()
        labels = {"place": self.pick("dock", "shop")} if self.odd(0.3) else {}
        return admin_pb2.PutPoolRequest(
            **self.by(),
            **where,
            position=self.pick(0, 0, 1, 2),
            labels=labels,
            is_offered=not self.odd(0.2),
        )

    def supply(self) -> Operation:
        """Adds units."""
        units = 999_999_999_999 if self.odd(0.03) else self.random.randint(1, 6)
        return admin_pb2.SupplyStockRequest(
            **self.by(), **self.pool_of(), units=units, is_buffer=self.odd(0.3)
        )

    def withdraw(self) -> Operation:
        """Takes units out."""
        units = 999_999_999_999 if self.odd(0.1) else self.random.randint(1, 4)
        return admin_pb2.WithdrawStockRequest(
            **self.by(), **self.pool_of(), units=units, is_buffer=self.odd(0.3)
        )

    def adjust(self) -> Operation:
        """Sets a count; small numbers, so that the guess is right now and then."""
        return admin_pb2.AdjustStockRequest(
            **self.by(),
            **self.pool_of(),
            expected_available=self.random.randint(0, 3),
            available=1_000_000_000_000 if self.odd(0.1) else self.random.randint(0, 6),
        )

    def move(self) -> Operation:
        """Moves units between pools."""
        where = self.pool_of()
        where["source_pool"] = where.pop("pool")
        return admin_pb2.MoveStockRequest(
            **self.by(),
            **where,
            target_pool=self.pick(*POOLS),
            units=self.random.randint(1, 4),
        )

    def pour(self) -> Operation:
        """Offers the buffer."""
        return admin_pb2.PourBufferRequest(
            **self.by(), **self.pool_of(), units=self.random.randint(1, 3)
        )

    def release_unverified(self) -> Operation:
        """Gives units back without the provider's word."""
        return admin_pb2.ReleaseUnverifiedRequest(
            **self.by(), reservation_id=self.some_reservation()
        )

    def merge(self) -> Operation:
        """Counts one person as another."""
        return admin_pb2.MergePersonsRequest(
            **self.by(),
            source_person_id=self.pick(*self.persons),
            target_person_id=self.pick(*self.persons),
        )

    def split(self) -> Operation:
        """Counts persons apart again, now and then some who were never together."""
        several = self.random.sample(self.persons, self.pick(1, 1, 1, 2, 2, 3))
        return admin_pb2.SplitPersonsRequest(**self.by(), person_ids=several)

    def brake(self) -> Operation:
        """Puts the brake on or off."""
        request = admin_pb2.SetExpiryBrakeRequest(**self.by(), is_on=self.odd(0.5))
        if self.odd(0.7):
            request.until_time.CopyFrom(timestamp(self.now + self.pick(-1, 60, 900) * SECOND))
        return request

    # The life of reservations.

    def line(self) -> reservation_pb2.Line:
        """Returns one line; seldom of what does not exist."""
        return reservation_pb2.Line(
            sku="ghost" if self.odd(0.01) else self.pick(*SKUS),
            pool=("ghost" if self.odd(0.05) else self.pick(*POOLS)) if self.odd(0.25) else "",
            units=self.pick(1, 1, 1, 1, 2, 2, 3, 9),
        )

    def reserve(self) -> Operation:
        """Asks for units."""
        request = stock_pb2.ReserveRequest(
            reservation_id=self.new("r"),
            sale_id=self.some_sale(),
            person_id=self.pick(*self.persons) if self.odd(0.7) else self.new("p"),
            lines=[self.line() for _ in range(self.pick(1, 1, 1, 2, 3))],
        )
        if self.odd(0.3):
            request.ttl.CopyFrom(duration(self.pick(1, 30, 300, 5000) * SECOND + self.pick(0, 1)))
        if self.odd(0.2):
            # Not the present millisecond itself: known difference, see the page of the model.
            ahead = self.pick(-1, 1, SECOND, 600 * SECOND, 20_000 * SECOND)
            request.not_after_time.CopyFrom(timestamp(self.now + ahead))
        self.reservations.append(request.reservation_id)
        return request

    def begin(self) -> Operation:
        """Opens an attempt."""
        reservation_id = self.some_reservation()
        attempt_id = self.new("a")
        request = stock_pb2.BeginPaymentRequest(
            reservation_id=reservation_id,
            attempt_id=attempt_id,
            provider=self.pick(*PROVIDERS),
            currency=self.pick("", "EUR"),
        )
        if self.odd(0.5):
            request.amount_minor = self.pick(0, 100)
        self.attempts.append((reservation_id, attempt_id))
        return request

    def some_attempt(self) -> tuple[str, str]:
        """Returns a recent attempt with its reservation; seldom a wrong pair or a new one."""
        recent = self.attempts[-WINDOW:]
        pair = self.random.choice(recent if self.odd(0.9) else self.attempts)
        if self.odd(0.1):
            pair = (self.some_reservation(), self.new("u"))
            self.attempts.append(pair)
        elif self.odd(0.03):
            pair = (self.some_reservation(), pair[1])
        return pair

    def settle(self) -> Operation:
        """Reports what a provider said."""
        reservation_id, attempt_id = self.some_attempt()
        request = stock_pb2.SettlePaymentRequest(
            request_id=self.new("q"),
            reservation_id=reservation_id,
            attempt_id=attempt_id,
            payment_result=self.pick(1, 1, 2, 3),
            evidence=self.pick("", "proof"),
        )
        if self.odd(0.3):
            request.occurred_time.CopyFrom(
                timestamp(self.now - self.pick(-5, 0, 5, 45, 90) * SECOND)
            )
        return request

    def confirm(self) -> Operation:
        """Sells without a payment."""
        return stock_pb2.ConfirmRequest(**self.asks())

    def release(self) -> Operation:
        """Gives units back."""
        return stock_pb2.ReleaseRequest(**self.asks(), release_reason=self.pick(1, 5))

    def extend(self) -> Operation:
        """Prolongs a hold."""
        span = duration(self.pick(1, 60, 600, 1700, 1800, 2000) * SECOND)
        return stock_pb2.ExtendRequest(**self.asks(), extension=span)

    def return_units(self) -> Operation:
        """Books goods that came back."""
        request = stock_pb2.ReturnRequest(
            **self.asks(),
            sku="ghost" if self.odd(0.03) else self.pick(*SKUS),
            pool=("ghost" if self.odd(0.1) else self.pick(*POOLS)) if self.odd(0.3) else "",
            units=self.pick(1, 1, 2, 3),
            disposition=self.pick(1, 2, 3),
        )
        if self.odd(0.4):
            request.give_limit_back = self.odd(0.5)
        return request

    def record_refund(self) -> Operation:
        """Records that money went back."""
        reservation_id, attempt_id = self.some_attempt()
        return stock_pb2.RecordRefundRequest(
            request_id=self.new("q"),
            reservation_id=reservation_id,
            attempt_id=attempt_id,
            evidence=self.pick("", "proof"),
        )

    # Copies of earlier requests.

    def again(self) -> Operation:
        """Sends a recent request once more, as it was."""
        return self.random.choice(self.sent) if self.sent else self.reserve()

    def again_otherwise(self) -> Operation:
        """Sends a recent request once more with one field changed."""
        copy = type(request := self.again())()
        copy.CopyFrom(request)
        fields = [field for field in copy.DESCRIPTOR.fields if field.name in CHANGES]
        if fields:
            name = self.random.choice(fields).name
            CHANGES[name](self, copy)
        return copy

    # Looking, waiting, dying.

    def get_reservation(self) -> Operation:
        """Looks at a reservation."""
        return stock_pb2.GetReservationRequest(reservation_id=self.some_reservation())

    def get_availability(self) -> Operation:
        """Looks at stock."""
        skus = [self.pick(*SKUS, "ghost")] if self.odd(0.3) else []
        return stock_pb2.GetAvailabilityRequest(sale_id=self.some_sale(), skus=skus)

    def list_reservations(self) -> Operation:
        """Looks at the first page of a sale's reservations."""
        return stock_pb2.ListReservationsRequest(
            sale_id=self.some_sale(),
            person_id=self.pick("", *self.persons),
            state=self.pick(0, 0, 1, 2, 4, 5),
            page_size=1000,
        )

    def explain(self) -> Operation:
        """Asks for the life of a reservation."""
        return admin_pb2.ExplainReservationRequest(reservation_id=self.some_reservation())

    def audit(self) -> Operation:
        """Asks for a check."""
        return admin_pb2.AuditRequest()

    def clock(self) -> Operation:
        """Lets time pass."""
        by_ms = self.pick(0, 1, 1_000, 30_000, 59_999, 60_000, 120_000, 600_000, 900_000)
        self.now += by_ms
        return Clock(by_ms)

    def reopen(self) -> Operation:
        """Closes and opens the ledger."""
        return Reopen(is_clean=self.odd(0.5))


def _swap(name: str, *choices: Any) -> Callable[[History, Any], None]:
    def change(history: History, request: Any) -> None:
        setattr(request, name, history.pick(*choices))

    return change


def _other_reservation(history: History, request: Any) -> None:
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        request.reservation_id = history.some_reservation()


def _more_units(history: History, request: Any) -> None:
    request.units = history.pick(1, 2, 3, 4)


def _other_lines(history: History, request: Any) -> None:
    request.lines.append(history.line())


def _other_request(history: History, request: Any) -> None:
    used = [sent.request_id for sent in history.sent if hasattr(sent, "request_id")]
    request.request_id = history.pick(request.request_id, *used)


def _other_ttl(history: History, request: Any) -> None:
    request.ttl.CopyFrom(duration(history.pick(1, 5) * SECOND))


# How a copy of a request differs from the first one, by the field that is changed.
CHANGES: Final[dict[str, Callable[[History, Any], None]]] = {
    "reservation_id": _other_reservation,
    "sale_id": lambda history, request: setattr(request, "sale_id", history.some_sale()),
    "person_id": _swap("person_id", "person-0", "person-1"),
    "lines": _other_lines,
    "ttl": _other_ttl,
    "provider": _swap("provider", *PROVIDERS),
    "currency": _swap("currency", "", "EUR", "CNY"),
    "amount_minor": _swap("amount_minor", 0, 100),
    "payment_result": _swap("payment_result", 1, 2, 3),
    "evidence": _swap("evidence", "", "proof", "other"),
    "release_reason": _swap("release_reason", 1, 5),
    "extension": lambda history, request: request.extension.CopyFrom(
        duration(history.pick(2, 61) * SECOND)
    ),
    "sku": _swap("sku", *SKUS),
    "pool": _swap("pool", *POOLS),
    "units": _more_units,
    "disposition": _swap("disposition", 1, 2, 3),
    "give_limit_back": _swap("give_limit_back", True, False),
    "is_buffer": _swap("is_buffer", True, False),
    "position": _swap("position", 0, 1, 2),
    "is_offered": _swap("is_offered", True, False),
    "available": _swap("available", 0, 1, 2),
    "expected_available": _swap("expected_available", 0, 1, 2),
    "target_pool": _swap("target_pool", *POOLS),
    "state": _swap("state", 2, 3, 4),
    "is_on": _swap("is_on", True, False),
    "person_ids": lambda _, request: request.person_ids.reverse(),
    "actor": _swap("actor", "operator", "someone"),
    "policy": lambda history, request: request.policy.CopyFrom(history.policy()),
    "opens_time": lambda history, request: request.opens_time.CopyFrom(timestamp(history.now)),
    "not_after_time": lambda history, request: request.not_after_time.CopyFrom(
        timestamp(history.now + 2)
    ),
    "request_id": _other_request,
}
