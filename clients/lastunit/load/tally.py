"""Counts what buyers did and what they were told.

Owns the counters of one process of buyers, the joined counters of several, and the list of what
was acknowledged, which is the run's memory of what must never be lost. Must not decide anything.
Next: ``buyer.py`` writes here, ``process.py`` reports it.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from enum import StrEnum
from typing import Any

__all__ = ["Ending", "Joined", "Tally"]

LATENCIES_KEPT_MAX = 20_000
"""Latencies kept for percentiles; beyond it a fair sample is kept."""


class Ending(StrEnum):
    """How a buyer's day ended; exactly one for each buyer."""

    PAID = "paid"
    """Has a unit and has paid for it."""
    REFUNDED = "refunded"
    """Paid, got no unit, and the money is on its way back."""
    ABANDONED = "abandoned"
    """Had a unit and chose not to pay."""
    GONE = "gone"
    """Was told that no unit can come any more."""
    VIEWS_USED = "views_used"
    """Was told each time that units may come back, and gave up."""
    CLOSED = "closed"
    """Was told that the sale is over."""
    REFUSED = "refused"
    """Was refused for a reason that no new try can change."""
    NO_ANSWER = "no_answer"
    """Got no answer for longer than anybody waits: a failure of the system."""


@dataclasses.dataclass
class Tally:
    """Counters of one process.

    Attributes:
        buyers: Buyers that are open or have been.
        arrived: Buyers that have pressed at least once.
        calls: Calls that were answered, by method.
        refusals: Presses that were refused, by reason.
        endings: Buyers whose day is over, by how.
        in_flight: Calls without an answer.
        retries: Calls that were sent again with the same id because no answer came.
        retried_ids: Ids that were sent more than once.
        orders: Person of each acknowledged order, by order.
        acknowledged: Order of each request id that was acknowledged with one.
        paid_orders: Orders whose buyer was shown PAID.
        refunded_orders: Orders whose buyer was shown a refund.
        charged_orders: Orders whose payment the provider has taken.
        replays: Retried ids that were answered as replays.
        wrong_replays: Ids whose repeat gave another answer than the first.
    """

    buyers: int = 0
    arrived: int = 0
    calls: Counter[str] = dataclasses.field(default_factory=Counter)
    refusals: Counter[str] = dataclasses.field(default_factory=Counter)
    endings: Counter[str] = dataclasses.field(default_factory=Counter)
    in_flight: int = 0
    retries: int = 0
    retried_ids: set[str] = dataclasses.field(default_factory=set)
    orders: dict[str, str] = dataclasses.field(default_factory=dict)
    acknowledged: dict[str, str] = dataclasses.field(default_factory=dict)
    paid_orders: set[str] = dataclasses.field(default_factory=set)
    refunded_orders: set[str] = dataclasses.field(default_factory=set)
    charged_orders: set[str] = dataclasses.field(default_factory=set)
    replays: int = 0
    wrong_replays: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._latencies: list[float] = []
        self._latency_count = 0
        self._random = random.Random(0)  # noqa: S311 - a fair sample, nothing secret

    def note_latency(self, seconds: float) -> None:
        """Keeps a latency of PlaceOrder, or a fair sample once there are many."""
        self._latency_count += 1
        if len(self._latencies) < LATENCIES_KEPT_MAX:
            self._latencies.append(seconds)
            return
        index = self._random.randrange(self._latency_count)
        if index < LATENCIES_KEPT_MAX:
            self._latencies[index] = seconds

    def progress(self) -> dict[str, Any]:
        """Gives the counters that a live view shows."""
        return {
            "event": "progress",
            "buyers": self.buyers,
            "arrived": self.arrived,
            "calls": dict(self.calls),
            "refusals": dict(self.refusals),
            "endings": dict(self.endings),
            "in_flight": self.in_flight,
            "retries": self.retries,
            "charged": len(self.charged_orders),
            "paid": len(self.paid_orders),
            "refunded": len(self.refunded_orders),
        }

    def report(self) -> dict[str, Any]:
        """Gives everything, once all buyers are done."""
        return {
            **self.progress(),
            "event": "report",
            "orders": self.orders,
            "paid_orders": sorted(self.paid_orders),
            "refunded_orders": sorted(self.refunded_orders),
            "charged_orders": sorted(self.charged_orders),
            "retried_ids": sorted(self.retried_ids),
            "replays": self.replays,
            "wrong_replays": self.wrong_replays,
            "latencies": self._latencies,
        }


class Joined:
    """Adds up what several processes of buyers have said last."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, Any]] = {}

    def note(self, process: str, message: dict[str, Any]) -> None:
        """Keeps the newest message of a process."""
        self._last[process] = message

    def number(self, name: str) -> int:
        """Adds up a counter."""
        return sum(int(message.get(name, 0)) for message in self._last.values())

    def counter(self, name: str) -> Counter[str]:
        """Adds up a counter by name."""
        total: Counter[str] = Counter()
        for message in self._last.values():
            total.update(message.get(name, {}))
        return total

    def items(self, name: str) -> list[Any]:
        """Joins lists."""
        return [each for message in self._last.values() for each in message.get(name, [])]

    def mapping(self, name: str) -> dict[str, str]:
        """Joins mappings whose keys differ."""
        joined: dict[str, str] = {}
        for message in self._last.values():
            joined.update(message.get(name, {}))
        return joined

    @property
    def ended(self) -> int:
        """Buyers whose day is over."""
        return sum(self.counter("endings").values())
