"""Streams from the ledger that outlive their connection.

Owns the resuming of events and of availability. Must not interpret an event.
Next: `proto/lastunit/stock/v1/journal_service.proto`.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import grpc

from lastunit import errors
from lastunit.client._cancellation import CancellationGuard
from lastunit.client._retry import backoff_seconds
from lastunit.client._status import Failure, failure_from_call
from lastunit.stock.v1 import journal_service_pb2, outcome_pb2, stock_service_pb2

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Callable

    from lastunit.client._seen import Seen
    from lastunit.stock.v1 import event_pb2

__all__ = ["EventPage", "EventReader", "Resumed"]

RequestT = TypeVar("RequestT")

_READ_EVENTS: Final = "/lastunit.stock.v1.JournalService/ReadEvents"
_WATCH: Final = "/lastunit.stock.v1.StockService/WatchAvailability"

# The journal ends before the reader's cursor: what the reader has seen is lost.
_NOT_REACHED: Final = "SEQUENCE_NOT_REACHED"

# The journal begins after the reader's cursor: what lies between is only in the ledger's state.
_REMOVED: Final = "EVENTS_REMOVED"

# Tries without any message in between when a stream is to end by itself; one that follows goes on
# until its reader stops, because an outage of the ledger is what it is there to outlive.
_TRIES_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class EventPage:
    """Some events that follow each other.

    Attributes:
        events: In order and without a gap; empty if there were none yet.
        durable_sequence: The last durable event of the journal when the page left.
        epoch: Number of the opening of the journal that serves; higher at each opening.
    """

    events: tuple[event_pb2.Event, ...]
    durable_sequence: int
    epoch: int


class EventReader:
    """Reads streams on one channel.

    Args:
        channel: The data listener.
        seen: What a stream carries when it opens.
        jitter: Spreads retries.
        reader_id: Under which name the journal keeps what is yet to be read; empty keeps nothing.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, seen: Seen, jitter: random.Random, reader_id: str = ""
    ) -> None:
        self._reader_id = reader_id
        self._seen = seen
        self._jitter = jitter
        self._read: Any = channel.unary_stream(
            _READ_EVENTS,
            request_serializer=journal_service_pb2.ReadEventsRequest.SerializeToString,
            response_deserializer=journal_service_pb2.ReadEventsResponse.FromString,
        )
        self._watch: Any = channel.unary_stream(
            _WATCH,
            request_serializer=stock_service_pb2.WatchAvailabilityRequest.SerializeToString,
            response_deserializer=stock_service_pb2.WatchAvailabilityResponse.FromString,
        )

    async def read_events(
        self, after_sequence: int, *, follow: bool, page_size: int
    ) -> AsyncGenerator[event_pb2.Event]:
        """Gives out events one by one; see `StockClient.read_events`."""
        pages = self.read_pages(after_sequence, follow=follow, page_size=page_size)
        async with contextlib.aclosing(pages):
            async for page in pages:
                for event in page.events:
                    yield event

    async def read_pages(
        self, after_sequence: int, *, follow: bool, page_size: int
    ) -> AsyncGenerator[EventPage]:
        """Gives out events page by page; see `StockClient.read_event_pages`."""
        cursor = after_sequence

        def open_stream() -> Any:
            request = journal_service_pb2.ReadEventsRequest(
                after_sequence=cursor,
                follow=follow,
                page_size=page_size,
                reader_id=self._reader_id,
            )
            return self._read(request, metadata=self._seen.metadata())

        stream = Resumed[journal_service_pb2.ReadEventsResponse](
            open_stream, does_end=not follow, jitter=self._jitter
        )
        messages = stream.messages()
        try:
            async with contextlib.aclosing(messages):
                async for message in messages:
                    page = _page(cursor, message)
                    # What the reader has been given counts, even if it stops right after.
                    cursor += len(page.events)
                    if page.events:
                        yield page
        except errors.LastunitError as error:
            raise _as_lost(error, cursor) from error

    async def read_page(
        self, after_sequence: int, *, page_size: int, deadline_seconds: float
    ) -> EventPage:
        """Reads one page; see `StockClient.read_event_page`."""
        request = journal_service_pb2.ReadEventsRequest(
            after_sequence=after_sequence,
            follow=False,
            page_size=page_size,
            reader_id=self._reader_id,
        )

        def open_stream() -> Any:
            return self._read(request, metadata=self._seen.metadata())

        stream = Resumed[journal_service_pb2.ReadEventsResponse](
            open_stream, does_end=True, jitter=self._jitter
        )
        messages = stream.messages()
        try:
            async with asyncio.timeout(deadline_seconds):
                page = await anext(messages, None)
        except TimeoutError:
            raise stream.overdue_error(deadline_seconds) from None
        except errors.LastunitError as error:
            raise _as_lost(error, after_sequence) from error
        finally:
            await messages.aclose()
        if page is None:
            return EventPage(events=(), durable_sequence=after_sequence, epoch=0)
        return _page(after_sequence, page)

    async def watch_availability(
        self, request: stock_service_pb2.WatchAvailabilityRequest
    ) -> AsyncGenerator[stock_service_pb2.WatchAvailabilityResponse]:
        """Gives out levels and counters; see `StockClient.watch_availability`."""
        cursor = 0

        def open_stream() -> Any:
            # The first message after a break must not show less than was shown before it.
            request.after_sequence = cursor
            return self._watch(request, metadata=self._seen.metadata())

        stream = Resumed[stock_service_pb2.WatchAvailabilityResponse](
            open_stream, does_end=False, jitter=self._jitter
        )
        messages = stream.messages()
        async with contextlib.aclosing(messages):
            async for message in messages:
                self._seen.note(message.place)
                cursor = max(cursor, message.place.as_of_sequence)
                yield message
                if message.result.outcome != outcome_pb2.OUTCOME_OK:
                    # An unknown sale ends the stream, and asking again would change nothing.
                    return


