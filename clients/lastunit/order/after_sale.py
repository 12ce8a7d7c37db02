"""What happens to an order after it is paid: refund, return, ship and deliver.

Owns the decisions, each in the one transaction that writes the fact, its transition and what has
still to be done; a call is answered once that is durable. Must not sleep, loop or call anybody.
Next: `lastunit.order.deliveries` tells payment service and ledger; `shares` splits the money.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.outcomes import AttemptState, Disposition
from lastunit.order import facts, refunds, shares, store
from lastunit.order.ids import digest
from lastunit.order.moves import CauseKind, Fact
from lastunit.order.shares import NotEnoughUnitsError, ReturnedUnits, UnknownPartError
from lastunit.order.states import (
    FULFILMENT_TRANSITIONS,
    FulfilmentEvent,
    FulfilmentState,
    OrderEvent,
    OrderState,
)
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import sqlalchemy as sa

    from lastunit.service.clock import Clock
    from lastunit.service.database import TransactionRunner

__all__ = ["AfterSale", "Answer"]

REFUNDS_MAX: Final = 64
RETURNS_MAX: Final = 64

_REFUNDABLE: Final = frozenset({OrderState.PAID, OrderState.RETURNED})
_SHIPPABLE: Final = frozenset({OrderState.PAID})


@dataclass(frozen=True, slots=True)
class Answer:
    """Is what came of a call.

    Attributes:
        order: The order as it stands after it; None if there is none.
        refusal: Why not; unspecified if it was carried out.
        is_replayed: True if the same call had been carried out before.
        conflict_field: The field that differs from that call; empty without a conflict.
        sku: The SKU that refused; otherwise empty.
        refund: The refund it made; None for none.
        left_minor: What could still be asked back, minor units.
    """

    order: sa.Row[Any] | None = None
    refusal: pb.Refusal.ValueType = pb.REFUSAL_UNSPECIFIED
    is_replayed: bool = False
    conflict_field: str = ""
    sku: str = ""
    refund: sa.Row[Any] | None = None
    left_minor: int = 0


@dataclass(frozen=True, slots=True)
class _Call:
    """Is one call of this module.

    Attributes:
        order_id: The order.
        request_id: The caller's id of it.
        actor: Who asks.
        reason: Why; may be empty.
        content: What a repeat must say again.
    """

    order_id: str
    request_id: str
    actor: str
    reason: str
    content: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Money:
    """Is what an order's money stands at.

    Attributes:
        attempt_id: The attempt that paid; empty if none did.
        parts: As they are stored.
        left: What is left of each part, minor units; all 0 if nobody paid.
        count: Refunds so far.
    """

    attempt_id: str
    parts: Sequence[Mapping[str, Any]]
    left: Sequence[int]
    count: int


class AfterSale:
    """Decides what is asked of paid orders.

    Args:
        runner: Writes the order service's tables.
        clock: Tells the time.
        on_moved: Told of orders that moved, once that is durable.
    """

    def __init__(
        self,
        *,
        runner: TransactionRunner,
        clock: Clock,
        on_moved: Callable[[Iterable[str]], None],
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._on_moved = on_moved

    async def refund(self, request: pb.RefundRequest) -> Answer:
        """Writes down that money of an order goes back."""
        call = _Call(
            request.order_id,
            request.request_id,
            request.actor,
            request.reason,
            {"method": "Refund", "amount_minor": request.amount_minor},
        )

        def decide(connection: sa.Connection, order: sa.Row[Any]) -> Answer:
            money = _money(connection, order)
            left = sum(money.left)
            if OrderState(order.state) not in _REFUNDABLE:
                return Answer(order, pb.REFUSAL_WRONG_STATE)
            if not left or request.amount_minor > left:
                return Answer(order, pb.REFUSAL_OVER_PAID, left_minor=left)
            if money.count >= REFUNDS_MAX:
                return Answer(order, pb.REFUSAL_TOO_MANY, left_minor=left)
            split = shares.share(request.amount_minor or left, money.left)
            self._owe(connection, order, call, money, split)
            return Answer()

        return await self._carry_out(call, decide)

    async def return_goods(self, request: pb.ReturnGoodsRequest) -> Answer:
        """Writes down that goods came back, and what they are worth if that goes back too."""
        merged: dict[tuple[str, str], int] = {}
        for line in request.lines:
            key = (line.sku, line.pool)
            merged[key] = merged.get(key, 0) + line.units
        units = [ReturnedUnits(*key, count) for key, count in sorted(merged.items())]
        call = _Call(
            request.order_id,
            request.request_id,
            request.actor,
            request.reason,
            {
                "method": "ReturnGoods",
                "lines": [[each.sku, each.pool, each.units] for each in units],
                "disposition": request.disposition,
                "does_refund": request.does_refund,
            },
        )

        def decide(connection: sa.Connection, order: sa.Row[Any]) -> Answer:
            if not _may(order, FulfilmentEvent.RETURN):
                return Answer(order, pb.REFUSAL_WRONG_STATE)
            money = _money(connection, order)
            before = refunds.load_returns(connection, order.order_id)
            try:
                split = shares.worth(
                    money.parts, money.left, before=refunds.returned_units(before), now=units
                )
            except UnknownPartError as error:
                return Answer(order, pb.REFUSAL_UNKNOWN_SKU, sku=error.sku)
            except NotEnoughUnitsError as error:
                return Answer(order, pb.REFUSAL_NOT_ENOUGH_UNITS, sku=error.sku)
            is_owed = request.does_refund and sum(split) > 0
            returns = facts.count(connection, order.order_id, FulfilmentEvent.RETURN)
            if returns >= RETURNS_MAX or (is_owed and money.count >= REFUNDS_MAX):
                return Answer(order, pb.REFUSAL_TOO_MANY)
            self._take_back(connection, order, call, units, Disposition(request.disposition))
            if is_owed:
                self._owe(connection, order, call, money, split)
            return Answer()

        return await self._carry_out(call, decide)

    async def ship(self, request: pb.ShipRequest) -> Answer:
        """Writes down that the goods left."""
        content = {
            "method": "Ship",
            "carrier": request.carrier,
            "parcel_no": request.parcel_no,
        }
        parcel = " ".join(filter(None, (request.carrier, request.parcel_no)))
        call = _Call(request.order_id, request.request_id, request.actor, parcel, content)

        def decide(connection: sa.Connection, order: sa.Row[Any]) -> Answer:
            is_paid = OrderState(order.state) in _SHIPPABLE
            if not is_paid or not _may(order, FulfilmentEvent.SHIP):
                return Answer(order, pb.REFUSAL_WRONG_STATE)
            self._add(connection, call, FulfilmentEvent.SHIP)
            return Answer()

        return await self._carry_out(call, decide)

    async def deliver(self, request: pb.DeliverRequest) -> Answer:
        """Writes down that the goods arrived."""
        content = {"method": "Deliver"}
        call = _Call(request.order_id, request.request_id, request.actor, "", content)

        def decide(connection: sa.Connection, order: sa.Row[Any]) -> Answer:
            if not _may(order, FulfilmentEvent.DELIVER):
                return Answer(order, pb.REFUSAL_WRONG_STATE)
            self._add(connection, call, FulfilmentEvent.DELIVER)
            return Answer()

        return await self._carry_out(call, decide)

    async def _carry_out(
        self, call: _Call, decide: Callable[[sa.Connection, sa.Row[Any]], Answer]
    ) -> Answer:
        """Answers a repeat from what the first call has written, and decides anything else."""

        def work(connection: sa.Connection) -> Answer:
            order = store.load_order(connection, call.order_id)
            if order is None:
                return Answer(refusal=pb.REFUSAL_UNKNOWN_ORDER)
            first = facts.find_call(connection, call.order_id, call.request_id)
            if first is None:
                answer = decide(connection, order)
                return answer if answer.refusal else _done(connection, call)
            conflict = facts.differing_field(first, call.content)
            if conflict:
                return Answer(order, pb.REFUSAL_CONFLICT, conflict_field=conflict)
            return _done(connection, call, is_replayed=True)

        answer = await self._runner.run(work, lane=Lane.SETTLEMENT)
        if not answer.refusal:
            self._on_moved((call.order_id,))
        return answer

    def _add(
        self, connection: sa.Connection, call: _Call, event: OrderEvent | FulfilmentEvent
    ) -> None:
        fact = Fact(
            event=event,
            cause_kind=CauseKind.CALL,
            cause=call.request_id,
            actor=call.actor,
            reason=call.reason,
            time_ms=self._clock.now_ms(),
            content=call.content,
        )
        facts.add(connection, call.order_id, fact)

    def _take_back(
        self,
        connection: sa.Connection,
        order: sa.Row[Any],
        call: _Call,
        units: Sequence[ReturnedUnits],
        disposition: Disposition,
    ) -> None:
        self._add(connection, call, FulfilmentEvent.RETURN)
        for each in units:
            # Units that were taken again came from other pools than they are priced by.
            pool = "" if order.is_retaken else each.pool
            key = f"{call.order_id} {call.request_id} {each.sku} {each.pool}"
            values = {
                "return_id": "b-" + digest(key),
                "order_id": call.order_id,
                "request_id": call.request_id,
                "sku": each.sku,
                "pool": pool,
                "units": each.units,
                "disposition": disposition.name,
                "create_ms": self._clock.now_ms(),
            }
            refunds.add_return(connection, values)

    def _owe(
        self,
        connection: sa.Connection,
        order: sa.Row[Any],
        call: _Call,
        money: _Money,
        split: Sequence[int],
    ) -> None:
        """Writes a refund down, with its transition."""
        is_full = sum(split) == sum(money.left)
        event = OrderEvent.FULL_REFUND_ASKED if is_full else OrderEvent.PART_REFUND_ASKED
        self._add(connection, call, event)
        number = money.count + 1
        values = {
            "refund_id": f"{call.order_id}:r{number}",
            "order_id": call.order_id,
            "number": number,
            "request_id": call.request_id,
            "attempt_id": money.attempt_id,
            "amount_minor": sum(split),
            "currency": order.currency,
            "reason": call.reason,
            "actor": call.actor,
            "is_full": is_full,
            "gives_back": is_full and order.fulfilment_state == FulfilmentState.UNSHIPPED,
            "create_ms": self._clock.now_ms(),
        }
        refunds.add_refund(connection, values, split)


def _may(order: sa.Row[Any], event: FulfilmentEvent) -> bool:
    return (FulfilmentState(order.fulfilment_state), event) in FULFILMENT_TRANSITIONS


def _money(connection: sa.Connection, order: sa.Row[Any]) -> _Money:
    parts = json.loads(order.parts)
    applied = [
        attempt.attempt_id
        for attempt in store.load_attempts(connection, order.order_id)
        if attempt.state == AttemptState.APPLIED.name
    ]
    asked = refunds.load_refunds(connection, order.order_id)
    left = shares.left_of(parts, refunds.shares_of(asked))
    if not applied:
        # Sold without a payment step: there is nothing to give back.
        return _Money("", parts, (0,) * len(parts), len(asked))
    return _Money(applied[0], parts, left, len(asked))


def _done(connection: sa.Connection, call: _Call, *, is_replayed: bool = False) -> Answer:
    """Returns the good answer to a call, from what is written."""
    order = store.load_order(connection, call.order_id)
    if order is None:
        raise AssertionError(f"order {call.order_id} is gone")
    asked = refunds.load_refunds(connection, call.order_id)
    made = [row for row in asked if row.request_id == call.request_id]
    left = _money(connection, order).left
    return Answer(
        order,
        is_replayed=is_replayed,
        refund=made[0] if made else None,
        left_minor=sum(left),
    )
