"""Runs a naive design as a discrete-event model.

Owns: the model of one order database that serves presses and payment callbacks one at a time, of
the clock that gives units back, and of the buyers. Must not be used for our own design, which runs
as real services. Next: ``ours.py``; the rules are named in ``designs.py``.

What goes wrong in the incident is an order of events and nothing else: the callbacks of the first
buyers wait behind everybody else's presses for longer than a reservation lives, the clock gives
their units back, and the next buyers pay for the same units.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

from lastunit.replay.designs import Design, Rule, Setting
from lastunit.replay.result import RunResult, Sample, percentile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_model"]

CALLBACK_SECONDS = 1.0
"""Seconds between a payment and its callback when the provider is well."""
DUPLICATE_SECONDS = 15.0
"""Seconds between a callback and its repeat."""
ASK_SECONDS = 1.0
"""Seconds between the end of a reservation's time and the question to the provider."""
ASK_AGAIN_SECONDS = 30.0
"""Seconds between two questions while the provider does not answer."""


class _State(Enum):
    HELD = auto()
    OVERDUE = auto()
    SOLD = auto()
    CLOSED = auto()
    REFUNDED = auto()


class _Order:
    __slots__ = ("buyer", "is_paid", "state")

    def __init__(self, buyer: int) -> None:
        self.buyer = buyer
        self.state = _State.HELD
        self.is_paid = False


_Job = tuple[float, "Callable[[object], None]", object]


class _Database:
    """One server, ``rate`` transactions a second, at most two queues."""

    def __init__(self, model: _Model, *, rate: float, has_lane: bool) -> None:
        self._model = model
        self._service_seconds = 1.0 / rate
        self._has_lane = has_lane
        self._settlement: deque[_Job] = deque()
        self._ordinary: deque[_Job] = deque()
        self._is_busy = False
        self.peak = 0

    def __len__(self) -> int:
        return len(self._settlement) + len(self._ordinary)

    def submit(
        self, work: Callable[[object], None], what: object, *, is_settlement: bool = False
    ) -> None:
        queue = self._settlement if is_settlement and self._has_lane else self._ordinary
        queue.append((self._model.now, work, what))
        self.peak = max(self.peak, len(self))
        if not self._is_busy:
            self._is_busy = True
            self._model.after(self._service_seconds, self._finish, None)

    def _finish(self, _: object) -> None:
        _, work, what = (self._settlement or self._ordinary).popleft()
        if self._settlement or self._ordinary:
            self._model.after(self._service_seconds, self._finish, None)
        else:
            self._is_busy = False
        work(what)


