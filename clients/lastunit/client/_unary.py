"""One call at a time, tried again while that is safe and there is time.

Owns the retry loop of unary calls. Must not judge answers. Next: `lastunit.client._retry`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit import tracing
from lastunit.client._cancellation import CancellationGuard
from lastunit.client._retry import backoff_seconds
from lastunit.client._status import Failure, failure_from_call

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from lastunit.client._seen import Seen

__all__ = ["DEADLINE_SECONDS_MAX", "TRIES_MAX", "UnaryCaller", "check_deadline"]

# An hour of retries serves nobody; whoever needs more has a loop of their own.
DEADLINE_SECONDS_MAX: Final = 3600.0

# Reached only if a server asks for tiny pauses again and again.
TRIES_MAX: Final = 1_000


def check_deadline(deadline_seconds: float) -> float:
    """Returns the deadline.

    Raises:
        ValueError: It is not more than 0 and at most an hour.
    """
    if not 0 < deadline_seconds <= DEADLINE_SECONDS_MAX:
        raise ValueError(
            f"deadline_seconds is {deadline_seconds}; "
            f"it must be more than 0 and at most {DEADLINE_SECONDS_MAX:.0f}"
        )
    return deadline_seconds


class UnaryCaller:
    """Makes unary calls on one channel.

    Args:
        channel: Where to call.
        seen: What each call carries and each reply adds to; None for services without places.
        jitter: Spreads retries.
    """

    def __init__(
        self, channel: grpc.aio.Channel, *, seen: Seen | None, jitter: random.Random
    ) -> None:
        self._channel = channel
        self._seen = seen
        self._jitter = jitter
        # One for each method of the contract that was called, so it is bounded.
        self._methods: dict[str, Any] = {}

    async def call(
        self, path: str, request: Any, response_type: Any, *, deadline_seconds: float
    ) -> Any:
        """Calls until there is an answer, an error that a retry cannot cure, or no time.

        Args:
            path: gRPC path such as `/lastunit.stock.v1.StockService/Reserve`.
            request: The message; a retry sends the same one, so with the same id.
            response_type: The class of the answer.
            deadline_seconds: More than 0, at most an hour; covers all tries.

        Returns:
            The answer.

        Raises:
            LastunitError: As the failure says; UnavailableError if the last try was that.
        """
        if not tracing.is_on():
            return await self._call(path, request, response_type, deadline_seconds, ())
        with tracing.client_span(path) as traced:
            return await self._call(path, request, response_type, deadline_seconds, traced)

    async def _call(
        self,
        path: str,
        request: Any,
        response_type: Any,
        deadline_seconds: float,
        traced: Sequence[tuple[str, str | bytes]],
    ) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + check_deadline(deadline_seconds)
        method = self._method(path, response_type)
        failure_count = 0
        guard = CancellationGuard()
        while True:
            try:
                response = await method(
                    request,
                    timeout=deadline - loop.time(),
                    metadata=(*(self._seen.metadata() if self._seen else ()), *traced),
                )
            except grpc.aio.AioRpcError as error:
                guard.check()
                failure_count += 1
                failure = failure_from_call(error)
                pause = self._pause(failure, failure_count)
                if pause is None or loop.time() + pause >= deadline:
                    raise self._error(failure, deadline_seconds) from error
                await asyncio.sleep(pause)
            else:
                if self._seen is not None:
                    self._seen.note(response.place)
                return response

    def _pause(self, failure: Failure, failure_count: int) -> float | None:
        if not failure.is_retryable or failure_count >= TRIES_MAX:
            return None
        return backoff_seconds(
            failure_count, pushback_seconds=failure.pushback_seconds, jitter=self._jitter
        )

    def _error(self, failure: Failure, deadline_seconds: float) -> Exception:
        seen_sequence = self._seen.sequence if self._seen else 0
        return failure.error(seen_sequence=seen_sequence, deadline_seconds=deadline_seconds)

    def _method(self, path: str, response_type: Any) -> Any:
        method = self._methods.get(path)
        if method is None:
            method = self._channel.unary_unary(
                path,
                request_serializer=_serialize,
                response_deserializer=response_type.FromString,
            )
            self._methods[path] = method
        return method


def _serialize(message: Any) -> bytes:
    packed: bytes = message.SerializeToString()
    return packed
