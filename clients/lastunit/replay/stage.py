"""Lets simulated time pass for real asynchronous code.

Owns the simulated clock, what is due when, and the certainty that all code of one instant has run
before the next instant begins. Must not know buyers or stock. Next: ``ours.py``.

Real calls to the ledger take real time and no simulated time. So the stage counts its tasks: an
instant is over once each of them has ended or waits for something that only a later instant brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from typing import TYPE_CHECKING, Any

from lastunit.service.clock import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

__all__ = ["Stage"]

REAL_SECONDS_MAX = 120.0
"""Longest time that one instant may take; beyond it something hangs and the run fails."""


class Stage:
    """Simulated time for one run.

    Args:
        start_ms: First instant, milliseconds since the epoch.

    Attributes:
        clock: What services read the time from.
        now_ms: The instant, not rounded to the clock's milliseconds.
    """

    def __init__(self, start_ms: int) -> None:
        self.clock = SimulatedClock(start_ms)
        self.start_ms = start_ms
        self.now_ms = float(start_ms)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._still = asyncio.Event()
        self._error: BaseException | None = None

    # Time

    @property
    def next_ms(self) -> float | None:
        """The next instant at which something is planned, or ``None``."""
        return self._due[0][0] if self._due else None

    def seconds(self) -> float:
        """Seconds since the first instant."""
        return (self.now_ms - self.start_ms) / 1_000.0

    def advance_to(self, instant_ms: float) -> None:
        """Moves the clock; never back."""
        assert instant_ms >= self.now_ms
        self.now_ms = instant_ms
        self.clock.advance_to(int(instant_ms))

    def plan(self, instant_ms: float, action: Callable[[], None]) -> None:
        """Lets ``action`` be called at an instant that is not over."""
        heapq.heappush(self._due, (max(instant_ms, self.now_ms), next(self._serial), action))

    def call_due(self) -> None:
        """Calls what is planned for now or before, in order."""
        while self._due and self._due[0][0] <= self.now_ms:
            heapq.heappop(self._due)[2]()

    # Tasks

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that belongs to the simulated world."""
        self._running += 1
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def settle(self) -> None:
        """Waits until no task can go on without time passing.

        Raises:
            BaseException: What a task raised.
            TimeoutError: A task neither ended nor waited for simulated time.
        """
        if self._running > 0:
            self._still.clear()
            async with asyncio.timeout(REAL_SECONDS_MAX):
                await self._still.wait()
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Marks the calling task as one that waits for simulated time; see ``wake``."""
        self._went_still()
        # Whoever wakes the task has counted it as running already.
        yield

    def wake(
        self,
        future: asyncio.Future[Any],
        *,
        value: Any = None,
        error: Exception | None = None,
    ) -> None:
        """Resolves what a waiting task waits for; it counts as running from now on."""
        if future.done():
            return
        self._running += 1
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def close(self) -> None:
        """Ends all tasks; for a run that is over or has failed."""
        for task in self._tasks:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or task.exception()
        self._went_still()

    def _went_still(self) -> None:
        self._running -= 1
        if self._running <= 0 or self._error is not None:
            self._still.set()
