"""What an operator can set of the order service, with its ranges.

Owns names, units, defaults and checks. Must not read flags or files: `cli` does.
Next: `lastunit.order.core`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["OrderSettings"]

# Fewer than 25,000 would turn buyers of a normal rush away; more than this many calls at once
# hold memory that no answer within a deadline is worth.
CALLS_OPEN_MAX: Final = 1_000_000

# As many as may be under way by default: a bound of bounds, not a recommendation.
WORK_AT_ONCE_MAX: Final = 30_000

GHOST_SECONDS_MIN: Final = 0.1
GHOST_SECONDS_MAX: Final = 600.0

# As the credit window of an admission policy allows; slower than that it collapses.
REPORT_SECONDS_MIN: Final = 0.01
REPORT_SECONDS_MAX: Final = 0.5

WATCH_SECONDS_MIN: Final = 0.01
WATCH_SECONDS_MAX: Final = 3_600.0

# Two digits, so that an attempt's id never outgrows the 64 bytes of an id.
PAYS_PER_ORDER_MAX: Final = 99


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """Says how the order service treats its callers.

    Attributes:
        provider: The only payment provider to use, up to 64 bytes of `[A-Za-z0-9._:-]`; empty: the
            payment service chooses, and falls back to another when one is down.
        ghost_seconds: A Reserve that reaches the ledger later than this is refused there,
            0.1 to 600; a call that its caller has given up takes no unit.
        place_calls_max: PlaceOrder calls under way at once, 1 to 1,000,000; one more is answered
            RESOURCE_EXHAUSTED with when to come back.
        place_work_max: How many of them ask the account service and the ledger at once, 1 to
            30,000; the others wait, so that payments get their turn on the event loop.
        report_seconds: How often the ledger is told how far this service is, 0.01 to 0.5. A credit
            window that hears nothing for three of its intervals, 0.1 s each by default, grants its
            floor rate only.
        watchers_max: WatchOrder streams at once, 1 to 30,000; one more is answered
            RESOURCE_EXHAUSTED.
        watch_seconds: How long one of them lives, 0.01 to 3,600; its client goes on with another.
        pays_per_order_max: Numbers of attempts one order may use up, 1 to 99; the ledger bounds
            those that were begun much lower.
    """

    provider: str = ""
    ghost_seconds: float = 10.0
    place_calls_max: int = 30_000
    place_work_max: int = 512
    report_seconds: float = 0.1
    watchers_max: int = 10_000
    watch_seconds: float = 900.0
    pays_per_order_max: int = 16

    def __post_init__(self) -> None:
        """Checks every range and names the setting that is outside of it."""
        self._check("ghost_seconds", self.ghost_seconds, GHOST_SECONDS_MIN, GHOST_SECONDS_MAX)
        self._check("place_calls_max", self.place_calls_max, 1, CALLS_OPEN_MAX)
        self._check("place_work_max", self.place_work_max, 1, WORK_AT_ONCE_MAX)
        self._check("report_seconds", self.report_seconds, REPORT_SECONDS_MIN, REPORT_SECONDS_MAX)
        self._check("watchers_max", self.watchers_max, 1, WORK_AT_ONCE_MAX)
        self._check("watch_seconds", self.watch_seconds, WATCH_SECONDS_MIN, WATCH_SECONDS_MAX)
        self._check("pays_per_order_max", self.pays_per_order_max, 1, PAYS_PER_ORDER_MAX)

    def _check(self, name: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; it must be {least} to {most}")
