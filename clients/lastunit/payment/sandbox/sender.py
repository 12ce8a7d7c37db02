"""Posts the sandbox's callbacks to the webhook.

Owns the posting and how many are under way. Must not decide when or what: the core does.
Next: `lastunit.payment.sandbox.core`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from lastunit.payment.sandbox.callbacks import Delivery
    from lastunit.payment.sandbox.core import SandboxCore
    from lastunit.service.clock import Clock

__all__ = ["CallbackSender"]

POSTS_AT_ONCE_MAX: Final = 64
TIMEOUT_SECONDS: Final = 5.0

_OK: Final = 200

_log: Final = logging.getLogger(__name__)


class CallbackSender:
    """Posts what is due.

    Args:
        core: The sandbox.
        url: Where to post, such as `http://127.0.0.1:7600/v1/callbacks/sandbox`.
        clock: Says what is due.

    Attributes:
        sent_count: Callbacks that were answered with 200.
    """

    def __init__(self, core: SandboxCore, *, url: str, clock: Clock) -> None:
        self._core = core
        self._url = url
        self._clock = clock
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self.sent_count = 0

    async def send_once(self) -> int:
        """Posts callbacks that are due, at most 64 at once; returns how many there were."""
        due = self._core.deliveries_due(self._clock.now_ms(), limit=POSTS_AT_ONCE_MAX)
        await asyncio.gather(*(self._post(delivery) for delivery in due))
        return len(due)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _post(self, delivery: Delivery) -> None:
        try:
            response = await self._client.post(
                self._url, content=delivery.raw_body, headers=delivery.headers
            )
            is_taken = response.status_code == _OK
        except httpx.HTTPError as error:
            _log.info("callback not taken", extra={"why": repr(error)})
            is_taken = False
        if is_taken:
            self.sent_count += 1
        else:
            self._core.delivery_failed(delivery)
