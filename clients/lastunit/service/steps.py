"""Runs the steps of a service for as long as it serves.

Owns the loops, their pauses and what happens when a step fails: it is logged and tried again,
because a loop that dies in silence leaves units and money lying. Must not hold business rules.
Next: the `loops` module of a service says which steps it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, TypeVar

from lastunit.errors import LastunitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

__all__ = ["Background", "repeat", "take_in_batches"]

ItemT = TypeVar("ItemT")

# A failing step is tried again after so long; a ledger that restarts is back within a second.
_FAILURE_PAUSE_SECONDS: Final = 0.5

_log: Final = logging.getLogger(__name__)


async def repeat(
    step: Callable[[], Awaitable[int]], *, name: str, pause_seconds: float, full_count: int
) -> None:
    """Calls a step again and again until it is cancelled.

    Args:
        step: Does what is due and returns how much that was.
        name: For the log.
        pause_seconds: Pause after a step, more than 0.
        full_count: A step that did so much has more to do and is called again without a pause.
    """
    while True:
        pause = pause_seconds
        try:
            if await step() >= full_count:
                pause = 0.0
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it is
            pause = max(pause, _FAILURE_PAUSE_SECONDS)
            _report(name, error)
        await asyncio.sleep(pause)


async def take_in_batches(
    open_stream: Callable[[], AsyncIterator[ItemT]],
    take: Callable[[Sequence[ItemT]], Awaitable[int]],
    *,
    name: str,
    batch_max: int,
) -> None:
    """Hands the items of a stream over, as many at once as have come meanwhile.

    Args:
        open_stream: Opens the stream after the last item that was taken; called again if the
            stream breaks.
        take: Takes items in order; it is given the same ones again if it fails, and so must know
            which ones it has.
        name: For the log.
        batch_max: At most so many items at once, 1 or more.
    """
    while True:
        queue: asyncio.Queue[ItemT] = asyncio.Queue(maxsize=batch_max)
        pump = asyncio.create_task(_pump(open_stream(), queue))
        try:
            while True:
                batch = await _next_batch(queue, pump, batch_max)
                await take(batch)
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever it is
            _report(name, error)
        finally:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await pump
        await asyncio.sleep(_FAILURE_PAUSE_SECONDS)


async def _pump(stream: AsyncIterator[ItemT], queue: asyncio.Queue[ItemT]) -> None:
    async for item in stream:
        await queue.put(item)
    raise ConnectionError("the stream ended, which it should not")


async def _next_batch(
    queue: asyncio.Queue[ItemT], pump: asyncio.Task[None], batch_max: int
) -> Sequence[ItemT]:
    """Waits for one item and takes what else is there; raises what broke the stream."""
    if queue.empty():
        first = asyncio.create_task(queue.get())
        try:
            await asyncio.wait({first, pump}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not first.done():
                first.cancel()
        if not first.done() or first.cancelled():
            await pump
        batch = [first.result()]
    else:
        batch = [queue.get_nowait()]
    while len(batch) < batch_max and not queue.empty():
        batch.append(queue.get_nowait())
    return batch


def _report(name: str, error: Exception) -> None:
    if isinstance(error, LastunitError):
        _log.warning("a step failed and is tried again", extra={"step": name, "why": str(error)})
    else:
        _log.error("a step failed and is tried again", extra={"step": name}, exc_info=error)


class Background:
    """Keeps the loops of a service, so that they can be stopped together."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, loop: Coroutine[None, None, None]) -> None:
        """Starts a loop."""
        self._tasks.append(asyncio.create_task(loop))

    async def stop(self) -> None:
        """Cancels every loop and waits until each has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
