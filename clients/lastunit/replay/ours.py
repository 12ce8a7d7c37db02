"""Runs our design: the real ledger server and the real order and payment code, in simulated time.

Owns the buyers, the steps of the services' loops and the figures. Must not hold a rule of stock,
orders or payments: those are the ones of the services. Next: ``shop.py``, ``stage.py``,
``ledger.py``.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lastunit.order.states import OrderState
from lastunit.order.v1 import order_pb2, order_service_pb2
from lastunit.payment.v1 import payment_service_pb2
from lastunit.replay.ledger import SALE_ID, SKU, put_sale, rehearsal_ledger
from lastunit.replay.result import RunResult, Sample, percentile
from lastunit.replay.shop import Shop
from lastunit.replay.stage import Stage
from lastunit.stock.v1 import availability_pb2, outcome_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.client.aio import StockClient
    from lastunit.payment.sandbox.callbacks import Delivery
    from lastunit.replay.designs import Design, Setting

__all__ = ["run_ours"]

START_MS: Final = 1_767_225_600_000
"""The sale opens with the year 2026, UTC; any instant would do."""

_SECOND_MS: Final = 1_000
_TICK_MS: Final = 500
"""Presses, payments and callbacks of so many milliseconds share their messages to the ledger."""
_PATIENT_TICK_MS: Final = 1_000
"""The same for presses of buyers who think for minutes."""
_PATIENT_SECONDS: Final = 60.0
_IDLE_LOOP_SECONDS: Final = 2
"""Seconds between two looks at what is due while nothing changes."""
_EVENTS_PER_PAGE: Final = 4_096
_STEP_LIMIT: Final = 1_024


class _Ours:
    """One run."""

    def __init__(
        self,
        *,
        design: Design,
        setting: Setting,
        ledger: StockClient,
        directory: Path,
        on_second: Callable[[int, Sample], None] | None,
    ) -> None:
        self.design, self.setting, self.ledger = design, setting, ledger
        self.stage = Stage(START_MS)
        self.shop = Shop(
            ledger=ledger, design=design, setting=setting, stage=self.stage, directory=directory
        )
        self._on_second = on_second
        self._random = random.Random(setting.seed)  # noqa: S311 - a repeatable simulation
        is_patient = design.think_seconds >= _PATIENT_SECONDS
        self._press_tick_ms = _PATIENT_TICK_MS if is_patient else _TICK_MS
        self._gate_limit = setting.gate_limit(design.gate_share or math.inf)
        self._views_left = [setting.views_per_buyer] * setting.buyers
        self._arrived_ms: dict[str, float] = {}
        self._waits: list[float] = []
        self._wait_of_second: float | None = None
        self._sample = Sample(available=setting.units)
        self._is_following = False
        self._looped_sequence = -1
        self._sampled: tuple[int, ...] = ()
        self._ledger_ms = START_MS
        self._next_second = 0
        self.result = _empty_result(design, setting)

    # The passing of time

    async def run(self) -> None:
        """Lets the sale happen until nothing is open any more."""
        await put_sale(self.ledger, units=self.setting.units, ttl_seconds=self.setting.ttl_seconds)
        for buyer in range(self.setting.buyers):
            delay = self._random.random() * self.setting.arrival_seconds
            self._plan_press(buyer, delay)
        end_ms = START_MS + self.setting.horizon_seconds * _SECOND_MS
        while not self._is_over() and self.stage.now_ms < end_ms:
            await self._step()
        await self._summarise()

    def _is_over(self) -> bool:
        sample = self._sample
        is_open = sample.held or sample.paying or sample.overdue or self._is_order_behind()
        return not (
            is_open
            or self.shop.slow.queued_count
            or self.stage.next_ms is not None
            or self.shop.provider.next_delivery_ms() is not None
        )

    async def _step(self) -> None:
        """Goes to the next instant at which something happens, and lets it happen."""
        second_ms = START_MS + self._next_second * _SECOND_MS
        delivery_ms = _ceiling(self.shop.provider.next_delivery_ms(), _TICK_MS)
        instants = (self.stage.next_ms, self.shop.slow.next_ms, delivery_ms, float(second_ms))
        now_ms = max(min(each for each in instants if each is not None), self.stage.now_ms)
        self.stage.advance_to(now_ms)
        if self.shop.slow.next_ms is not None and self.shop.slow.next_ms <= now_ms:
            await self.shop.slow.finish_one()
            await self.stage.settle()
            self._note_settled()
            return
        if now_ms >= self._ledger_ms + _TICK_MS or now_ms >= second_ms:
            await self._set_ledger_time()
        self.stage.call_due()
        await self.stage.settle()
        await self._deliver()
        if now_ms >= second_ms:
            is_changed = self.ledger.seen_sequence != self._looped_sequence
            if is_changed or self._next_second % _IDLE_LOOP_SECONDS == 0:
                self._looped_sequence = self.ledger.seen_sequence
                await self._run_loops()
            await self._record()

    async def _set_ledger_time(self) -> None:
        """Sets ledger time to the present; its timers run inside of that call."""
        self._ledger_ms = int(self.stage.now_ms)
        await self.ledger.admin.set_clock(self._ledger_ms)

    def _is_order_behind(self) -> bool:
        return self.ledger.seen_sequence > self.shop.order.follower.position

    # Buyers

    def _plan_press(self, buyer: int, delay_seconds: float) -> None:
        instant_ms = _ceiling(self.stage.now_ms + delay_seconds * _SECOND_MS, self._press_tick_ms)
        assert instant_ms is not None
        self.stage.plan(instant_ms, lambda: self.stage.spawn(self._press(buyer)))

    def _plan_next_press(self, buyer: int) -> None:
        if self._views_left[buyer] > 0:
            self._plan_press(buyer, self.design.think_seconds * (1 + self._random.random()))

    async def _press(self, buyer: int) -> None:
        self._views_left[buyer] -= 1
        view = self.setting.views_per_buyer - self._views_left[buyer]
        self.result.presses += 1
        if self.shop.slow.queued_count >= self._gate_limit:
            self.result.gate_refusals += 1
            self._plan_next_press(buyer)
            return
        answer = await self.shop.order.place_order(
            order_service_pb2.PlaceOrderRequest(
                request_id=f"b-{buyer}.{view}",
                account_id=f"b-{buyer}",
                sale_id=SALE_ID,
                lines=[order_pb2.OrderLine(sku=SKU, units=1)],
            )
        )
        if answer.outcome == outcome_pb2.OUTCOME_OK:
            await self._buy(answer.order_id)
            return
        self.result.sold_out_answers += 1
        if self.result.first_sold_out_seconds is None:
            self.result.first_sold_out_seconds = round(self.stage.seconds(), 2)
        # Who is told that no unit can come any more goes home.
        if answer.level != availability_pb2.LEVEL_GONE:
            self._plan_next_press(buyer)

    async def _buy(self, order_id: str) -> None:
        """The buyer sees the stored order and goes to the provider's page."""
        answer = await self.shop.order.pay(
            order_service_pb2.PayRequest(
                request_id=f"{order_id}.pay", order_id=order_id, method="card"
            )
        )
        if not answer.pay_url or self._random.random() >= self.design.pay_probability:
            return
        delay = self._random.expovariate(1 / self.setting.pay_mean_seconds)
        instant_ms = _ceiling(self.stage.now_ms + delay * _SECOND_MS, _TICK_MS)
        assert instant_ms is not None
        self.stage.plan(instant_ms, lambda: self._pay(answer.attempt_id))

    def _pay(self, attempt_id: str) -> None:
        self.shop.provider.pay(attempt_id)

    # The services' loops, one step at a time

    async def _deliver(self) -> None:
        """Lets the provider call back and the payment service act on it."""
        due = self.shop.provider.deliveries_due(int(self.stage.now_ms))
        if not due:
            return
        for delivery in due:
            self.stage.spawn(self._receive(delivery))
        await self.stage.settle()
        self.stage.spawn(self._settle())
        await self.stage.settle()

    async def _receive(self, delivery: Delivery) -> None:
        answer = await self.shop.webhook.receive("sandbox", delivery.headers, delivery.raw_body)
        self.result.duplicates += answer.is_duplicate
        if answer.status != 200:  # noqa: PLR2004 - HTTP's word for "taken"
            self.shop.provider.delivery_failed(delivery)
            return
        order_id = _order_of(delivery)
        # News of what is settled already waits for nothing.
        if order_id is not None and not self.shop.settled([order_id]):
            self._arrived_ms.setdefault(order_id, self.stage.now_ms)

    async def _settle(self) -> None:
        """Inbox, then ledger, then the orders that follow the ledger."""
        payment = self.shop.payment
        while await payment.process_inbox_once(_STEP_LIMIT) == _STEP_LIMIT:
            pass
        while await payment.settle_once(_STEP_LIMIT) == _STEP_LIMIT:
            pass
        await self._follow()

    async def _follow(self) -> None:
        """Moves orders on; only one does so at a time, as in the service."""
        if self._is_following:
            return
        self._is_following = True
        try:
            while self._is_order_behind():
                await self.shop.order.follow_once(_EVENTS_PER_PAGE)
        finally:
            self._is_following = False
        self._note_settled()

    async def _run_loops(self) -> None:
        """Steps that the services take at least once a second."""
        self.stage.spawn(self._reconcile())
        await self.stage.settle()
        self.stage.spawn(self._settle())
        await self.stage.settle()

    async def _reconcile(self) -> None:
        payment = self.shop.payment
        while self.ledger.seen_sequence > payment.follower.position:
            await payment.follow_once(_EVENTS_PER_PAGE)
        while await payment.reconcile_once(int(self.stage.now_ms), _STEP_LIMIT) == _STEP_LIMIT:
            pass
        await payment.refund_once(_STEP_LIMIT)

    def _note_settled(self) -> None:
        """Notes how long the callbacks waited whose orders are paid now."""
        if not self._arrived_ms:
            return
        for order_id in self.shop.settled(self._arrived_ms.keys()):
            wait = (self.stage.now_ms - self._arrived_ms.pop(order_id)) / _SECOND_MS
            self._waits.append(wait)
            self._wait_of_second = max(wait, self._wait_of_second or 0.0)
            self.result.last_sale_seconds = round(self.stage.seconds(), 2)

    # Figures

    async def _record(self) -> None:
        charged = self.shop.provider.totals()["paid_count"]
        seen = (self.ledger.seen_sequence, sum(self.shop.slow.done_count.values()), charged)
        if seen != self._sampled:
            self._sampled = seen
            await self._look()
        sample = self._sample
        sample.charged = charged
        sample.queue = self.shop.slow.queued_count
        sample.callback_wait = self._wait_of_second
        self._wait_of_second = None
        self.result.curves.add(self._next_second, sample)
        if self._on_second is not None:
            self._on_second(self._next_second, sample)
        self._next_second += 1

    async def _look(self) -> None:
        """Asks ledger, orders and provider how things stand."""
        reply = await self.ledger.get_availability(SALE_ID, skus=[SKU])
        counters = reply.response.availabilities[0].counters
        sample = self._sample
        sample.available, sample.held = counters.available + counters.buffer, counters.held
        sample.paying, sample.overdue = counters.paying, counters.overdue
        sample.sold = counters.sold
        counts = self.shop.count_orders()
        if counts.get(OrderState.PAID.value, 0) > sample.honoured:
            self.result.last_sale_seconds = max(
                self.result.last_sale_seconds, round(self.stage.seconds(), 2)
            )
        sample.honoured = counts.get(OrderState.PAID.value, 0)
        sample.refunded = _refunded(counts)

    async def _summarise(self) -> None:
        """Compares provider, orders and ledger, and fills in the result."""
        result, states = self.result, self.shop.order_states()
        bill = self.shop.provider.bill()
        counts = self.shop.count_orders()
        audit = await self.ledger.admin.audit()
        reply = await self.ledger.get_availability(SALE_ID, skus=[SKU])
        counters = reply.response.availabilities[0].counters
        totals = await self.shop.payment.get_totals(payment_service_pb2.GetTotalsRequest())
        result.charged = len(bill)
        result.honoured = counts.get(OrderState.PAID.value, 0)
        result.refunded = _refunded(counts)
        result.oversold = max(0, result.honoured - result.units)
        settled = {OrderState.PAID, OrderState.REFUND_DUE, OrderState.REFUNDED}
        result.unsettled = sum(
            states.get(row.merchant_no.rpartition(":")[0]) not in settled for row in bill
        )
        result.callback_wait_p99 = percentile(self._waits, 0.99)
        result.callback_wait_max = percentile(self._waits, 1.0)
        result.turnover = result.honoured * self.setting.price
        result.asks = totals.counters["ask_count"]
        result.duplicates += totals.counters["ignored_news_count"]
        result.given_back = counts.get(OrderState.CLOSED.value, 0)
        result.queue_peak = self.shop.slow.peak
        result.checks = {
            "the ledger's audit holds": audit.response.holds,
            "units sold in the ledger equal orders paid": counters.sold == result.honoured,
            "the provider's bill agrees with the orders": result.unsettled == 0
            and result.charged == result.honoured + result.refunded,
            "no payment is open": not (counters.paying or counters.overdue),
            "nothing is oversold": result.oversold == 0,
        }


