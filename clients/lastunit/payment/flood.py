"""Keeps who sends what nobody signed from taking the webhook's time.

Owns a bucket for each address and the few turns of an address whose bucket is empty. Must not
refuse: what is signed is always served, so a flooding address is slowed and never shut out.
Next: `lastunit.payment.webhook_app`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lastunit.payment.schedule import TokenBucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ADDRESSES_MAX", "Flood"]

# A provider with a wrong key repeats each callback a few times; an attacker does not stop.
UNVERIFIED_PER_SECOND: Final = 10.0

# Addresses that are remembered, the latest ones. An attacker with more than that needs a firewall.
ADDRESSES_MAX: Final = 10_000

# Requests of a flooding address that are read and checked at once; the others of it wait.
TURNS: Final = 4


@dataclass(slots=True)
class _Sender:
    bucket: TokenBucket
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TURNS))
    is_flooding: bool = False


class Flood:
    """Counts unverified requests by address.

    Attributes:
        slowed_count: Requests that had to wait for a turn of their address.
    """

    def __init__(self) -> None:
        self._senders: OrderedDict[str, _Sender] = OrderedDict()
        self.slowed_count = 0

    def is_flooding(self, address: str) -> bool:
        """Tells whether an address has sent more that nobody signed than it may."""
        sender = self._senders.get(address)
        return sender is not None and sender.is_flooding

    def note(self, address: str, *, is_verified: bool, now_ms: int) -> None:
        """Counts what a request of an address turned out to be.

        Args:
            address: Of the sender.
            is_verified: True if a key had signed it; that ends the flooding of its address.
            now_ms: The time.
        """
        sender = self._senders.get(address)
        if is_verified:
            if sender is not None:
                sender.is_flooding = False
            return
        if sender is None:
            sender = _Sender(TokenBucket(UNVERIFIED_PER_SECOND, now_ms=now_ms))
            self._senders[address] = sender
            if len(self._senders) > ADDRESSES_MAX:
                self._senders.popitem(last=False)
        self._senders.move_to_end(address)
        sender.is_flooding = sender.bucket.take(now_ms, 1) == 0

    @contextlib.asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """Lets a request be read and checked: at once, or in turn if its address is flooding."""
        sender = self._senders.get(address)
        if sender is None or not sender.is_flooding:
            yield
            return
        self.slowed_count += 1
        async with sender.turns:
            yield
