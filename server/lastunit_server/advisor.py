"""What advice is made of, measured while the server serves.

Owns the order service's last report and ten minutes of seconds of reservations; a look costs a walk
over some counters once a second. Must not reckon: `advice` does.
"""

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lastunit_server.advice import Advised, Facts, Look, Orders, SaleLife, advise
from lastunit_server.counts import LATENCY_BOUNDS, Counts
from lastunit_server.methods import STOCK, path

if TYPE_CHECKING:
    from lastunit.admission.v1 import admission_service_pb2 as messages
    from lastunit_server._native import Node
    from lastunit_server.gates import Gates
    from lastunit_server.settings import GateSettings

__all__ = ["Advisor"]

_LOOK_SECONDS: Final = 1.0
_LOOKS_MAX: Final = 600
_RESERVE: Final = path(STOCK, "Reserve")
_SLOWEST_SHARE: Final = 0.01
# Above the last bound nothing is known but that it was slower.
_BEYOND_SECONDS: Final = 2 * LATENCY_BOUNDS[-1]
_MILLI: Final = 1000
# What of a policy or of the settings is compared with what is advised.
_POLICY_KEYS: Final = (
    "window.credits_max",
    "window.floor_rate_per_second",
    "window.target_delay_ms",
    "window.report_interval_ms",
    "lanes.reservation.rate_per_second",
    "lanes.reservation.burst",
)


class Advisor:
    """Measures, and advises from what it has seen.

    Args:
        node: The open node.
        gates: Which sales there are, and how long their reservations live.
        gate_settings: What the gates are judged by.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        node: "Node",
        gates: "Gates",
        gate_settings: "GateSettings",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._gates = gates
        self._settings = gate_settings
        self._clock = clock
        self._counts: Mapping[str, Counts] = {}
        # Threads of the settlement listener report, others ask for advice.
        self._lock = threading.Lock()
        self._orders: tuple[float, Orders] | None = None
        self._looks: deque[Look] = deque(maxlen=_LOOKS_MAX)
        self._last: tuple[float, list[int]] | None = None

    def watch_counts(self, counts: Mapping[str, Counts]) -> None:
        """Says where calls are counted, by listener."""
        self._counts = counts

    def note_report(self, report: "messages.ReportPressureRequest") -> None:
        """Keeps what the order service said."""
        orders = Orders(
            age_seconds=0.0,
            work_per_second=report.work_per_second_milli / _MILLI,
            work_per_order=report.work_per_order_milli / _MILLI,
            pay_p99_seconds=report.pay_p99.ToMilliseconds() / _MILLI,
            pay_count=report.pay_count if report.HasField("pay_p99") else 0,
        )
        with self._lock:
            self._orders = (self._clock(), orders)

    async def watch(self) -> None:
        """Looks once a second until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Takes in the reservations that were answered since the last look."""
        now = self._clock()
        spans = [0] * (len(LATENCY_BOUNDS) + 1)
        for counts in self._counts.values():
            latency = counts.latencies().get(_RESERVE)
            if latency is not None:
                spans = [mine + more for mine, more in zip(spans, latency.counts, strict=True)]
        last, self._last = self._last, (now, spans)
        if last is None or now <= last[0]:
            return
        fresh = [after - before for before, after in zip(last[1], spans, strict=True)]
        count = sum(fresh)
        if count > 0:
            self._looks.append(Look(count / (now - last[0]), count, _p99(fresh)))

    def advise(self, margin_seconds: float | None = None) -> Advised:
        """Reckons what can be said now.

        Args:
            margin_seconds: Left over at the end of a reservation's life; None takes that of the
                settings, or a tenth of the shortest life where they say none.
        """
        held = self._policy()
        margin = margin_seconds
        if margin is None:
            margin = _gate_value("margin_seconds", held, self._settings)
        gates = [gate for gate in self._gates.all() if gate.cause != "SALE_ENDED"]
        present = _present(held, self._settings)
        present |= {
            f"queue_count_max {gate.sale_id}": float(gate.queue_count_max)
            for gate in gates
            if gate.queue_count_max
        }
        return advise(
            Facts(
                sales=[SaleLife(gate.sale_id, gate.reservation_ttl_ms / _MILLI) for gate in gates],
                orders=self._orders_now(),
                looks=list(self._looks),
                margin_seconds=margin if margin or margin_seconds is not None else None,
                present=present,
            )
        )

    def _orders_now(self) -> Orders | None:
        with self._lock:
            kept = self._orders
        return kept and replace(kept[1], age_seconds=self._clock() - kept[0])

    def _policy(self) -> dict[str, Any]:
        held: dict[str, Any] = json.loads(self._node.policy_json())["settings"]
        return held


def _present(held: Mapping[str, Any], settings: "GateSettings") -> dict[str, float]:
    names = ("settled_per_second", "pay_p99_seconds", "margin_seconds")
    gates = {f"gate.{name}": _gate_value(name, held, settings) for name in names}
    # Nothing is what they say when they are not set.
    present = {key: value for key, value in gates.items() if value}
    return present | {key: float(held[key]) for key in _POLICY_KEYS if key in held}


def _gate_value(name: str, held: Mapping[str, Any], settings: "GateSettings") -> float:
    """Returns what gates are judged by: a section of the policy goes before the settings."""
    return float(held.get(f"gate.{name}", getattr(settings, name)))


def _p99(spans: list[int]) -> float:
    """Returns the upper bound of the span that holds the slowest but one in a hundred."""
    slower = sum(spans)
    allowed = _SLOWEST_SHARE * slower
    for bound, count in zip(LATENCY_BOUNDS, spans, strict=False):
        slower -= count
        if slower <= allowed:
            return bound
    return _BEYOND_SECONDS