def _empty_result(design: Design, setting: Setting) -> RunResult:
    return RunResult(
        design=design.name,
        title=design.title,
        engine=design.engine.value,
        seed=setting.seed,
        buyers=setting.buyers,
        units=setting.units,
    )


def _ceiling(instant_ms: float | None, step_ms: int) -> float | None:
    """Rounds an instant up to the next tick."""
    if instant_ms is None:
        return None
    return float(math.ceil(instant_ms / step_ms) * step_ms)


def _order_of(delivery: Delivery) -> str | None:
    """Names the order of a callback that says that it was paid."""
    body = json.loads(delivery.raw_body)
    if body["type"] != "payment.succeeded":
        return None
    return str(body["merchant_no"]).rpartition(":")[0]


def _refunded(counts: dict[str, int]) -> int:
    states = (OrderState.REFUND_DUE.value, OrderState.REFUNDED.value)
    return sum(counts.get(state, 0) for state in states)


async def _run(
    design: Design, setting: Setting, on_second: Callable[[int, Sample], None] | None
) -> RunResult:
    with tempfile.TemporaryDirectory(prefix="lastunit-replay-") as name:
        async with rehearsal_ledger(START_MS) as ledger:
            run = _Ours(
                design=design,
                setting=setting,
                ledger=ledger,
                directory=Path(name),
                on_second=on_second,
            )
            try:
                await run.run()
            finally:
                run.stage.close()
                run.shop.close()
            return run.result


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Gives the faster event loop where it is installed: a run has some 180,000 presses."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run_ours(
    design: Design,
    setting: Setting,
    *,
    on_second: Callable[[int, Sample], None] | None = None,
) -> RunResult:
    """Runs a design whose engine is real.

    Args:
        design: What the provider and the buyers do.
        setting: Scale and seed.
        on_second: Called once a simulated second with the second and the state.

    Returns:
        The figures, curves and checks of the run.

    Raises:
        lastunit.service.children.ChildError: The ledger server did not start.
    """
    started = time.perf_counter()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        result = runner.run(_run(design, setting, on_second))
    result.seconds = time.perf_counter() - started
    return result
