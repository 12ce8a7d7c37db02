"""The slow order database of the incident, on the simulated clock.

Owns the two queues and when each transaction is done: one server, so many transactions a second,
payment news first. Each transaction runs in real SQLite at the instant it completes.
Must not know tables. Next: ``stage.py``, which lets time pass.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from lastunit.service.database import Database, Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from lastunit.replay.stage import Stage

__all__ = ["SlowDatabase"]

ResultT = TypeVar("ResultT")


class SlowDatabase:
    """Is a ``TransactionRunner`` whose transactions wait for their turn in simulated time.

    Args:
        database: Runs each transaction at once, in the caller's thread.
        stage: Tells the time and is told who waits.
        rate: Transactions a second, more than 0.

    Attributes:
        peak: Most transactions that waited at once.
        done_count: Transactions that are done, by lane.
    """

    def __init__(self, database: Database, *, stage: Stage, rate: float) -> None:
        self._database = database
        self._stage = stage
        self._service_ms = 1_000.0 / rate
        self._queues: dict[Lane, deque[tuple[Callable[[], Any], asyncio.Future[Any]]]] = {
            lane: deque() for lane in Lane
        }
        # Not a whole number: rounding each transaction would change the rate.
        self._done_ms: float | None = None
        self.peak = 0
        self.done_count: dict[Lane, int] = dict.fromkeys(Lane, 0)

    @property
    def queued_count(self) -> int:
        """Transactions that wait or are being served."""
        return sum(map(len, self._queues.values()))

    @property
    def next_ms(self) -> float | None:
        """When the transaction in service is done, in simulated milliseconds; ``None`` if idle."""
        return self._done_ms

    async def run(
        self, work: Callable[[sa.Connection], ResultT], *, lane: Lane = Lane.RESERVATION
    ) -> ResultT:
        """Queues a transaction and returns what it returned once it is done."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()

        def transact() -> Any:
            return self._database.run(work, lane=lane)

        self._queues[lane].append((transact, future))
        self.peak = max(self.peak, self.queued_count)
        if self._done_ms is None:
            self._done_ms = self._stage.now_ms + self._service_ms
        with self._stage.waiting():
            return await future

    async def finish_one(self) -> None:
        """Runs the first transaction of the first lane and hands out its result."""
        assert self._done_ms is not None
        lane = next(each for each in Lane if self._queues[each])
        transact, future = self._queues[lane].popleft()
        self._done_ms = self._done_ms + self._service_ms if self.queued_count else None
        self.done_count[lane] += 1
        try:
            value = await transact()
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            self._stage.wake(future, error=error)
        else:
            self._stage.wake(future, value=value)
