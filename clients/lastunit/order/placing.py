"""Placing an order: from the wish to a hold that is written down.

Owns the order in which doorman, account service, ledger and database are asked, so that a crash
between any two of them heals. Must not sleep, loop or decide on stock or prices.
Next: `lastunit.order.pricing` says what to ask for, `lastunit.order.store` has the SQL.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.outcomes import Outcome
from lastunit.errors import BusyError
from lastunit.order import pricing, store, views
from lastunit.order.ids import order_id_of
from lastunit.order.persons import AccountState
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from lastunit.client.outcomes import Reply
    from lastunit.order.doorman import Doorman, TurnedAway
    from lastunit.order.follower import OrderFollower
    from lastunit.order.grants import GrantCount
    from lastunit.order.persons import PersonDirectory
    from lastunit.order.ports import LedgerPort
    from lastunit.order.settings import OrderSettings
    from lastunit.prices.quote import Prices
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner
    from lastunit.stock.v1 import reservation_pb2, stock_service_pb2

__all__ = ["Placing"]

# The words of our request for the ledger's fields, for conflicts.
_FIELD_NAMES: Final = {"person_id": "account_id"}


@dataclass(frozen=True, slots=True)
class _Held:
    """Is a hold in the ledger that has yet to be written down."""

    person_id: str
    asked: pricing.Ask
    taken: Sequence[reservation_pb2.Taken]
    expire_ms: int
    sequence: int
    is_replayed: bool


class Placing:
    """Places orders, and says what one would cost.

    Args:
        database: The order service's tables, for reading.
        runner: Writes them.
        ledger: A `StockClient`, or what stands in for it.
        persons: Knows who stands behind an account.
        prices: What units cost.
        clock: Tells the time.
        settings: Spans and bounds.
        doorman: Turns newcomers away while a gate says so; None lets everybody on to the ledger.
        follower: Moves the orders on once they are written.
        grants: Counts the ledger's grants that were dealt with.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        ledger: LedgerPort,
        persons: PersonDirectory,
        prices: Prices,
        clock: Clock,
        settings: OrderSettings,
        doorman: Doorman | None,
        follower: OrderFollower,
        grants: GrantCount,
    ) -> None:
        self._database = database
        self._runner = runner
        self._ledger = ledger
        self._persons = persons
        self._prices = prices
        self._clock = clock
        self._settings = settings
        self._doorman = doorman
        self._follower = follower
        self._grants = grants
        self._place_calls = 0
        # First come, first served. Held while others are asked, never while the row is written:
        # on a slow database the orders that won must not keep the others from their refusal.
        self._place_work = asyncio.Semaphore(settings.place_work_max)

    async def quote(self, request: pb.QuoteRequest) -> pb.QuoteResponse:
        """Says what an order would cost, from the pools that would serve it now.

        Raises:
            LastunitError: The ledger did not answer.
        """
        now_ms = self._clock.now_ms()
        asked = pricing.ask(self._prices, request.lines, coupon_id=request.coupon_id, now_ms=now_ms)
        if isinstance(asked, pricing.Refused):
            return pb.QuoteResponse(refusal=asked.refusal, sku=asked.sku)
        skus = sorted({line.sku for line in asked.lines})
        shown = await self._ledger.get_availability(request.sale_id, skus=skus)
        taken = pricing.draw(asked.lines, shown.response.availabilities)
        priced = pricing.price(self._prices, asked, taken)
        return pb.QuoteResponse(
            parts=[order_pb2.OrderPart(**part) for part in priced.parts],
            amount_minor=priced.amount_minor,
            currency=self._prices.catalogue.currency,
            reduction_name=priced.reduction_name,
        )

    async def place_order(self, request: pb.PlaceOrderRequest) -> pb.PlaceOrderResponse:
        """Holds units and writes the order down; a refusal writes nothing.

        Raises:
            BusyError: As many calls as allowed are under way.
            RolledBackError: The ledger has lost what it told us; nothing is sold on top of that.
            LastunitError: Ledger or account service did not answer; repeat with the same id.
        """
        if self._place_calls >= self._settings.place_calls_max:
            raise BusyError(
                f"{self._settings.place_calls_max} orders are being placed; try again shortly",
                limit=self._settings.place_calls_max,
            )
        self._follower.check_not_rolled_back()
        self._place_calls += 1
        try:
            return await self._place(request)
        finally:
            self._place_calls -= 1

    async def _place(self, request: pb.PlaceOrderRequest) -> pb.PlaceOrderResponse:
        order_id = order_id_of(request.request_id)
        turned_away = self._doorman and self._doorman.ask(request.sale_id)
        if turned_away:
            # The repeat of a call that was honoured is honoured: who has an order is inside.
            return self._placed_before(order_id, request) or self._told_to_return(turned_away)
        asked = pricing.ask(
            self._prices, request.lines, coupon_id=request.coupon_id, now_ms=self._clock.now_ms()
        )
        async with self._place_work:
            answer = await self._ask(order_id, request, asked)
        if isinstance(answer, pb.PlaceOrderResponse):
            return answer
        return await self._write(request, order_id, answer)

    def _told_to_return(self, turned_away: TurnedAway) -> pb.PlaceOrderResponse:
        refusal = pb.REFUSAL_GATE_CLOSED if turned_away.is_closed else pb.REFUSAL_GATE_QUEUEING
        response = pb.PlaceOrderResponse(refusal=refusal, order_state=order_pb2.ORDER_STATE_CLOSED)
        if turned_away.come_back_seconds is not None:
            come_back_ms = round(turned_away.come_back_seconds * 1_000)
            response.come_back_time.FromMilliseconds(self._clock.now_ms() + come_back_ms)
        return response

    async def _ask(
        self, order_id: str, request: pb.PlaceOrderRequest, asked: pricing.Ask | pricing.Refused
    ) -> pb.PlaceOrderResponse | _Held:
        """Asks who the buyer is and whether there are units; returns a refusal or the hold."""
        person = await self._persons.find(request.account_id)
        refusal = asked.refusal if isinstance(asked, pricing.Refused) else pb.REFUSAL_UNSPECIFIED
        if person.state is not AccountState.ACTIVE:
            refusal = (
                pb.REFUSAL_ACCOUNT_LOCKED
                if person.state in {AccountState.LOCKED, AccountState.CLOSED}
                else pb.REFUSAL_ACCOUNT_UNKNOWN
            )
        if refusal or isinstance(asked, pricing.Refused):
            # The repeat of a call that was honoured is honoured, whatever has changed since.
            return self._placed_before(order_id, request) or pb.PlaceOrderResponse(
                refusal=refusal,
                sku=asked.sku if isinstance(asked, pricing.Refused) else "",
                order_state=order_pb2.ORDER_STATE_CLOSED,
            )
        reply = await self._reserve(order_id, person.home_person_id, request, asked)
        while not reply.is_ok and reply.response.result.sku in asked.gifts:
            # A gift that is gone keeps nobody from what was bought.
            asked = asked.without(reply.response.result.sku)
            reply = await self._reserve(order_id, person.home_person_id, request, asked)
        if reply.is_replayed or reply.outcome is Outcome.CONFLICT:
            return await self._held_before(order_id, person.home_person_id, request, reply)
        if not reply.is_ok:
            return _refused(reply)
        return _Held(
            person.home_person_id,
            asked,
            reply.response.taken,
            expire_ms=reply.response.expire_time.ToMilliseconds(),
            sequence=reply.sequence,
            is_replayed=False,
        )

    async def _held_before(
        self,
        order_id: str,
        person_id: str,
        request: pb.PlaceOrderRequest,
        reply: Reply[stock_service_pb2.ReserveResponse],
    ) -> pb.PlaceOrderResponse | _Held:
        """Returns what goes with units that an earlier call has taken, priced as they were then."""
        # A gift may be back meanwhile: the order itself still tells.
        placed = self._placed_before(order_id, request)
        if placed is not None and placed.refusal:
            return placed
        if placed is not None and reply.is_ok:
            placed.replayed, placed.sequence = True, reply.sequence
            return placed
        shown = await self._ledger.get_reservation(order_id)
        found = shown.response.reservation
        if placed is not None:
            placed.replayed, placed.sequence = True, found.create_sequence
            return placed
        is_ours = reply.is_ok or (found.person_id, found.sale_id) == (person_id, request.sale_id)
        asked = None
        if shown.is_ok and is_ours:
            asked = pricing.adopt(self._prices, request.lines, request.coupon_id, found)
        if asked is None:
            return _refused(reply)
        return _Held(
            person_id,
            asked,
            found.taken,
            expire_ms=found.expire_time.ToMilliseconds(),
            sequence=found.create_sequence,
            is_replayed=True,
        )

    async def _reserve(
        self, order_id: str, person_id: str, request: pb.PlaceOrderRequest, asked: pricing.Ask
    ) -> Reply[stock_service_pb2.ReserveResponse]:
        not_after_ms = self._clock.now_ms() + round(self._settings.ghost_seconds * 1000)
        if request.HasField("not_after_time"):
            not_after_ms = min(not_after_ms, request.not_after_time.ToMilliseconds())
        reserve = self._ledger.reserve(
            order_id,
            sale_id=request.sale_id,
            person_id=person_id,
            lines=asked.lines,
            not_after_ms=not_after_ms,
        )
        return await self._grants.watch(order_id, reserve)

    async def _write(
        self, request: pb.PlaceOrderRequest, order_id: str, held: _Held
    ) -> pb.PlaceOrderResponse:
        """Writes the order down, durably, before the buyer is told."""
        priced = pricing.price(self._prices, held.asked, held.taken)
        order = store.NewOrder(
            order_id=order_id,
            request_id=request.request_id,
            account_id=request.account_id,
            person_id=held.person_id,
            sale_id=request.sale_id,
            lines=_lines(request, priced),
            parts=priced.parts,
            coupon_id=request.coupon_id,
            reduction_name=priced.reduction_name,
            missing_gifts=held.asked.missing_gifts,
            amount_minor=priced.amount_minor,
            currency=self._prices.catalogue.currency,
            create_ms=self._clock.now_ms(),
            expire_ms=held.expire_ms,
            ledger_sequence=held.sequence,
        )

        def insert(connection: sa.Connection) -> bool:
            is_new = store.insert_order(connection, order)
            return is_new and self._follower.catch_up(connection, order_id, held.sequence)

        try:
            is_doubtful = await self._runner.run(insert, lane=Lane.RESERVATION)
        finally:
            # Written, failed or given up by its caller: nobody waits for the database with it now.
            self._grants.add(order_id)
        if is_doubtful:
            await self._follower.compare(order_id)
        placed = self._placed_before(order_id, request)
        if placed is None:
            raise AssertionError(f"order {order_id} was written and is gone")
        placed.replayed = held.is_replayed
        placed.sequence = held.sequence
        return placed

    def _placed_before(
        self, order_id: str, request: pb.PlaceOrderRequest
    ) -> pb.PlaceOrderResponse | None:
        """Returns the answer that goes with a written order, or None if there is none."""
        row = store.read_order(self._database, order_id)
        if row is None:
            return None
        conflict = _differing_field(row, request)
        if conflict:
            return pb.PlaceOrderResponse(
                outcome=views.outcome(Outcome.CONFLICT),
                refusal=pb.REFUSAL_CONFLICT,
                conflict_field=conflict,
            )
        return views.placed(row)


