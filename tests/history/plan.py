"""What one client asks for, in which order: a random walk over every operation of the contract.

Owns the choice of operations and ids. Must not look at replies: the ids are made so that others can
guess them, and a guess that is wrong is a refusal to be checked like any other reply. Next:
`client.py`, which sends them.
"""

from __future__ import annotations

import random
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import timestamp_pb2

from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .worlds import (
    EXTENSION_MS_MAX,
    PERSONS,
    POOLS,
    TTL_ASKED_MS_MAX,
    WORLDS,
    milliseconds,
    sale_id,
    signed,
    sku_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# What later operations speak of lies among so many of the last reservations.
_NEAR: Final = 120
_KINDS: Final = tuple(world.kind for world in WORLDS)
_SKUS: Final = {world.kind: world.skus for world in WORLDS}
_FAR_FUTURE: Final = timestamp_pb2.Timestamp(seconds=4_000_000_000)
_LONG_AGO: Final = timestamp_pb2.Timestamp(seconds=1)


class Plan:
    """The endless row of operations of one client in one round."""

    def __init__(self, seed: str, *, round_number: int, client: int, client_count: int) -> None:
        self._random = random.Random(seed)
        self._round = round_number
        self._client = client
        self._clients = client_count
        self._made = 0
        self._asked = 0
        self._sent: deque[stock.Operation] = deque(maxlen=400)
        weighted: tuple[tuple[float, Callable[[], stock.Operation]], ...] = (
            (0.30, self._reserve),
            (0.11, self._begin),
            (0.12, self._settle),
            (0.07, self._confirm),
            (0.06, self._release),
            (0.03, self._extend),
            (0.04, self._return),
            (0.03, self._refund),
            (0.09, self._show),
            (0.10, self._availability),
            (0.04, self._again),
            (0.01, self._altered),
            (0.002, self._invalid),
        )
        self._makers = [maker for _, maker in weighted]
        self._weights = list(accumulate(weight for weight, _ in weighted))

    def batch(self, count: int) -> list[stock.Operation]:
        """Returns the next operations, to be sent in this order."""
        makers = self._random.choices(self._makers, cum_weights=self._weights, k=count)
        made = [maker() for maker in makers]
        # A sample is enough to repeat from, and keeps the walk cheap.
        self._sent.extend(made[:4])
        return made

    def _name(self, client: int, number: int) -> str:
        return f"r{self._round}.{client}.{number}"

    def _own_id(self) -> str:
        self._asked += 1
        return f"q{self._round}.{self._client}.{self._asked}"

    def _some_reservation(self) -> str:
        """Names one of the latest reservations of this client or, at times, of another."""
        chance = self._random
        number = max(1, self._made - int(chance.random() * chance.random() * _NEAR))
        if chance.random() < 0.15:
            return self._name(int(chance.random() * self._clients), number)
        return self._name(self._client, number)

    def _some_attempt(self, reservation_id: str) -> str:
        return f"{reservation_id}:{1 + int(self._random.random() ** 2 * 3)}"

    def _reserve(self) -> stock.Operation:
        chance = self._random
        self._made += 1
        kind = chance.choice(_KINDS)
        request = stock.ReserveRequest(
            reservation_id=self._name(self._client, self._made),
            sale_id=sale_id(self._round, kind),
            person_id=f"p{int(chance.random() * PERSONS)}",
            lines=self._lines(kind),
        )
        special = chance.random()
        if special < 0.02:
            request.not_after_time.CopyFrom(_LONG_AGO if special < 0.01 else _FAR_FUTURE)
        elif special < 0.05:
            request.ttl.CopyFrom(milliseconds(int(50 + chance.random() * (TTL_ASKED_MS_MAX - 50))))
        elif special < 0.06:
            request.sale_id = f"{request.sale_id}.unknown"
        return stock.Operation(reserve=request)

    def _lines(self, kind: str) -> list[reservation.Line]:
        chance = self._random
        count = 1 if chance.random() < 0.85 else 1 + int(chance.random() * 4)
        lines = []
        for _ in range(count):
            sku = sku_name(int(chance.random() * _SKUS[kind]))
            pool = ""
            odd = chance.random()
            if odd < 0.06:
                pool = chance.choice(POOLS) if odd < 0.055 else "nowhere"
            elif odd < 0.065:
                sku = "sku-unknown"
            units = 1 if chance.random() < 0.8 else 1 + int(chance.random() * 5)
            lines.append(reservation.Line(sku=sku, pool=pool, units=units))
        return lines

    def _begin(self) -> stock.Operation:
        name = self._some_reservation()
        request = stock.BeginPaymentRequest(
            reservation_id=name, attempt_id=self._some_attempt(name), provider="sandbox"
        )
        if self._random.random() < 0.3:
            request.amount_minor, request.currency = 1999, "EUR"
        return stock.Operation(begin_payment=request)

    def _settle(self) -> stock.Operation:
        name = self._some_reservation()
        [result] = self._random.choices((1, 2, 3), cum_weights=(0.55, 0.85, 1.0))
        request = stock.SettlePaymentRequest(
            request_id=self._own_id(),
            reservation_id=name,
            attempt_id=self._some_attempt(name),
            payment_result=result,
            evidence="said so",
        )
        return stock.Operation(settle_payment=request)

    def _confirm(self) -> stock.Operation:
        request = stock.ConfirmRequest(
            request_id=self._own_id(), reservation_id=self._some_reservation()
        )
        return stock.Operation(confirm=request)

    def _release(self) -> stock.Operation:
        request = stock.ReleaseRequest(
            request_id=self._own_id(),
            reservation_id=self._some_reservation(),
            release_reason=1 if self._random.random() < 0.8 else 5,
        )
        return stock.Operation(release=request)

    def _extend(self) -> stock.Operation:
        # Over before its round is, or long after the run.
        bounds = (1, TTL_ASKED_MS_MAX), (EXTENSION_MS_MAX // 2, EXTENSION_MS_MAX)
        span = milliseconds(self._random.randint(*self._random.choice(bounds)))
        request = stock.ExtendRequest(
            request_id=self._own_id(), reservation_id=self._some_reservation(), extension=span
        )
        return stock.Operation(extend=request)

    def _return(self) -> stock.Operation:
        chance = self._random
        request = stock.ReturnRequest(
            request_id=self._own_id(),
            reservation_id=self._some_reservation(),
            sku=sku_name(int(chance.random() * 3)),
            pool=chance.choice(POOLS) if chance.random() < 0.2 else "",
            units=1 + int(chance.random() * 1.3),
            disposition=1 + int(chance.random() * 3),
        )
        if chance.random() < 0.3:
            request.give_limit_back = chance.random() < 0.5
        return stock.Operation(return_units=request)

    def _refund(self) -> stock.Operation:
        name = self._some_reservation()
        request = stock.RecordRefundRequest(
            request_id=self._own_id(),
            reservation_id=name,
            attempt_id=self._some_attempt(name),
            evidence="sent back",
        )
        return stock.Operation(record_refund=request)

    def _show(self) -> stock.Operation:
        request = stock.GetReservationRequest(reservation_id=self._some_reservation())
        return stock.Operation(get_reservation=request)

    def _availability(self) -> stock.Operation:
        chance = self._random
        kind = chance.choice(_KINDS)
        skus = [sku_name(int(chance.random() * _SKUS[kind]))]
        if chance.random() < 0.05:
            skus = [] if chance.random() < 0.5 else [*skus, "sku-unknown"]
        request = stock.GetAvailabilityRequest(sale_id=sale_id(self._round, kind), skus=skus)
        return stock.Operation(get_availability=request)

    def _again(self) -> stock.Operation:
        """Repeats an earlier operation word for word."""
        return self._random.choice(self._sent) if self._sent else self._reserve()

    def _altered(self) -> stock.Operation:
        """Repeats an earlier id with other content."""
        if not self._sent:
            return self._reserve()
        altered = stock.Operation()
        altered.CopyFrom(self._random.choice(self._sent))
        request: Any = getattr(altered, str(altered.WhichOneof("request")))
        if isinstance(request, stock.ReserveRequest):
            request.person_id = "p-other"
        elif isinstance(request, stock.GetAvailabilityRequest):
            request.sale_id = "r-unknown"
        elif request.reservation_id.count(".") == 2:
            request.reservation_id = self._some_reservation()
        return altered

    def _invalid(self) -> stock.Operation:
        """Asks for what the contract forbids: a fault, and no decision."""
        return stock.Operation(confirm=stock.ConfirmRequest(request_id="not an id"))


class OperatorPlan:
    """The row of calls of the one operator of a round."""

    def __init__(self, seed: str, *, round_number: int, client_count: int) -> None:
        self._random = random.Random(seed)
        self._round = round_number
        self._clients = client_count
        self._asked = 0
        self._makers: tuple[Callable[[dict[str, str]], tuple[str, Any]], ...] = (
            self._supply,
            self._withdraw,
            self._adjust,
            self._move,
            self._pour,
            self._merge,
            self._split,
            self._unverified,
            self._list,
            self._pool,
            self._pause,
            self._brake,
        )

    def next(self) -> tuple[str, Any]:
        """Returns the next call: method and request."""
        self._asked += 1
        return self._random.choice(self._makers)(signed(f"o{self._round}.{self._asked}"))

    def _where(self) -> dict[str, str]:
        kind = self._random.choice(_KINDS)
        sku = sku_name(int(self._random.random() * _SKUS[kind]))
        return {"sale_id": sale_id(self._round, kind), "sku": sku}

    def _pooled(self) -> dict[str, str]:
        return {**self._where(), "pool": self._random.choice(POOLS)}

    def _units(self) -> int:
        return 1 + int(self._random.random() * 40)

    def _flag(self) -> bool:
        return self._random.random() < 0.3

    def _supply(self, by: dict[str, str]) -> tuple[str, Any]:
        request = admin.SupplyStockRequest(
            **by, **self._pooled(), units=self._units(), is_buffer=self._flag()
        )
        return "SupplyStock", request

    def _withdraw(self, by: dict[str, str]) -> tuple[str, Any]:
        request = admin.WithdrawStockRequest(
            **by, **self._pooled(), units=self._units(), is_buffer=self._flag()
        )
        return "WithdrawStock", request

    def _adjust(self, by: dict[str, str]) -> tuple[str, Any]:
        expected = int(self._random.random() * 3)
        request = admin.AdjustStockRequest(
            **by, **self._pooled(), expected_available=expected, available=expected + 2
        )
        return "AdjustStock", request

    def _move(self, by: dict[str, str]) -> tuple[str, Any]:
        source, target = self._random.sample(POOLS, 2)
        request = admin.MoveStockRequest(
            **by, **self._where(), source_pool=source, target_pool=target, units=self._units()
        )
        return "MoveStock", request

    def _pour(self, by: dict[str, str]) -> tuple[str, Any]:
        return "PourBuffer", admin.PourBufferRequest(**by, **self._pooled(), units=self._units())

    def _merge(self, by: dict[str, str]) -> tuple[str, Any]:
        # A limit counts who is merged: only a few persons are ever concerned.
        source, target = self._random.sample(range(40), 2)
        request = admin.MergePersonsRequest(
            **by, source_person_id=f"p{source}", target_person_id=f"p{target}"
        )
        return "MergePersons", request

    def _split(self, by: dict[str, str]) -> tuple[str, Any]:
        # Mostly one, who may be alone already; two are refused unless they are together.
        some = self._random.sample(range(40), self._random.choice((1, 1, 2)))
        return "SplitPersons", admin.SplitPersonsRequest(
            **by, person_ids=[f"p{person}" for person in some]
        )

    def _unverified(self, by: dict[str, str]) -> tuple[str, Any]:
        client = int(self._random.random() * self._clients)
        name = f"r{self._round}.{client}.{1 + int(self._random.random() * 400)}"
        return "ReleaseUnverified", admin.ReleaseUnverifiedRequest(**by, reservation_id=name)

    def _list(self, by: dict[str, str]) -> tuple[str, Any]:
        request = stock.ListReservationsRequest(
            sale_id=sale_id(self._round, self._random.choice(_KINDS)),
            person_id=f"p{int(self._random.random() * PERSONS)}",
            state=int(self._random.random() * 5),
            page_size=20,
        )
        return "ListReservations", request

    def _pool(self, by: dict[str, str]) -> tuple[str, Any]:
        request = admin.PutPoolRequest(
            **by,
            **self._pooled(),
            position=int(self._random.random() * 3),
            is_offered=self._random.random() < 0.9,
        )
        return "PutPool", request

    def _pause(self, by: dict[str, str]) -> tuple[str, Any]:
        state = (
            sale_pb2.SALE_STATE_PAUSED if self._random.random() < 0.3 else sale_pb2.SALE_STATE_OPEN
        )
        request = admin.SetSaleStateRequest(
            **by, sale_id=sale_id(self._round, "limits"), state=state
        )
        return "SetSaleState", request

    def _brake(self, by: dict[str, str]) -> tuple[str, Any]:
        return "SetExpiryBrake", admin.SetExpiryBrakeRequest(**by, is_on=self._flag())
