"""What one buyer does, from the first press of "buy" to the final answer.

Owns the buyer's decisions. Must not count stock or know the services beyond their contract.
Next: ``door.py`` for the calls, ``tally.py`` for what is counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Final

import grpc

from lastunit.load.door import Door, NoAnswerError
from lastunit.load.tally import Ending, Tally
from lastunit.order.v1 import order_pb2, order_service_pb2
from lastunit.stock.v1 import availability_pb2, outcome_pb2

if TYPE_CHECKING:
    from lastunit.load.plan import LoadPlan

__all__ = ["Buyer"]

_log: Final = logging.getLogger(__name__)

_NEVER: Final = frozenset({outcome_pb2.OUTCOME_SALE_CLOSED, outcome_pb2.OUTCOME_UNKNOWN_SALE})
"""Outcomes after which pressing again is of no use to anybody."""

_GATED: Final = frozenset(
    {order_service_pb2.REFUSAL_GATE_QUEUEING, order_service_pb2.REFUSAL_GATE_CLOSED}
)
"""Refusals that say when to come back; a buyer who does not would only be told the same."""

_SETTLED: Final = {
    order_pb2.ORDER_STATE_PAID: Ending.PAID,
    order_pb2.ORDER_STATE_REFUND_DUE: Ending.REFUNDED,
    order_pb2.ORDER_STATE_REFUNDED: Ending.REFUNDED,
}


class Buyer:
    """One buyer with one account, who wants one unit.

    Args:
        index: Which buyer of this process.
        plan: What buyers do.
        door: How they call.
        tally: Where it is counted.
    """

    def __init__(self, index: int, *, plan: LoadPlan, door: Door, tally: Tally) -> None:
        self._index = index
        self._plan = plan
        self._door = door
        self._tally = tally
        self._account_id = plan.account_ids[index]
        # A generator of its own: what a buyer does must not depend on who was answered first.
        self._random = random.Random(f"{plan.seed}:{index}")  # noqa: S311 - a repeatable load

    async def shop(self) -> Ending:
        """Presses until there is a final answer; never raises but for cancellation."""
        try:
            ending = await self._shop()
        except NoAnswerError as error:
            _log.warning("no answer: %s", error)
            ending = Ending.NO_ANSWER
        except grpc.aio.AioRpcError as error:
            _log.warning("%s: %s", error.code().name, error.details())
            ending = Ending.NO_ANSWER
        self._tally.endings[ending.value] += 1
        return ending

    async def _shop(self) -> Ending:
        plan = self._plan
        await asyncio.sleep(self._random.random() * plan.arrival_seconds)
        self._tally.arrived += 1
        for view in range(plan.views_per_buyer):
            answer = await self._press(view)
            if answer.outcome == outcome_pb2.OUTCOME_OK:
                self._tally.acknowledged[self._request_id(view)] = answer.order_id
                ending = await self._buy(answer)
                if ending is not None:
                    return ending
            elif answer.refusal in _GATED:
                self._count(_reason(answer))
                await asyncio.sleep(_seconds_until(answer, plan.think_seconds))
                continue
            elif answer.refusal or answer.outcome in _NEVER:
                return self._refused(answer)
            elif answer.level == availability_pb2.LEVEL_GONE:
                self._count("GONE")
                return Ending.GONE
            else:
                self._count(_reason(answer))
            await asyncio.sleep(plan.think_seconds * (1 + self._random.random()))
        return Ending.VIEWS_USED

    async def _press(self, view: int) -> order_service_pb2.PlaceOrderResponse:
        plan = self._plan
        request = order_service_pb2.PlaceOrderRequest(
            request_id=self._request_id(view),
            account_id=self._account_id,
            sale_id=plan.sale_id,
            lines=[order_pb2.OrderLine(sku=plan.sku, units=1)],
        )
        started = time.monotonic()
        answer = await self._door.order("PlaceOrder", request, buyer=self._index)
        self._tally.note_latency(time.monotonic() - started)
        assert isinstance(answer, order_service_pb2.PlaceOrderResponse)
        return answer

    def _request_id(self, view: int) -> str:
        return f"{self._account_id}.{view}"

    def _refused(self, answer: order_service_pb2.PlaceOrderResponse) -> Ending:
        self._count(_reason(answer))
        is_over = answer.outcome == outcome_pb2.OUTCOME_SALE_CLOSED
        return Ending.CLOSED if is_over else Ending.REFUSED

    def _count(self, reason: str) -> None:
        self._tally.refusals[reason] += 1

    async def _buy(self, placed: order_service_pb2.PlaceOrderResponse) -> Ending | None:
        """Pays for an order; ``None`` if its unit went back and the buyer may press again."""
        self._tally.orders[placed.order_id] = placed.person_id
        is_payer = self._random.random() < self._plan.pay_probability
        pay_url = await self._begin(placed.order_id)
        if pay_url is None:
            return None
        if not is_payer:
            return Ending.ABANDONED
        await asyncio.sleep(self._random.expovariate(1 / self._plan.pay_mean_seconds))
        said = await self._door.pay(pay_url)
        if said in ("PAID", "ALREADY_PAID"):
            self._tally.charged_orders.add(placed.order_id)
        else:
            self._count(f"provider says {said}")
        return await self._await_settlement(placed.order_id)

    async def _begin(self, order_id: str) -> str | None:
        """Opens a payment; ``None`` if the ledger has no unit for this order any more."""
        give_up = time.monotonic() + self._plan.patience_seconds
        for number in range(1, 100):
            request = order_service_pb2.PayRequest(
                request_id=f"{order_id}.pay{number}", order_id=order_id, method="card"
            )
            answer = await self._door.order("Pay", request, buyer=self._index)
            if answer.pay_url:
                return str(answer.pay_url)
            reason = order_service_pb2.Refusal.Name(answer.refusal).removeprefix("REFUSAL_")
            if answer.refusal != order_service_pb2.REFUSAL_PROVIDER_DOWN:
                self._count(f"pay: {reason}")
                return None
            if time.monotonic() > give_up:
                raise NoAnswerError(f"Pay {order_id}: the provider is down")
            await asyncio.sleep(self._plan.poll_seconds)
        return None

    async def _await_settlement(self, order_id: str) -> Ending | None:
        """Looks at the order until money and unit are settled."""
        give_up = time.monotonic() + self._plan.patience_seconds
        request = order_service_pb2.GetOrderRequest(order_id=order_id)
        while time.monotonic() < give_up:
            await asyncio.sleep(self._plan.poll_seconds * (0.5 + self._random.random()))
            answer = await self._door.order("GetOrder", request, buyer=self._index)
            ending = _SETTLED.get(answer.order.state)
            if ending is Ending.PAID:
                self._tally.paid_orders.add(order_id)
                return ending
            if ending is Ending.REFUNDED:
                self._tally.refunded_orders.add(order_id)
                return ending
            is_closed = answer.order.state == order_pb2.ORDER_STATE_CLOSED
            if is_closed and order_id not in self._tally.charged_orders:
                return None
        raise NoAnswerError(f"order {order_id} was not settled in time")


def _seconds_until(answer: order_service_pb2.PlaceOrderResponse, otherwise: float) -> float:
    """Tells how long to stay away from a gate."""
    if not answer.HasField("come_back_time"):
        return otherwise
    return max(0.0, answer.come_back_time.ToMilliseconds() / 1_000 - time.time())


def _reason(answer: order_service_pb2.PlaceOrderResponse) -> str:
    """Names a refusal: the order service's own, else the ledger's with the level."""
    if answer.refusal:
        return order_service_pb2.Refusal.Name(answer.refusal).removeprefix("REFUSAL_")
    outcome = outcome_pb2.Outcome.Name(answer.outcome).removeprefix("OUTCOME_")
    if answer.outcome != outcome_pb2.OUTCOME_SOLD_OUT:
        return outcome
    return availability_pb2.Level.Name(answer.level).removeprefix("LEVEL_")
