"""Where services get the time from: a real clock or a simulated one.

Owns the `Clock` protocol. Must not sleep: service logic is written as steps that are given the
time, and thin loops call them. Next: `lastunit.service.server`.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SimulatedClock", "SystemClock"]


class Clock(Protocol):
    """Tells the time in milliseconds since the epoch."""

    def now_ms(self) -> int:
        """Returns milliseconds since the epoch; never less than it returned before."""
        ...


class SystemClock:
    """Tells the machine's time, held back from ever running backwards."""

    def __init__(self) -> None:
        self._latest_ms = 0

    def now_ms(self) -> int:
        """Returns milliseconds since the epoch; never less than it returned before."""
        self._latest_ms = max(self._latest_ms, time.time_ns() // 1_000_000)
        return self._latest_ms


class SimulatedClock:
    """Tells the time a simulation has set, so that the same code runs in minutes or in days.

    Args:
        start_ms: First time told, in milliseconds since the epoch, 0 or more.
    """

    def __init__(self, start_ms: int = 0) -> None:
        if start_ms < 0:
            raise ValueError(f"start_ms is {start_ms}; it must be 0 or more")
        self._now_ms = start_ms

    def now_ms(self) -> int:
        """Returns the time that was set last."""
        return self._now_ms

    def advance_to(self, now_ms: int) -> None:
        """Sets the time.

        Args:
            now_ms: Milliseconds since the epoch, not less than `now_ms()`.

        Raises:
            ValueError: The time would run backwards.
        """
        if now_ms < self._now_ms:
            raise ValueError(f"now_ms is {now_ms}; the clock stands at {self._now_ms} already")
        self._now_ms = now_ms