def _lines(request: pb.PlaceOrderRequest, priced: pricing.Priced) -> list[dict[str, object]]:
    first = {part["line_index"]: part["unit_amount_minor"] for part in reversed(priced.parts)}
    return [
        {
            "sku": line.sku,
            "pool": line.pool,
            "units": line.units,
            "unit_amount_minor": first[index],
        }
        for index, line in enumerate(request.lines)
    ]


def _differing_field(row: sa.Row[Any], request: pb.PlaceOrderRequest) -> str:
    if row.account_id != request.account_id:
        return "account_id"
    if row.sale_id != request.sale_id:
        return "sale_id"
    if row.coupon_id != request.coupon_id:
        return "coupon_id"
    written = [(line["sku"], line["pool"], line["units"]) for line in json.loads(row.lines)]
    asked = [(line.sku, line.pool, line.units) for line in request.lines]
    return "" if written == asked else "lines"


def _refused(reply: Reply[stock_service_pb2.ReserveResponse]) -> pb.PlaceOrderResponse:
    result = reply.response.result
    response = pb.PlaceOrderResponse(
        outcome=result.outcome,
        conflict_field=_FIELD_NAMES.get(result.conflict_field, result.conflict_field),
        order_state=order_pb2.ORDER_STATE_CLOSED,
        sku=result.sku,
        level=result.level,
        level_epoch=result.level_epoch,
        limit=result.limit,
    )
    if result.HasField("come_back_time"):
        response.come_back_time.CopyFrom(result.come_back_time)
    return response
