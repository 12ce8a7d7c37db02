"""Lets buyers' pages watch orders: a bounded number of readers, each woken when its order moved.

Owns who watches which order, the bound, and the end of every watch. What a watcher is told is read
from the database after the number it has, so a wake-up that comes twice, or not at all, changes
nothing: watched orders are looked at from time to time as well, because another process may move
them. Must not write. Next: `lastunit.order.core`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.errors import BusyError
from lastunit.order import schema, store, views
from lastunit.order.v1 import order_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from lastunit.order.settings import OrderSettings
    from lastunit.service.database import Database

__all__ = ["OrderWatch"]

# Transitions in one message; an order that has more is told in several.
_PAGE_MAX: Final = 256

# Orders looked at by one query of a sweep.
_SWEPT_AT_ONCE: Final = 500


class _Watcher:
    """Is one stream.

    Attributes:
        known: Number of the last transition it was told.
        woken: Set when there may be more.
    """

    def __init__(self, known: int) -> None:
        self.known = known
        self.woken = asyncio.Event()


class OrderWatch:
    """Streams the transitions of orders.

    Args:
        database: The order service's tables, for reading.
        settings: How many may watch, and for how long.
    """

    def __init__(self, database: Database, settings: OrderSettings) -> None:
        self._database = database
        self._settings = settings
        self._watchers: defaultdict[str, set[_Watcher]] = defaultdict(set)
        self._closing = asyncio.Event()
        self.count = 0

    def notify(self, order_ids: Iterable[str]) -> None:
        """Wakes whoever watches one of these orders; called in the thread of the event loop."""
        if not self._watchers:
            return
        for order_id in order_ids:
            for watcher in self._watchers.get(order_id, ()):
                watcher.woken.set()

    def close(self) -> None:
        """Ends every stream, cleanly, and those that come yet; a client goes on elsewhere."""
        self._closing.set()
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.woken.set()

    async def sweep_once(self) -> int:
        """Wakes those whose orders were moved by another process; returns how many orders."""
        order_ids = list(self._watchers)
        table = schema.order_states
        for start in range(0, len(order_ids), _SWEPT_AT_ONCE):
            some = order_ids[start : start + _SWEPT_AT_ONCE]
            query = sa.select(table.c.order_id, table.c.transition_count)
            with self._database.read() as connection:
                rows = connection.execute(query.where(table.c.order_id.in_(some))).all()
            for row in rows:
                for watcher in self._watchers.get(row.order_id, ()):
                    if row.transition_count > watcher.known:
                        watcher.woken.set()
            # Thousands are watched in the last seconds of a sale; calls come in between.
            await asyncio.sleep(0)
        return 0

    async def watch(self, request: pb.WatchOrderRequest) -> AsyncIterator[pb.WatchOrderResponse]:
        """Streams what comes after a number, until the time is up or the service stops.

        Raises:
            BusyError: As many watch as may.
        """
        order_id = request.order_id
        if self.count >= self._settings.watchers_max:
            raise BusyError(
                f"{self._settings.watchers_max} orders are being watched; try again shortly",
                limit=self._settings.watchers_max,
            )
        watcher = _Watcher(request.after_sequence)
        # Before the first look: what moves from here on wakes it.
        self._watchers[order_id].add(watcher)
        self.count += 1
        try:
            async for response in self._stream(order_id, watcher):
                yield response
        finally:
            self.count -= 1
            self._watchers[order_id].discard(watcher)
            if not self._watchers[order_id]:
                del self._watchers[order_id]

    async def _stream(
        self, order_id: str, watcher: _Watcher
    ) -> AsyncIterator[pb.WatchOrderResponse]:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._settings.watch_seconds
        is_first = True
        while True:
            watcher.woken.clear()
            response = self._read(order_id, watcher, is_first=is_first)
            if response is not None:
                yield response
                if response.refusal:
                    return
                is_first = False
                if len(response.transitions) == _PAGE_MAX:
                    continue
            if self._closing.is_set():
                return
            try:
                async with asyncio.timeout_at(end):
                    await watcher.woken.wait()
            except TimeoutError:
                return

    def _read(
        self, order_id: str, watcher: _Watcher, *, is_first: bool
    ) -> pb.WatchOrderResponse | None:
        """Returns what the watcher has not been told; None for nothing."""
        with self._database.read() as connection:
            order = store.load_order(connection, order_id)
            if order is None:
                return pb.WatchOrderResponse(refusal=pb.REFUSAL_UNKNOWN_ORDER)
            steps = store.load_transitions(
                connection, order_id, after=watcher.known, limit=_PAGE_MAX
            )
        if not steps and not is_first:
            return None
        if steps:
            watcher.known = steps[-1].number
        return pb.WatchOrderResponse(
            transitions=[views.transition(step) for step in steps],
            order_state=views.state(order),
        )
