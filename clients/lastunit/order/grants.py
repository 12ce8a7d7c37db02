"""Counts the grants of the ledger that need not be waited for any more.

Owns the count that the ledger's credit window is fed with: a grant that is never counted keeps a
place of the window until that forgets it, a minute later by default. Must not ask anybody.
Next: `lastunit.order.core`, `lastunit.order.pressure`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from lastunit.client.outcomes import Reply
    from lastunit.stock.v1 import stock_service_pb2

__all__ = ["GrantCount"]

# Grants that are remembered as dealt with; calls are repeated within seconds.
_KNOWN_MAX: Final = 65_536


class GrantCount:
    """Counts each grant once, however often its call is repeated.

    Whether a reply is a repeat does not tell: a client repeats a call whose answer was lost.

    Attributes:
        persisted_count: Grants that were written down, or given up, since the start.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self.persisted_count = 0

    def add(self, order_id: str) -> None:
        """Says that nobody waits any more for an order to be written down."""
        if order_id in self._known:
            return
        self._known[order_id] = None
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        self.persisted_count += 1

    async def watch(
        self,
        order_id: str,
        reserve: Coroutine[Any, Any, Reply[stock_service_pb2.ReserveResponse]],
    ) -> Reply[stock_service_pb2.ReserveResponse]:
        """Waits for a reservation, and counts what is granted after its caller has left.

        Args:
            order_id: The order.
            reserve: The call; it goes on when its caller is cancelled, for the ledger has it.
        """
        reserving = asyncio.ensure_future(reserve)
        try:
            return await asyncio.shield(reserving)
        except asyncio.CancelledError:
            reserving.add_done_callback(lambda done: self._note_abandoned(order_id, done))
            raise

    def _note_abandoned(
        self, order_id: str, done: asyncio.Future[Reply[stock_service_pb2.ReserveResponse]]
    ) -> None:
        # Without an answer nobody knows whether there is a grant; the window forgets such a one.
        if not done.cancelled() and done.exception() is None and done.result().is_ok:
            self.add(order_id)
