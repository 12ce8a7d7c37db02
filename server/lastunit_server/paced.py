"""Streams of answers at their reader's pace, but not for ever.

Owns how long one message of a stream may wait for its reader on the asyncio server; must not know
what flows. A stream whose reader has stopped would keep its place among those that may be open. It
ends with a status that the reader finds when it goes on; what it holds here is freed at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
import grpc.aio

from lastunit_server import faults
from lastunit_server.faults import Refusal

if TYPE_CHECKING:
    from lastunit_server.counts import CallCounts

__all__ = ["READER_LATE", "ReaderLateError", "Stream", "paced"]

# In metrics: a stream that was ended because nobody took its messages.
READER_LATE: Final = "reader_late"

Context = grpc.aio.ServicerContext[Any, Any]
Stream: TypeAlias = Callable[[Any, Context], AsyncGenerator[bytes, None]]


class ReaderLateError(Exception):
    """Raised inside a stream whose message was not taken; carries the refusal to end with."""

    def __init__(self, wait_seconds: float) -> None:
        self.refusal = reader_late(wait_seconds)
        super().__init__(self.refusal.message)


def reader_late(wait_seconds: float) -> Refusal:
    """Refuses to go on with a stream that nobody reads: UNAVAILABLE, safe to open again."""
    text = (
        f"nothing of this stream was taken for {wait_seconds:g} s; read faster, or open it again"
        " and go on where you were"
    )
    return faults.fault(grpc.StatusCode.UNAVAILABLE, "READER_LATE", text)


def paced(
    stream: Stream, counts: "CallCounts", wait_seconds: float
) -> Callable[[Any, Context], Awaitable[None]]:
    """Returns a handler that sends what a stream yields, each message once the last has left.

    Args:
        stream: Yields messages; is ended by `ReaderLateError` at its yield.
        counts: Where streams that are ended so are counted.
        wait_seconds: For which a message may wait for its reader.
    """

    async def serve(request: Any, context: Context) -> None:
        async with contextlib.aclosing(stream(request, context)) as messages:
            async for message in messages:
                try:
                    async with asyncio.timeout(wait_seconds):
                        await context.write(message)
                except TimeoutError:
                    counts.refuse(READER_LATE)
                    await messages.athrow(ReaderLateError(wait_seconds))
                    return

    return serve