MessageT = TypeVar("MessageT")


class Resumed(Generic[MessageT]):
    """A stream that is opened again when it breaks.

    Args:
        open_stream: Opens it at the reader's present cursor.
        does_end: True if the server ends it by itself when all is told.
        jitter: Spreads retries.
    """

    def __init__(
        self, open_stream: Callable[[], Any], *, does_end: bool, jitter: random.Random
    ) -> None:
        self._open = open_stream
        self._does_end = does_end
        self._jitter = jitter
        self._last_failure: Failure | None = None

    async def messages(self) -> AsyncGenerator[MessageT]:
        """Gives out messages until the stream ends or its reader stops."""
        failure_count = 0
        while True:
            guard = CancellationGuard()
            call = self._open()
            try:
                async for message in call:
                    failure_count = 0
                    yield message
                if self._does_end:
                    return
                failure = Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
            except grpc.aio.AioRpcError as error:
                failure = failure_from_call(error)
            finally:
                call.cancel()
            guard.check()
            failure_count += 1
            await asyncio.sleep(self._pause(failure, failure_count))

    def _pause(self, failure: Failure, failure_count: int) -> float:
        if failure.code is grpc.StatusCode.CANCELLED:
            # A server that shuts down cancels its streams.
            failure = Failure(grpc.StatusCode.UNAVAILABLE, failure.message)
        self._last_failure = failure
        if self._does_end and failure_count >= _TRIES_MAX:
            raise failure.error()
        pause = None
        if failure.is_retryable:
            pause = backoff_seconds(
                failure_count, pushback_seconds=failure.pushback_seconds, jitter=self._jitter
            )
        if pause is None:
            raise failure.error()
        return pause

    def overdue_error(self, deadline_seconds: float) -> errors.LastunitError:
        """Returns what to raise when the reader's time is up."""
        if self._last_failure is not None:
            return self._last_failure.error(deadline_seconds=deadline_seconds)
        return errors.DeadlineExceededError(
            f"no events within {deadline_seconds:g} s; nothing was changed, ask again",
            deadline_seconds=deadline_seconds,
            reason="DEADLINE_EXCEEDED",
        )


def _page(cursor: int, message: journal_service_pb2.ReadEventsResponse) -> EventPage:
    events = tuple(message.events)
    for position, event in enumerate(events, start=cursor + 1):
        _check_position(position, event)
    return EventPage(events, message.durable_sequence, message.epoch)


def _check_position(position: int, event: event_pb2.Event) -> None:
    if event.sequence != position:
        raise errors.StatusError(
            f"event {event.sequence} came where {position} had to; the journal's stream has a "
            "gap, report this and read again from the last good sequence",
            code="DATA_LOSS",
            reason="EVENT_GAP",
            metadata={"expected_sequence": str(position), "sequence": str(event.sequence)},
        )


def _as_lost(error: errors.LastunitError, cursor: int) -> errors.LastunitError:
    """Says it by its own class where the journal and the reader's cursor do not meet."""
    if error.reason == _NOT_REACHED:
        return errors.RolledBackError(
            str(error), seen_sequence=cursor, reason=error.reason, metadata=error.metadata
        )
    if error.reason == _REMOVED:
        return errors.EventsRemovedError(
            str(error),
            first_sequence=int(error.metadata["first_sequence"]),
            reason=error.reason,
            metadata=error.metadata,
        )
    return error
