"""Sums up what a run over a slow order database saw, phase by phase.

Owns what counts as goodput, as delay of a settlement and as recovered. Must not run anything.
Next: `slow_database`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PHASES = ("quick", "slow", "after")
SLOWER = 3.0
PATIENCE_SECONDS = 1.0
# A payment that is begun and settled is two units of work of the order database.
UNITS_PER_SETTLEMENT = 2
# Whole units in one second: 60 a second are 1.7 % each.
RECOVERED_SHARE = 0.95


@dataclass
class Seen:
    """What one run saw; times are seconds since the first phase, below 0 in the warm-up.

    Attributes:
        acknowledged: When an order was acknowledged, and how long after the press.
        refused: When who was told not now, or sold out, pressed.
        unanswered: When who gave up without any answer pressed.
        settled: When the provider's word came, and how long until the order showed it.
        unloaded: How long that took before anybody pressed.
        looks: When the database was looked at, units of work it had done, units that waited.
        granted_count: Reservations that the ledger granted during the run.
    """

    acknowledged: list[tuple[float, float]] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    unanswered: list[float] = field(default_factory=list)
    settled: list[tuple[float, float]] = field(default_factory=list)
    unloaded: list[float] = field(default_factory=list)
    looks: list[tuple[float, int, int]] = field(default_factory=list)
    granted_count: int = 0

    def useful(self, begin: float, end: float) -> int:
        """Counts units of work that were of use to somebody, those of settlements included."""
        orders = sum(
            begin <= at < end and waited <= PATIENCE_SECONDS for at, waited in self.acknowledged
        )
        return orders + UNITS_PER_SETTLEMENT * sum(begin <= at < end for at, _ in self.settled)


def figures(seen: Seen, rate: float, seconds: float) -> dict[str, Any]:
    """Sums a run up by phase; `rate` is units of work a second, `seconds` of each phase."""
    in_time = [at for at, waited in seen.acknowledged if waited <= PATIENCE_SECONDS]
    rows: dict[str, Any] = {
        name: _phase(seen, name, rate, number * seconds, (number + 1) * seconds)
        for number, name in enumerate(PHASES)
    }
    rows["unloaded_settled_p50_ms"] = _milliseconds(sorted(seen.unloaded), 0.5)
    rows["recovered_after_seconds"] = _recovered(seen, rate, seconds)
    rows["granted"] = seen.granted_count
    rows["acknowledged_in_time"] = len(in_time)
    rows["granted_to_nobody"] = seen.granted_count - len(in_time)
    rows["in_time_each_second"] = [
        sum(second <= at < second + 1 for at in in_time) for second in range(int(3 * seconds))
    ]
    return rows


def _phase(seen: Seen, name: str, rate: float, begin: float, end: float) -> dict[str, Any]:
    can = rate / (SLOWER if name == "slow" else 1.0)
    settled = sorted(took for at, took in seen.settled if begin <= at < end)
    late = sum(begin <= at < end and took > PATIENCE_SECONDS for at, took in seen.acknowledged)
    looks = [look for look in seen.looks if begin <= look[0] < end]
    worked = (looks[-1][1] - looks[0][1]) / (looks[-1][0] - looks[0][0]) if len(looks) > 1 else 0.0
    return {
        "database_can_per_second": round(can, 1),
        "goodput_share": round(seen.useful(begin, end) / (can * (end - begin)), 3),
        "database_worked_share": round(worked / can, 3),
        "queued_max": max((queued for _, _, queued in looks), default=0),
        "refused": sum(begin <= each < end for each in seen.refused),
        "acknowledged_too_late": late,
        "unanswered": sum(begin <= each < end for each in seen.unanswered),
        "turn_ms": round(1_000 / can, 1),
        "settled_count": len(settled),
        "settled_p50_ms": _milliseconds(settled, 0.5),
        "settled_p99_ms": _milliseconds(settled, 0.99),
    }


def _milliseconds(ordered: list[float], share: float) -> int | None:
    if not ordered:
        return None
    return round(1_000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def _recovered(seen: Seen, rate: float, seconds: float) -> float | None:
    """Tells after how long a whole second was of use for 95 % of what the database can do again."""
    step = 0.1
    for number in range(int((seconds - 1.0) / step)):
        begin = 2 * seconds + number * step
        if seen.useful(begin, begin + 1.0) >= RECOVERED_SHARE * rate:
            return round(number * step, 1)
    return None
