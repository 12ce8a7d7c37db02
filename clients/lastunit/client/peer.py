"""Calls and streams of a service beside the ledger, with the same deadlines, retries and errors.

Owns one channel. Must not know any service: path and messages come from the caller.
Next: `lastunit.client._unary` for the retries.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any

from lastunit.client._connection import open_channel
from lastunit.client._events import Resumed
from lastunit.client._unary import UnaryCaller, check_deadline
from lastunit.client.security import ClientSecurity

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["PeerClient"]


class PeerClient:
    """Calls one service, and repeats UNAVAILABLE with the same request until the deadline.

    Create it inside a running event loop.

    Args:
        address: `host:port`.
        deadline_seconds: For each call with all its tries, more than 0, at most an hour.
        security: Whom to trust and who we are; None speaks plain text.
        seed: Of the jitter of retries; None: unpredictable.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline_seconds: float = 5.0,
        security: ClientSecurity | None = None,
        seed: int | None = None,
    ) -> None:
        self._deadline_seconds = check_deadline(deadline_seconds)
        self._channel = open_channel(address, security or ClientSecurity())
        self._jitter = random.Random(seed)  # noqa: S311 - spreads retries, keeps no secret
        self._unary = UnaryCaller(self._channel, seen=None, jitter=self._jitter)

    async def call(self, path: str, request: Any, response_type: Any) -> Any:
        """Calls a method and returns its answer.

        Args:
            path: Such as `/lastunit.payment.v1.PaymentService/StartAttempt`.
            request: The message; safe to repeat.
            response_type: The class of the answer.

        Raises:
            LastunitError: As `StockClient` raises them.
        """
        return await self._unary.call(
            path, request, response_type, deadline_seconds=self._deadline_seconds
        )

    async def follow(
        self, path: str, request: Callable[[], Any], response_type: Any
    ) -> AsyncGenerator[Any]:
        """Gives out the messages of a stream without an end, and opens it again when it breaks.

        Args:
            path: Such as `/lastunit.account.v1.AccountService/WatchPersons`.
            request: Makes the request at the reader's present place, for each time it is opened.
            response_type: The class of the messages.

        Raises:
            LastunitError: The service refuses it.
        """
        open_stream: Any = self._channel.unary_stream(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        stream = Resumed[Any](lambda: open_stream(request()), does_end=False, jitter=self._jitter)
        messages = stream.messages()
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield message

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()