class _Model:
    """One run: buyers, database, clock and provider on one simulated time line."""

    def __init__(self, design: Design, setting: Setting) -> None:
        self.design = design
        self.setting = setting
        self.now = 0.0
        self._random = random.Random(setting.seed)  # noqa: S311 - a repeatable simulation
        self._events: list[tuple[float, int, Callable[[object], None], object]] = []
        self._tie_break = itertools.count()
        self._database = _Database(self, rate=setting.rate, has_lane=design.has_settlement_lane)
        self._gate_limit = (
            None if design.gate_share is None else setting.gate_limit(design.gate_share)
        )
        self._views_left = [setting.views_per_buyer] * setting.buyers
        self._orders: list[_Order] = []
        self._waits: list[float] = []
        self._wait_of_second: float | None = None
        self._sample = Sample(available=setting.units)
        self.result = RunResult(
            design=design.name,
            title=design.title,
            engine=design.engine.value,
            seed=setting.seed,
            buyers=setting.buyers,
            units=setting.units,
        )

    def after(self, seconds: float, work: Callable[[object], None], what: object) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._tie_break), work, what))

    def run(self, on_second: Callable[[int, Sample], None] | None) -> RunResult:
        for buyer in range(self.setting.buyers):
            self.after(self._random.random() * self.setting.arrival_seconds, self._press, buyer)
        second = 0
        while self._events and self._events[0][0] <= self.setting.horizon_seconds:
            while second <= self._events[0][0]:
                self._record(second, on_second)
                second += 1
            self.now, _, work, what = heapq.heappop(self._events)
            work(what)
        self._record(second, on_second)
        return self._summarise()

    # Buyers

    def _press(self, buyer: object) -> None:
        assert isinstance(buyer, int)
        if self._views_left[buyer] <= 0:
            return
        self._views_left[buyer] -= 1
        self.result.presses += 1
        if self._gate_limit is not None and len(self._database) >= self._gate_limit:
            self.result.gate_refusals += 1
            self._think(buyer)
        elif not self.design.ledger_decides:
            self._database.submit(self._decide, buyer)
        elif self._sample.available > 0:
            self._database.submit(self._store, self._reserve(buyer))
        else:
            self._tell_sold_out(buyer)

    def _think(self, buyer: int) -> None:
        self.after(self.design.think_seconds * (1.0 + self._random.random()), self._press, buyer)

    def _tell_sold_out(self, buyer: int) -> None:
        self.result.sold_out_answers += 1
        if self.result.first_sold_out_seconds is None:
            self.result.first_sold_out_seconds = round(self.now, 2)
        self._think(buyer)

    # Orders

    def _decide(self, buyer: object) -> None:
        """The order database takes the unit in the transaction that stores the order."""
        assert isinstance(buyer, int)
        if self._sample.available > 0:
            self._store(self._reserve(buyer))
        else:
            self._tell_sold_out(buyer)

    def _reserve(self, buyer: int) -> _Order:
        order = _Order(buyer)
        self._orders.append(order)
        self._sample.available -= 1
        self._sample.held += 1
        self.after(self.setting.ttl_seconds, self._lapse, order)
        return order

    def _store(self, order: object) -> None:
        """The buyer sees the stored order and may pay."""
        if self._random.random() < self.design.pay_probability:
            self.after(
                self._random.expovariate(1 / self.setting.pay_mean_seconds), self._pay, order
            )

    def _lapse(self, order: object) -> None:
        """The reservation's time is over."""
        assert isinstance(order, _Order)
        if order.state is not _State.HELD:
            return
        if self.design.rule is Rule.AWAIT_SETTLEMENT:
            order.state = _State.OVERDUE
            self._sample.held -= 1
            self._sample.overdue += 1
            self.after(ASK_SECONDS, self._ask, order)
            return
        self._sample.held -= 1
        self._give_back(order)

    def _give_back(self, order: _Order) -> None:
        order.state = _State.CLOSED
        self._sample.available += 1
        self.result.given_back += 1

    # Provider

    def _pay(self, order: object) -> None:
        assert isinstance(order, _Order)
        if order.state is _State.CLOSED and self.design.rule is Rule.AWAIT_SETTLEMENT:
            return  # the attempt was closed at the provider before the unit went back
        order.is_paid = True
        self._sample.charged += 1
        faults = self.design.faults
        if self._random.random() < faults.callback_loss:
            return
        delay = CALLBACK_SECONDS + faults.callback_late_seconds
        self.after(delay, self._receive, order)
        if self._random.random() < faults.callback_duplicate:
            self.after(delay + DUPLICATE_SECONDS, self._receive, order)

    def _receive(self, order: object) -> None:
        received = self.now

        def apply(what: object) -> None:
            assert isinstance(what, _Order)
            wait = self.now - received
            self._waits.append(wait)
            self._wait_of_second = max(wait, self._wait_of_second or 0.0)
            self._settle(what)

        self._database.submit(apply, order, is_settlement=True)

    def _settle(self, order: _Order) -> None:
        match order.state:
            case _State.SOLD | _State.REFUNDED:
                self.result.duplicates += 1
            case _State.HELD:
                self._sample.held -= 1
                self._honour(order)
            case _State.OVERDUE:
                self._sample.overdue -= 1
                self._honour(order)
            case _State.CLOSED:
                self.result.late_callbacks += 1
                self._settle_late(order)

    def _settle_late(self, order: _Order) -> None:
        """Money for an order whose unit went back: the line that made the incident."""
        if self.design.rule is Rule.ACCEPT_LATE:
            self._honour(order)
        elif self.design.rule is Rule.RETAKE_OR_REFUND and self._sample.available > 0:
            self._sample.available -= 1
            self._honour(order)
        else:
            order.state = _State.REFUNDED
            self._sample.refunded += 1

    def _honour(self, order: _Order) -> None:
        order.state = _State.SOLD
        self._sample.sold += 1
        self._sample.honoured += 1
        self.result.last_sale_seconds = round(self.now, 2)

    def _ask(self, order: object) -> None:
        assert isinstance(order, _Order)
        if order.state is not _State.OVERDUE:
            return
        self.result.asks += 1
        if self.now < self.design.faults.query_down_until_seconds:
            self.after(ASK_AGAIN_SECONDS, self._ask, order)
            return
        self._sample.overdue -= 1
        if order.is_paid:
            self._honour(order)
        else:
            self._give_back(order)

    # Figures

    def _record(self, second: int, on_second: Callable[[int, Sample], None] | None) -> None:
        self._sample.queue = len(self._database)
        self._sample.callback_wait = self._wait_of_second
        self._wait_of_second = None
        self.result.curves.add(second, self._sample)
        if on_second is not None:
            on_second(second, self._sample)

    def _summarise(self) -> RunResult:
        result, sample = self.result, self._sample
        result.charged = sum(order.is_paid for order in self._orders)
        result.honoured = sum(order.state is _State.SOLD for order in self._orders)
        result.refunded = sum(order.state is _State.REFUNDED for order in self._orders)
        assert (result.charged, result.refunded) == (sample.charged, sample.refunded)
        # An order that was settled by asking before its callback arrived is paid exactly once.
        assert result.honoured == sample.honoured
        result.oversold = max(0, result.honoured - result.units)
        result.unsettled = result.charged - result.honoured - result.refunded
        result.callback_wait_p99 = percentile(self._waits, 0.99)
        result.callback_wait_max = percentile(self._waits, 1.0)
        result.turnover = result.honoured * self.setting.price
        result.queue_peak = self._database.peak
        return result


def run_model(
    design: Design,
    setting: Setting,
    *,
    on_second: Callable[[int, Sample], None] | None = None,
) -> RunResult:
    """Runs a design as a model.

    Args:
        design: What to run; a design whose engine is real is modelled too, for comparison.
        setting: Scale and seed.
        on_second: Called once a simulated second with the second and the state.

    Returns:
        The figures and curves of the run; equal for equal arguments but for ``seconds``.
    """
    started = time.perf_counter()
    result = _Model(design, setting).run(on_second)
    result.seconds = time.perf_counter() - started
    return result
