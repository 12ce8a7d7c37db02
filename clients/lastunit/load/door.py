"""The buyers' calls: over shared connections, again with the same id when no answer came.

Owns channels, retries and the counting of calls. Must not decide what a buyer does next.
Next: ``buyer.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import grpc
import httpx

from lastunit.order.v1 import order_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from lastunit.load.tally import Tally

__all__ = ["Door", "NoAnswerError"]

ReplyT = TypeVar("ReplyT")

CALL_SECONDS_MAX: Final = 60.0
"""Deadline of one try. 20,000 calls at once wait for their turn, so it is long."""

# The connection pool's work grows with the square of what waits in it; the rest waits before it.
_PROVIDER_CONNECTIONS: Final = 8

PAUSE_SECONDS_MIN: Final = 0.25
PAUSE_SECONDS_MAX: Final = 5.0

_AGAIN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.CANCELLED,
    }
)
_PUSHBACK: Final = "grpc-retry-pushback-ms"


class NoAnswerError(Exception):
    """No answer came for longer than the buyer's patience; the text says what came last."""


class Door:
    """Everything a buyer can call.

    Args:
        order_address: ``host:port`` of the order service.
        channels: Connections to share, 1 or more.
        place_calls_max: PlaceOrder calls on the wire at once, 1 or more.
        patience_seconds: Seconds after which a call without an answer is given up.
        tally: Where calls are counted.
        seed: Seed of the pauses between tries.
    """

    def __init__(
        self,
        order_address: str,
        *,
        channels: int,
        place_calls_max: int,
        patience_seconds: float,
        tally: Tally,
        seed: int,
    ) -> None:
        # Without a pool of its own, each channel would share the same connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channels = [
            grpc.aio.insecure_channel(order_address, options=options) for _ in range(channels)
        ]
        self._stubs = [order_service_pb2_grpc.OrderServiceStub(each) for each in self._channels]
        self._provider = httpx.AsyncClient(
            trust_env=False,
            timeout=CALL_SECONDS_MAX,
            limits=httpx.Limits(max_connections=_PROVIDER_CONNECTIONS),
        )
        self._pay_turns = asyncio.Semaphore(_PROVIDER_CONNECTIONS)
        self._place_turns = asyncio.Semaphore(place_calls_max)
        self._patience_seconds = patience_seconds
        self._tally = tally
        self._random = random.Random(seed)  # noqa: S311 - spreads retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._provider.aclose()
        await asyncio.gather(*(each.close(0) for each in self._channels))

    async def order(self, method: str, request: Any, *, buyer: int) -> Any:
        """Calls a method of the order service until it is answered.

        Args:
            method: Name of the method, such as ``PlaceOrder``.
            request: Its request; a retry sends the same bytes.
            buyer: Which buyer calls; spreads buyers over the connections.

        Raises:
            NoAnswerError: The buyer's patience is over.
            grpc.RpcError: The call was answered with a status that no retry can change.
        """
        call = getattr(self._stubs[buyer % len(self._stubs)], method)

        async def once() -> Any:
            if method != "PlaceOrder":
                return await call(request, timeout=CALL_SECONDS_MAX)
            # Ten thousand presses on the wire would stand between a payer and the pay page.
            async with self._place_turns:
                return await call(request, timeout=CALL_SECONDS_MAX)

        return await self._until_answered(method, getattr(request, "request_id", ""), once)

    async def pay(self, pay_url: str) -> str:
        """Pays at the provider; returns what the provider says, such as ``PAID``."""

        async def once() -> str:
            async with self._pay_turns:
                response = await self._provider.post(pay_url)
            response.raise_for_status()
            return str(response.json()["status"])

        return await self._until_answered("pay at the provider", pay_url, once)

    async def _until_answered(
        self, name: str, request_id: str, once: Callable[[], Awaitable[ReplyT]]
    ) -> ReplyT:
        tally, give_up = self._tally, time.monotonic() + self._patience_seconds
        pause = PAUSE_SECONDS_MIN
        while True:
            tally.in_flight += 1
            try:
                reply = await once()
            except (grpc.aio.AioRpcError, httpx.HTTPError) as error:
                last: Exception = error
            else:
                tally.calls[name] += 1
                return reply
            finally:
                tally.in_flight -= 1
            wait = _pushback_seconds(last, name, tally) or pause * (1 + self._random.random())
            if time.monotonic() + wait > give_up:
                raise NoAnswerError(f"{name} {request_id}: {_why(last)}") from last
            await asyncio.sleep(wait)
            pause = min(pause * 2, PAUSE_SECONDS_MAX)
            tally.retries += 1
            if request_id:
                tally.retried_ids.add(request_id)


def _pushback_seconds(error: Exception, name: str, tally: Tally) -> float | None:
    """Counts a call that was not served; says how long the server asks to wait.

    Raises:
        grpc.aio.AioRpcError: The status is one that no retry can change.
    """
    if not isinstance(error, grpc.aio.AioRpcError):
        return None
    if error.code() not in _AGAIN:
        raise error
    tally.refusals[f"{error.code().name} ({name})"] += 1
    for key, value in error.trailing_metadata() or ():
        if key == _PUSHBACK and str(value).isdecimal():
            return int(str(value)) / 1000
    return None


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return f"{type(error).__name__}: {error}"
