"""Calls whose message has not come: they hold no thread, and there are only so many of them.

Owns the waiting between a call's headers and its message on both kinds of server; must not know
methods. Anybody who can connect can open a call and never send its message. grpc's sync server
keeps a thread for each such call, so that as many of them as there are threads stop a listener for
good; its asyncio server keeps a task. Here the oldest goes when there are too many, and any goes
that has waited too long. A good call's message comes right behind its headers, so it is never old.
In a rush on the asyncio server, though, the headers of thousands are read before the first message
is: there nobody goes for others who came a moment ago, until there are far too many.

The sync half stands on names that grpc keeps to itself: its thread pool is ours, and a call that is
handed to it shows what to receive. A test holds those names against the version we lock.
"""

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from grpc import _server as grpc_server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from lastunit_server import faults
from lastunit_server.faults import Refusal
from lastunit_server.options import (
    HALF_OPEN_MAX,
    HALF_OPEN_PATIENCE_SECONDS,
    HALF_OPEN_RUSH_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit_server.counts import CallCounts

__all__ = ["MESSAGE_LATE", "Anteroom", "MessageFirstPool"]

# In metrics: a call that was sent away because its message did not come.
MESSAGE_LATE: Final = "message_late"

# What grpc keeps to itself, in one place.
_RUN_UNARY: Any = grpc_server._unary_response_in_pool  # noqa: SLF001 - see the docstring
_receive_message: Any = grpc_server._receive_message  # noqa: SLF001 - see the docstring
_is_active: Any = grpc_server._is_rpc_state_active  # noqa: SLF001 - see the docstring
_abort_call: Any = grpc_server._abort  # noqa: SLF001 - see the docstring
_RECEIVING: Any = grpc_server._RECEIVE_MESSAGE_TOKEN  # noqa: SLF001 - see the docstring
_LATE: Final = "the message of this call did not come in time, send the call again"


def message_late() -> Refusal:
    """Refuses a call whose message did not come: UNAVAILABLE, safe to send again."""
    return faults.fault(grpc.StatusCode.UNAVAILABLE, "MESSAGE_LATE", _LATE)


def message_missing() -> Refusal:
    """Refuses a call that ended without a message."""
    text = "this method takes one message and none came, send it"
    return faults.fault(grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_MISSING", text)


class Anteroom:
    """Where calls of the asyncio server wait for their message. Used on one loop only.

    Args:
        counts: Where calls that are sent away are counted.
        wait_seconds: For which a call may wait.
        half_open_max: Calls that may wait at once, 1 or more; of more, those go that have waited
            for `patience_seconds`.
        rush_max: Calls that may wait in a rush; of more, the oldest goes at once.
        patience_seconds: For which a call may wait although there are too many.
    """

    def __init__(
        self,
        counts: "CallCounts",
        *,
        wait_seconds: float,
        half_open_max: int = HALF_OPEN_MAX,
        rush_max: int = HALF_OPEN_RUSH_MAX,
        patience_seconds: float = HALF_OPEN_PATIENCE_SECONDS,
    ) -> None:
        self._counts = counts
        self._wait_seconds = wait_seconds
        self._max, self._rush_max = half_open_max, rush_max
        self._patience_seconds = patience_seconds
        # In the order in which they came, with the time at which they did.
        self._waiting: dict[asyncio.Task[Any], float] = {}

    async def message(self, context: Any) -> bytes | Refusal:
        """Awaits a call's message.

        Args:
            context: Of a call that is served as a stream of requests.

        Returns:
            The message, or why there is none.
        """
        task = asyncio.current_task()
        assert task is not None
        waiting = self._waiting
        now = time.monotonic()
        waiting[task] = now
        # Two for one that comes make room in the end, and no step of thousands of answers.
        for _ in range(2):
            oldest, since = next(iter(waiting.items()))
            is_over = len(waiting) > self._max and now - since >= self._patience_seconds
            if is_over or len(waiting) > self._rush_max:
                self._send_away(oldest)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if task in waiting:
                raise
            task.uncancel()
            self._counts.refuse(MESSAGE_LATE)
            return message_late()
        finally:
            waiting.pop(task, None)
        return message_missing() if message is grpc.aio.EOF else bytes(message)

    def sweep(self) -> None:
        """Sends away who has waited too long; called now and then."""
        since_min = time.monotonic() - self._wait_seconds
        late = [task for task, since in self._waiting.items() if since < since_min]
        for task in late:
            self._send_away(task)

    def _send_away(self, task: "asyncio.Task[Any]") -> None:
        del self._waiting[task]
        task.cancel()


class _Call:
    """One call of the sync server between its headers and its message."""

    def __init__(self, event: Any, state: Any, wait_seconds: float) -> None:
        self.event = event
        self.state = state
        self.end = time.monotonic() + wait_seconds
        self.is_sent_away = False
        self.done: Future[None] = Future()


class MessageFirstPool(ThreadPoolExecutor):
    """A pool for grpc's sync server whose threads take up calls that have their message.

    Args:
        thread_count: Calls that are worked on at once, 1 or more.
        counts: Where calls that are sent away are counted.
        wait_seconds: For which a call may wait for its message.
        half_open_max: Calls that may wait for their message at once, 1 or more.
    """

    def __init__(
        self,
        thread_count: int,
        counts: "CallCounts",
        *,
        wait_seconds: float,
        half_open_max: int = HALF_OPEN_MAX,
    ) -> None:
        super().__init__(thread_count, thread_name_prefix="settlement")
        self._counts = counts
        self._wait_seconds = wait_seconds
        self._max = half_open_max
        self._lock = threading.Lock()
        # In the order in which they came.
        self._waiting: dict[_Call, None] = {}

    def submit(
        self, function: "Callable[..., Any]", /, *arguments: Any, **named: Any
    ) -> "Future[Any]":
        """Runs a function in a thread; a unary call's only once its message is there."""
        if arguments and arguments[0] is _RUN_UNARY:
            _step, event, state, _behavior, _thunk, deserializer, _serializer = arguments
            return self._receive(event, state, deserializer, function, arguments)
        return super().submit(function, *arguments, **named)

    def _receive(
        self,
        event: Any,
        state: Any,
        deserializer: Any,
        function: "Callable[..., Any]",
        arguments: tuple[Any, ...],
    ) -> "Future[Any]":
        call = _Call(event, state, self._wait_seconds)
        note = _receive_message(state, event.call, deserializer)

        def received(batch: Any) -> Any:
            finished = note(batch)
            with self._lock:
                self._waiting.pop(call, None)
            request = _taken(state)
            if request is None:
                _end_without_message(call)
                call.done.set_result(None)
            else:
                given = (*arguments[:4], lambda: request, *arguments[5:])
                work = super(MessageFirstPool, self).submit(function, *given)
                work.add_done_callback(lambda _work: call.done.set_result(None))
            return finished

        with state.condition:
            if not _is_active(state):
                call.done.set_result(None)
                return call.done
            event.call.start_server_batch((cygrpc.ReceiveMessageOperation(0),), received)
            state.due.add(_RECEIVING)
        self._admit(call)
        return call.done

    def _admit(self, call: _Call) -> None:
        now = time.monotonic()
        late: list[_Call] = []
        with self._lock:
            if not call.done.done():
                self._waiting[call] = None
            for oldest in self._waiting:
                if len(self._waiting) - len(late) <= self._max and oldest.end >= now:
                    break
                late.append(oldest)
            for each in late:
                del self._waiting[each]
        for each in late:
            self._send_away(each)

    def sweep(self) -> None:
        """Sends away who has waited too long; called now and then."""
        now = time.monotonic()
        with self._lock:
            late = [call for call in self._waiting if call.end < now]
            for call in late:
                del self._waiting[call]
        for call in late:
            self._send_away(call)

    def _send_away(self, call: _Call) -> None:
        """Ends a call whose message is late; its receive then ends without one."""
        call.is_sent_away = True
        self._counts.refuse(MESSAGE_LATE)
        _abort(call, message_late(), cygrpc.StatusCode.unavailable)


def _taken(state: Any) -> Any:
    with state.condition:
        request, state.request = state.request, None
    return request


def _end_without_message(call: _Call) -> None:
    if not call.is_sent_away:
        _abort(call, message_missing(), cygrpc.StatusCode.invalid_argument)


def _abort(call: _Call, refusal: Refusal, code: Any) -> None:
    with call.state.condition:
        if _is_active(call.state):
            call.state.trailing_metadata = refusal.trailers
            _abort_call(call.state, call.event.call, code, refusal.message.encode())
