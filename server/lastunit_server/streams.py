"""The streams of the data listener: Exchange, ReadEvents, WatchAvailability.

Owns order, pace and end of a stream; what flows comes from the node as bytes. Each stream ends with
UNAVAILABLE and reason DRAINING when the server stops, so that clients go on elsewhere or later.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from lastunit.admission.v1 import gate_pb2
from lastunit.stock.v1 import journal_service_pb2, outcome_pb2, stock_service_pb2
from lastunit_server import faults
from lastunit_server.call_context import milliseconds_left
from lastunit_server.completions import Answer, Completions
from lastunit_server.counts import CallCounts
from lastunit_server.declared_rules import checked
from lastunit_server.doorkeeper import Doorkeeper, Visit
from lastunit_server.faults import Refusal, refusal_from
from lastunit_server.gate_service import gate_message, unknown_sale
from lastunit_server.gates import UnknownSaleError
from lastunit_server.methods import ADMISSION, JOURNAL, STOCK, Listener, path
from lastunit_server.options import EXCHANGE_MESSAGES_IN_FLIGHT_MAX
from lastunit_server.paced import ReaderLateError

if TYPE_CHECKING:
    from lastunit_server._native import CompletionPort, Node
    from lastunit_server.gates import Gate, Gates

__all__ = ["Streams"]

Context = grpc.aio.ServicerContext[Any, Any]

_EXCHANGE = path(STOCK, "Exchange")
_WATCH = path(STOCK, "WatchAvailability")
_READ_EVENTS = path(JOURNAL, "ReadEvents")
_WATCH_GATE = path(ADMISSION, "WatchGate")


class _StreamEndError(Exception):
    """Ends a stream with a status; carries the refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Streams:
    """The stream handlers over one node and one loop.

    Args:
        node: The open node.
        completions: The loop's completions.
        counts: Where finished streams are counted.
        doorkeeper: Who calls.
        streams_max: Streams that may be open at once, 1 or more.
        gates: What front ends are told; None if this server has none.
    """

    def __init__(
        self,
        node: "Node",
        completions: Completions,
        counts: CallCounts,
        doorkeeper: Doorkeeper,
        *,
        streams_max: int,
        gates: "Gates | None" = None,
    ) -> None:
        self._doorkeeper = doorkeeper
        self._node = node
        self._completions = completions
        self._counts = counts
        self._streams_max = streams_max
        self.gates = gates
        self._open_count = 0
        self._stopped = asyncio.Event()
        self._tail = _Tail(node, completions)

    def stop(self) -> None:
        """Ends every stream after what it was asked already; no new one is let in."""
        self._stopped.set()

    @contextlib.asynccontextmanager
    async def _guarded(self, method: str, context: Context) -> AsyncIterator[Visit]:
        """Counts a stream, bounds how many are open, and turns what it raises into a status."""
        refusal: Refusal | None = None
        self._open_count += 1
        self._counts.begin()
        try:
            yield self._let_in(context)
        except (_StreamEndError, ReaderLateError) as end:
            refusal = end.refusal
        except Exception:  # noqa: BLE001 - the outer guard: no text of ours reaches a caller
            refusal = faults.bug(method)
        finally:
            self._open_count -= 1
            self._counts.end()
        self._counts.add(method, refusal.code.value[0] if refusal else 0)
        if refusal:
            await context.abort(refusal.code, refusal.message, refusal.trailers)

    def _let_in(self, context: Context) -> Visit:
        if self._open_count > self._streams_max:
            advice = "close some or ask the operator to raise data.streams_max"
            raise _StreamEndError(faults.too_many_streams(self._streams_max, advice=advice))
        visit = self._doorkeeper.visit(context)
        if isinstance(visit, Refusal):
            raise _StreamEndError(visit)
        return visit

    def _permit(self, visit: Visit, method: str, **about: Any) -> None:
        """Ends a stream that its caller may not open; what it is about as in `Doorkeeper`."""
        refusal = self._doorkeeper.refusal(visit.caller, method, **about)
        if refusal is not None:
            raise _StreamEndError(refusal)

    @staticmethod
    def _stay(visit: Visit, method: str = "", **about: Any) -> None:
        """Ends a stream whose caller has lost its name or its right since it began."""
        refusal = visit.refusal(method, **about)
        if refusal is not None:
            raise _StreamEndError(refusal)

    async def _or_stop(self, awaitable: Awaitable[Answer]) -> bytes:
        """Awaits an answer of the node, but no longer than the server lives."""
        answer = asyncio.ensure_future(awaitable)
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait((answer, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise _StreamEndError(faults.draining())
            return _body(answer.result())
        finally:
            answer.cancel()
            stopped.cancel()

    async def exchange(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Serves StockService.Exchange: one reply message per request message, in order."""
        async with self._guarded(_EXCHANGE, context) as visit:
            self._permit(visit, "Exchange", is_any_sale=True)
            async with _ExchangeInput(self._stopped) as waiting:
                waiting.read(requests, self._submitter(visit, context))
                async for pending in waiting:
                    answer = pending if isinstance(pending, tuple) else await pending
                    yield _body(answer)
            if self._stopped.is_set():
                raise _StreamEndError(faults.draining())

    def _submitter(
        self, visit: Visit, context: Context
    ) -> Callable[[bytes], Answer | Awaitable[Answer]]:
        def submit(request: bytes) -> Answer | Awaitable[Answer]:
            self._stay(visit)
            caller = visit.caller
            return self._completions.submit(
                _EXCHANGE,
                request,
                caller=caller.name,
                deadline_ms=milliseconds_left(context.time_remaining()),
                seen_sequence=caller.seen_sequence,
                seen_epoch=caller.seen_epoch,
                listener=Listener.DATA.value,
            )

        return submit

    async def read_events(self, request: bytes, context: Context) -> AsyncGenerator[bytes, None]:
        """Serves JournalService.ReadEvents: every durable event once, in order, then live."""
        async with self._guarded(_READ_EVENTS, context) as visit:
            self._permit(visit, "ReadEvents")
            asked = checked(journal_service_pb2.ReadEventsRequest, request)
            if isinstance(asked, Refusal):
                raise _StreamEndError(asked)
            self._keep_place(asked)
            async for body in self._pages(asked):
                self._stay(visit, "ReadEvents")
                yield body

    def _keep_place(self, asked: journal_service_pb2.ReadEventsRequest) -> None:
        """Lets the journal keep what a named reader has yet to read."""
        if not asked.reader_id:
            return
        refused = self._node.note_reader(asked.reader_id, asked.after_sequence)
        if refused:
            raise _StreamEndError(refusal_from(*refused))

    async def _pages(self, asked: journal_service_pb2.ReadEventsRequest) -> AsyncIterator[bytes]:
        after = asked.after_sequence
        is_first = True
        while not self._stopped.is_set():
            body, last = await self._page(after, asked.page_size)
            is_news = last > after
            # The first message tells a follower where the journal stands, events or not.
            if is_news or is_first:
                yield body
            is_first = False
            after = last
            if is_news:
                continue
            if not asked.follow:
                return
            await self._or_stop(self._tail.after(after))
        raise _StreamEndError(faults.draining())

    async def _page(self, after: int, limit: int) -> tuple[bytes, int]:
        try:
            # In a thread: a follower that is far behind reads from the disk.
            return await asyncio.to_thread(self._node.read_events, after, limit)
        except ValueError as error:
            raise _StreamEndError(_not_there(after, error)) from error

    async def watch_availability(
        self, request: bytes, context: Context
    ) -> AsyncGenerator[bytes, None]:
        """Serves StockService.WatchAvailability: the present state, then what changes."""
        async with self._guarded(_WATCH, context) as visit:
            about = {"sale_id": _sale_of(request)}
            self._permit(visit, "WatchAvailability", **about)
            watch = self._node.watch(request)
            if isinstance(watch, tuple):
                raise _StreamEndError(refusal_from(*watch))
            first = await self._or_stop(self._completions.ask(watch.next))
            yield first
            # Of an unknown sale or sku there is nothing to watch; the message says so.
            result = stock_service_pb2.WatchAvailabilityResponse.FromString(first).result
            while result.outcome == outcome_pb2.OUTCOME_OK:
                body = await self._or_stop(self._completions.ask(watch.next))
                self._stay(visit, "WatchAvailability", **about)
                yield body

    async def watch_gate(self, request: bytes, context: Context) -> AsyncGenerator[bytes, None]:
        """Serves AdmissionService.WatchGate: how a gate is, then what changes; the latest only."""
        gates = self.gates
        assert gates is not None
        async with self._guarded(_WATCH_GATE, context) as visit:
            asked = checked(gate_pb2.WatchGateRequest, request)
            if isinstance(asked, Refusal):
                raise _StreamEndError(asked)
            about = {"sale_id": asked.sale_id}
            self._permit(visit, "WatchGate", **about)
            shown: Gate | None = None
            while not self._stopped.is_set():
                self._stay(visit, "WatchGate", **about)
                # Before the look: what changes while a message is sent must not be missed.
                news = gates.news()
                try:
                    gate = gates.one(asked.sale_id)
                except UnknownSaleError as error:
                    raise _StreamEndError(unknown_sale(asked.sale_id)) from error
                if gate != shown:
                    shown = gate
                    response = gate_pb2.WatchGateResponse(gate=gate_message(gates, gate))
                    yield response.SerializeToString()
                await self._set_or_stop(news)
            raise _StreamEndError(faults.draining())

    async def _set_or_stop(self, news: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (news, self._stopped)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _sale_of(request: bytes) -> str:
    """Returns the sale of a watch; empty if the bytes don't decode, which the node will say."""
    try:
        return stock_service_pb2.WatchAvailabilityRequest.FromString(request).sale_id
    except DecodeError:
        return ""


def _not_there(after: int, error: ValueError) -> Refusal:
    """Says why events can't be read: not there any more, or not there yet."""
    match error.args:
        case (_, "EVENTS_REMOVED", int() as first_sequence):
            return faults.events_removed(after, first_sequence)
        case _:
            return faults.past_the_end(after)


def _body(answer: Answer) -> bytes:
    code, body = answer
    if code != 0:
        raise _StreamEndError(refusal_from(code, body))
    return body


class _Tail:
    """Tells when the journal has grown: all followers at one position share one question.

    So a caller that opens and leaves streams while nothing happens costs the node nothing.
    """

    def __init__(self, node: "Node", completions: Completions) -> None:
        self._node = node
        self._completions = completions
        self._asked: dict[int, asyncio.Task[Answer]] = {}

    def after(self, sequence: int) -> Awaitable[Answer]:
        """Returns what to await until an event after a position is durable."""
        task = self._asked.get(sequence)
        if task is None:
            task = asyncio.ensure_future(self._completions.ask(partial(self._notify, sequence)))
            self._asked[sequence] = task
            task.add_done_callback(lambda _task: self._asked.pop(sequence, None))
        # One follower that leaves must not take the others' answer with it.
        return asyncio.shield(task)

    def _notify(self, sequence: int, port: "CompletionPort", ticket: int) -> None:
        self._node.notify_after(port, ticket, sequence)


class _ExchangeInput:
    """Messages of one Exchange that were handed to the node, in order, a bounded number of them.

    A task of its own reads, so that a message is decided while earlier ones wait for the disk.
    """

    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped
        self._slots = asyncio.Semaphore(EXCHANGE_MESSAGES_IN_FLIGHT_MAX)
        # Bounded by the slots; None says that nothing more comes.
        self._queue: asyncio.Queue[Answer | Awaitable[Answer] | None] = asyncio.Queue()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        return self

    def read(
        self,
        requests: AsyncIterator[bytes],
        submit: Callable[[bytes], Answer | Awaitable[Answer]],
    ) -> None:
        """Starts to read; a stop of the server ends the reading, not what was read."""
        reader = asyncio.create_task(self._read(requests, submit))
        self._tasks = (reader, asyncio.create_task(self._end_at_stop(reader)))

    async def _read(
        self,
        requests: AsyncIterator[bytes],
        submit: Callable[[bytes], Answer | Awaitable[Answer]],
    ) -> None:
        try:
            async for request in requests:
                await self._slots.acquire()
                self._queue.put_nowait(submit(request))
        finally:
            self._queue.put_nowait(None)

    async def _end_at_stop(self, reader: asyncio.Task[None]) -> None:
        await self._stopped.wait()
        reader.cancel()

    async def __aiter__(self) -> AsyncIterator[Answer | Awaitable[Answer]]:
        while (pending := await self._queue.get()) is not None:
            yield pending
            self._slots.release()
        reader = self._tasks[0]
        if not reader.cancelled():
            # What broke the reading, for example a bug of ours, must not look like a clean end.
            await asyncio.wait((reader,))
            if not reader.cancelled() and (error := reader.exception()) is not None:
                raise error

    async def __aexit__(self, *_exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
