"""The batch stream that fills itself: calls that are in flight together share a message.

Owns the queue of operations, the clock of messages, broken streams and deadlines. Must not know
what an operation means. Next: `lastunit.client._operation`, `lastunit.client.aio`.

While no message is under way, what is queued leaves at once. What arrives meanwhile leaves with
the next message when the answer comes, so messages grow with the load by themselves. Only when
`FILL_OPERATIONS` wait does a second message follow before the first is answered.

A stream that breaks loses answers, not operations: each is sent again with the same id on a new
stream until its deadline. Operations leave in the order in which they were submitted; only one
that is sent again may come after a later one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit import errors
from lastunit.client._cancellation import CancellationGuard
from lastunit.client._operation import Operation
from lastunit.client._retry import backoff_seconds
from lastunit.client._status import Failure, failure_from_call, failure_from_fault
from lastunit.client._unary import TRIES_MAX
from lastunit.stock.v1 import stock_service_pb2

if TYPE_CHECKING:
    import random

    from lastunit.client._seen import Seen

__all__ = ["Exchange", "ExchangeLimits"]

_PATH: Final = "/lastunit.stock.v1.StockService/Exchange"

# The contract's bounds of one message, less a little for what wraps the operations.
OPERATIONS_PER_MESSAGE_MAX: Final = 4_096
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024 - 1024

# Two expiries closer together than this share one walk over what is pending.
_EXPIRY_STEP_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeLimits:
    """Bounds of one batch stream.

    Attributes:
        pending_max: Operations without an answer, 1 or more; one more is refused as busy.
        operations_per_message_max: 1 to 4,096. Beyond a thousand nothing is gained, and the
            replies of a message must fit into one message too.
        messages_in_flight_max: Messages without an answer, 1 to 16.
        fill_operations: Operations that are worth a message although another is under way.
    """

    pending_max: int = 65_536
    operations_per_message_max: int = 1_024
    messages_in_flight_max: int = 4
    fill_operations: int = 256

    def __post_init__(self) -> None:
        """Refuses limits outside of their ranges."""
        if self.pending_max < 1:
            raise ValueError(f"pending_max is {self.pending_max}; it must be 1 or more")
        if not 1 <= self.operations_per_message_max <= OPERATIONS_PER_MESSAGE_MAX:
            raise ValueError(
                f"operations_per_message_max is {self.operations_per_message_max}; "
                f"it must be 1 to {OPERATIONS_PER_MESSAGE_MAX}"
            )
        if not 1 <= self.messages_in_flight_max <= 16:  # noqa: PLR2004 - stated above
            raise ValueError(
                f"messages_in_flight_max is {self.messages_in_flight_max}; it must be 1 to 16"
            )
        if self.fill_operations < 1:
            raise ValueError(f"fill_operations is {self.fill_operations}; it must be 1 or more")


class _ProtocolError(Exception):
    """The server answered something that no request asked for."""


class Exchange:
    """Sends operations over one stream at a time and hands each its reply.

    Args:
        channel: Where to call.
        seen: What a stream carries when it opens and what replies add to.
        limits: Its bounds.
        jitter: Spreads retries.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        seen: Seen,
        limits: ExchangeLimits,
        jitter: random.Random,
    ) -> None:
        self._open: Any = channel.stream_stream(
            _PATH,
            request_serializer=None,
            response_deserializer=stock_service_pb2.ExchangeResponse.FromString,
        )
        self._seen = seen
        self._limits = limits
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Operation] = deque()
        # Dictionaries keep their order, so this is also the order in which they were sent.
        self._in_flight: dict[int, list[Operation]] = {}
        # Refused for now, each with the timer that will queue it again.
        self._delayed: dict[Operation, asyncio.TimerHandle] = {}
        self._changed = asyncio.Event()
        self._exchange_id = 0
        self._failure_count = 0
        self._is_closed = False
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self.message_count = 0
        self.operation_count = 0

    @property
    def pending_count(self) -> int:
        """How many operations have no answer yet."""
        in_flight = sum(map(len, self._in_flight.values()))
        return len(self._waiting) + in_flight + len(self._delayed)

    def submit(self, kind: str, part: bytes, deadline_seconds: float) -> asyncio.Future[Any]:
        """Queues one operation.

        Args:
            kind: Name of the operation's field in `Operation` and `Reply`.
            part: An `ExchangeRequest` with this one operation, serialized.
            deadline_seconds: More than 0; covers all tries.

        Returns:
            Resolves to the response message, or raises a LastunitError.

        Raises:
            BusyError: Too many operations have no answer yet.
            ClosedError: The client is closed.
        """
        if self._is_closed:
            raise errors.ClosedError("the client is closed")
        if self.pending_count >= self._limits.pending_max:
            raise errors.BusyError(
                f"{self._limits.pending_max} operations wait for an answer; try later",
                limit=self._limits.pending_max,
            )
        future: asyncio.Future[Any] = self._loop.create_future()
        deadline = self._loop.time() + deadline_seconds
        self._waiting.append(Operation(kind, part, future, deadline, deadline_seconds))
        self._changed.set()
        if self._expiry is None or deadline < self._expiry.when():
            self._expire_at(deadline)
        if self._task is None:
            self._task = self._loop.create_task(self._run())
        return future

    def renew(self) -> None:
        """Leaves the stream for a new one, which carries what is seen by now."""
        if self._call is not None:
            self._call.cancel()

    async def close(self, grace_seconds: float) -> None:
        """Ends the stream once everything pending is answered or the grace is over.

        Args:
            grace_seconds: Seconds to wait for answers, 0 or more.
        """
        self._is_closed = True
        pending = [operation.future for operation in self._pending() if not operation.is_done]
        if pending and grace_seconds > 0:
            await asyncio.wait(pending, timeout=grace_seconds)
        if self._expiry is not None:
            self._expiry.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for operation in self._pending():
            operation.fail(errors.ClosedError("the client was closed before an answer came"))
        for timer in self._delayed.values():
            timer.cancel()

    def _pending(self) -> list[Operation]:
        in_flight = [each for message in self._in_flight.values() for each in message]
        return [*in_flight, *self._waiting, *self._delayed]

    # --- the stream and its breaks ---

    async def _run(self) -> None:
        guard = CancellationGuard()
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            failure = await self._converse(guard)
            guard.check()
            self._failure_count += 1
            pause = self._take_back(failure)
            await asyncio.sleep(pause)

    async def _converse(self, guard: CancellationGuard) -> Failure:
        """Opens a stream and serves it until it breaks; says why it did."""
        call = self._call = self._open(metadata=self._seen.metadata())
        writer = self._loop.create_task(self._write(call))
        try:
            return await self._read(call, guard)
        except grpc.aio.AioRpcError as error:
            return failure_from_call(error)
        except _ProtocolError as error:
            return Failure(grpc.StatusCode.INTERNAL, str(error), reason="EXCHANGE_BROKEN")
        finally:
            call.cancel()
            writer.cancel()
            # A write on a broken stream fails with what the read has told already.
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        while True:
            while not self._is_time_to_send():
                self._changed.clear()
                await self._changed.wait()
            message = self._pack()
            if message is not None:
                await call.write(message)

    async def _read(self, call: Any, guard: CancellationGuard) -> Failure:
        while True:
            try:
                response = await call.read()
            except asyncio.CancelledError:
                if guard.is_cancelled:
                    raise
                # We left the stream ourselves: it answered nothing in time, or has to be renewed.
                return Failure(grpc.StatusCode.UNAVAILABLE, "the stream was left")
            if response is grpc.aio.EOF:
                code = await call.code()
                if code is grpc.StatusCode.OK:
                    return Failure(grpc.StatusCode.UNAVAILABLE, "the server ended the stream")
                return Failure(code, await call.details() or "")
            self._answer(response)

    def _take_back(self, failure: Failure) -> float:
        """Queues what was in flight again, or fails it; returns the pause before a new stream."""
        operations = [each for message in self._in_flight.values() for each in message]
        self._in_flight.clear()
        # A server that shuts down cancels streams; nothing was refused by that.
        if failure.code is grpc.StatusCode.CANCELLED:
            failure = Failure(grpc.StatusCode.UNAVAILABLE, failure.message)
        if not operations and not failure.is_retryable:
            # Not even a message could be sent: what waits would fare no better.
            operations = list(self._waiting)
            self._waiting.clear()
        again = [each for each in operations if self._may_go_again(each, failure)]
        self._waiting.extendleft(reversed(again))
        for operation in self._waiting:
            operation.last_failure = failure
        pause = backoff_seconds(
            self._failure_count,
            pushback_seconds=failure.pushback_seconds if failure.is_retryable else None,
            jitter=self._jitter,
        )
        assert pause is not None, "a failure that forbids retries is not retryable"
        return pause

    def _may_go_again(self, operation: Operation, failure: Failure) -> bool:
        if operation.is_done:
            return False
        operation.last_failure = failure
        operation.failure_count += 1
        if failure.is_retryable and operation.failure_count < TRIES_MAX:
            return True
        operation.fail(self._error(operation, failure))
        return False

    # --- messages ---

    def _is_time_to_send(self) -> bool:
        if not self._waiting:
            return False
        in_flight_count = len(self._in_flight)
        if in_flight_count == 0:
            return True
        is_worth_it = len(self._waiting) >= self._limits.fill_operations
        return is_worth_it and in_flight_count < self._limits.messages_in_flight_max

    def _pack(self) -> bytes | None:
        """Takes operations off the queue and joins them into one message."""
        operations: list[Operation] = []
        byte_count = 0
        while self._waiting and len(operations) < self._limits.operations_per_message_max:
            operation = self._waiting[0]
            if operation.is_done:
                # Its caller has gone or its time is up: sending it would only cost.
                self._waiting.popleft()
                continue
            byte_count += len(operation.part)
            if byte_count > MESSAGE_BYTES_MAX:
                break
            operations.append(self._waiting.popleft())
        if not operations:
            return None
        self._exchange_id += 1
        self._in_flight[self._exchange_id] = operations
        self.message_count += 1
        self.operation_count += len(operations)
        head = stock_service_pb2.ExchangeRequest(exchange_id=self._exchange_id)
        # Serialized messages that are joined read as one message with their lists joined.
        return head.SerializeToString() + b"".join([each.part for each in operations])

    def _answer(self, response: stock_service_pb2.ExchangeResponse) -> None:
        operations = self._in_flight.get(response.exchange_id)
        if operations is None:
            raise _ProtocolError(f"the server answered unknown exchange {response.exchange_id}")
        replies = response.replies
        if len(replies) != len(operations):
            raise _ProtocolError(
                f"the server gave {len(replies)} replies to {len(operations)} operations"
            )
        for operation, reply in zip(operations, replies, strict=True):
            kind = reply.WhichOneof("response")
            if kind not in (operation.kind, "fault"):
                raise _ProtocolError(f"the server answered {operation.kind} with {kind}")
        del self._in_flight[response.exchange_id]
        self._failure_count = 0
        self._changed.set()
        note = self._seen.note
        for operation, reply in zip(operations, replies, strict=True):
            if reply.HasField("fault"):
                self._refuse(operation, failure_from_fault(reply.fault))
            else:
                message = getattr(reply, operation.kind)
                note(message.place)
                operation.resolve(message)

    def _refuse(self, operation: Operation, failure: Failure) -> None:
        if operation.is_done:
            return
        operation.last_failure = failure
        operation.failure_count += 1
        if not failure.is_retryable or operation.failure_count >= TRIES_MAX:
            operation.fail(self._error(operation, failure))
            return
        pause = backoff_seconds(
            operation.failure_count,
            pushback_seconds=failure.pushback_seconds,
            jitter=self._jitter,
        )
        assert pause is not None, "a failure that forbids retries is not retryable"
        self._delayed[operation] = self._loop.call_later(pause, self._requeue, operation)

    def _requeue(self, operation: Operation) -> None:
        del self._delayed[operation]
        self._waiting.append(operation)
        self._changed.set()

    def _error(self, operation: Operation, failure: Failure) -> errors.LastunitError:
        return failure.error(
            seen_sequence=self._seen.sequence, deadline_seconds=operation.deadline_seconds
        )

    # --- deadlines ---

    def _expire_at(self, time: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_at(time, self._expire)

    def _expire(self) -> None:
        """Fails what is overdue and sets the timer for the next; one walk serves many."""
        self._expiry = None
        now = self._loop.time()
        next_deadline = float("inf")
        for operation in self._pending():
            if operation.is_done:
                continue
            if operation.deadline <= now:
                operation.fail(self._overdue_error(operation))
            else:
                next_deadline = min(next_deadline, operation.deadline)
        for operation in [each for each in self._delayed if each.is_done]:
            self._delayed.pop(operation).cancel()
        self._leave_if_still(now)
        if next_deadline < float("inf"):
            self._expire_at(max(next_deadline, now + _EXPIRY_STEP_SECONDS))

    def _leave_if_still(self, now: float) -> None:
        """Gives up a stream that let a whole message go overdue, so that others are not stuck."""
        for operations in self._in_flight.values():
            if all(each.is_done and each.deadline <= now for each in operations):
                self._call.cancel()
                return

    def _overdue_error(self, operation: Operation) -> errors.LastunitError:
        failure = operation.last_failure
        if failure is not None:
            return self._error(operation, failure)
        return errors.DeadlineExceededError(
            f"no answer within {operation.deadline_seconds:g} s; "
            "the effect is unknown, retry with the same id",
            deadline_seconds=operation.deadline_seconds,
            reason="DEADLINE_EXCEEDED",
        )
