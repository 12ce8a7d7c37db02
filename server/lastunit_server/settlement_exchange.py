"""Exchange on the settlement listener: batches of payment facts, in order, on threads.

Owns the stream's threads: one reads and hands to the node, one writes, so that several messages are
in flight on a sync server too. Its pool is not the unary calls' pool: a stream keeps its thread as
long as it lives, and many streams must not leave a single payment callback without one.
"""

import queue
import select
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import TYPE_CHECKING, Any

import grpc

from lastunit_server import faults
from lastunit_server.call_context import Caller, milliseconds_left
from lastunit_server.completions import Answer
from lastunit_server.counts import CallCounts
from lastunit_server.doorkeeper import Doorkeeper, Visit
from lastunit_server.faults import Refusal, refusal_from
from lastunit_server.methods import STOCK, Listener, path
from lastunit_server.options import EXCHANGE_MESSAGES_IN_FLIGHT_MAX

if TYPE_CHECKING:
    from lastunit_server._native import Node

__all__ = ["STREAMS_MAX", "SettlementExchange"]

_EXCHANGE = path(STOCK, "Exchange")
# Streams at once; each keeps two threads. Order and payment services open one or two each.
STREAMS_MAX = 64
# Threads that tell streams past the bound so at once, while all others are kept.
_REFUSING_THREADS = 2
# How often the dispatcher looks whether it should end.
_POLL_MS = 500

Context = grpc.ServicerContext


class _ThreadCompletions:
    """Answers of one completion port as futures, resolved by one thread."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._port = node.port()
        self._tickets = count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Answer]] = {}
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="settlement-answers", daemon=True)
        self._thread.start()

    def submit(self, request: bytes, *, caller: Caller, deadline_ms: int | None) -> Future[Answer]:
        ticket = next(self._tickets)
        future: Future[Answer] = Future()
        # Before the node knows the ticket: its answer may come before `submit` returns.
        with self._lock:
            self._waiting[ticket] = future
        answer = self._node.submit(
            self._port,
            ticket,
            _EXCHANGE,
            request,
            caller.name,
            deadline_ms,
            caller.seen_sequence,
            Listener.SETTLEMENT.value,
            caller.seen_epoch,
        )
        if answer is not None:
            with self._lock:
                del self._waiting[ticket]
            future.set_result(answer)
        return future

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._port.fileno(), select.POLLIN)
        while not self._is_closed.is_set():
            if not poll.poll(_POLL_MS):
                continue
            for ticket, code, body in self._port.drain():
                with self._lock:
                    future = self._waiting.pop(ticket)
                future.set_result((code, body))

    def close(self) -> None:
        self._is_closed.set()
        self._thread.join()
        with self._lock:
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for future in waiting:
            future.cancel()


class SettlementExchange:
    """The Exchange handler of the settlement listener.

    Args:
        node: The open node.
        counts: Where finished streams are counted.
        doorkeeper: Who calls.
    """

    def __init__(self, node: "Node", counts: CallCounts, doorkeeper: Doorkeeper) -> None:
        self._doorkeeper = doorkeeper
        self._completions = _ThreadCompletions(node)
        self._counts = counts
        self._stopped = threading.Event()
        self._slots = threading.BoundedSemaphore(STREAMS_MAX)
        self._threads = ThreadPoolExecutor(
            2 * STREAMS_MAX + _REFUSING_THREADS, thread_name_prefix="settlement-exchange"
        )
        self._inputs: set[_Input] = set()

    def handler(self) -> Any:
        """Returns the handler in the form that grpc runs on a pool of its own."""

        def handle(requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
            return self._serve(requests, context)

        # grpc reads this attribute to choose the pool.
        handle.experimental_thread_pool = self._threads  # type: ignore[attr-defined]
        return handle

    def _serve(self, requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
        refusal: Refusal | None = None
        if not self._slots.acquire(blocking=False):
            advice = "send more operations on the streams that are open"
            refusal = faults.too_many_streams(STREAMS_MAX, advice=advice)
        else:
            self._counts.begin()
            try:
                refusal = yield from self._replies(requests, context)
            except Exception:  # noqa: BLE001 - the outer guard: no text of ours reaches a caller
                refusal = faults.bug(_EXCHANGE)
            finally:
                self._slots.release()
                self._counts.end()
        self._counts.add(_EXCHANGE, refusal.code.value[0] if refusal else 0)
        if refusal:
            context.set_trailing_metadata(refusal.trailers)
            context.abort(refusal.code, refusal.message)

    def _replies(
        self, requests: Iterator[bytes], context: Context
    ) -> Generator[bytes, None, Refusal | None]:
        # What ends the stream is the generator's return value.
        visit = self._doorkeeper.visit(context)
        if isinstance(visit, Refusal):
            return visit
        refusal = self._doorkeeper.refusal(visit.caller, "Exchange", is_any_sale=True)
        if refusal is not None:
            return refusal
        waiting = _Input(self._stopped)
        self._inputs.add(waiting)
        try:
            self._threads.submit(waiting.read, requests, self._completions, visit, context)
            while (pending := waiting.next()) is not None:
                if isinstance(pending, Refusal):
                    return pending
                code, body = pending.result()
                if code != 0:
                    return refusal_from(code, body)
                yield body
        finally:
            self._inputs.discard(waiting)
            waiting.stop()
        return faults.draining() if self._stopped.is_set() else None

    def stop(self) -> None:
        """Ends every stream after what was read already."""
        self._stopped.set()
        for waiting in tuple(self._inputs):
            waiting.stop()

    def close(self) -> None:
        """Gives the threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._completions.close()


class _Input:
    """Messages of one stream that were handed to the node, in order, a bounded number of them."""

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._is_ended = False
        self._slots = threading.Semaphore(EXCHANGE_MESSAGES_IN_FLIGHT_MAX)
        self._queue: queue.SimpleQueue[Future[Answer] | Refusal | None] = queue.SimpleQueue()

    def read(
        self,
        requests: Iterator[bytes],
        completions: _ThreadCompletions,
        visit: Visit,
        context: Context,
    ) -> None:
        try:
            for request in requests:
                self._slots.acquire()
                if self._is_ended:
                    return
                if (refusal := visit.refusal()) is not None:
                    self._queue.put(refusal)
                    return
                left = milliseconds_left(context.time_remaining())
                future = completions.submit(request, caller=visit.caller, deadline_ms=left)
                self._queue.put(future)
        except grpc.RpcError:
            # The caller hung up; what was decided stands and its ids find it.
            pass
        except Exception as error:  # noqa: BLE001 - handed to the stream, which hides it
            failed: Future[Answer] = Future()
            failed.set_exception(error)
            self._queue.put(failed)
        finally:
            self._queue.put(None)

    def next(self) -> Future[Answer] | Refusal | None:
        pending = self._queue.get()
        self._slots.release()
        return pending

    def stop(self) -> None:
        self._is_ended = True
        self._slots.release()
        self._queue.put(None)
