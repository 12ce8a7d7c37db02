"""Stores callbacks in the inbox, as many in one unit of work as have come meanwhile.

Owns who waits for which unit. Must not look into a callback. A statement and a savepoint for each
callback cost more than everything else about it; a group has one of each.
Next: `lastunit.payment.webhook`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.errors import BusyError
from lastunit.payment import schema
from lastunit.service import sql
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.service.database import TransactionRunner

__all__ = ["InboxStore"]

# Bounds how long an answer waits for its group, and the variables of one statement.
ROWS_PER_UNIT_MAX: Final = 256

# Callbacks that may wait for the disk; each has a request that waits with it.
ROWS_WAITING_MAX: Final = 16_384

_Row = dict[str, Any]


class InboxStore:
    """Puts callbacks on disk.

    Args:
        runner: Writes the inbox.
    """

    def __init__(self, runner: TransactionRunner) -> None:
        self._runner = runner
        self._waiting: list[tuple[_Row, asyncio.Future[bool]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def add(self, row: _Row) -> bool:
        """Stores a callback and returns once it is on disk.

        Args:
            row: The columns of the inbox.

        Returns:
            False if it was there before.

        Raises:
            BusyError: Too many wait for the disk; nothing was stored.
        """
        if len(self._waiting) >= ROWS_WAITING_MAX:
            raise BusyError(
                f"{ROWS_WAITING_MAX} callbacks wait for the disk; send it again later",
                limit=ROWS_WAITING_MAX,
            )
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, stored))
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_all())
        return await stored

    async def _store_all(self) -> None:
        try:
            while self._waiting:
                group = self._waiting[:ROWS_PER_UNIT_MAX]
                del self._waiting[:ROWS_PER_UNIT_MAX]
                await self._store([row for row, _ in group], [stored for _, stored in group])
        finally:
            self._storing = None

    async def _store(self, rows: list[_Row], stored: list[asyncio.Future[bool]]) -> None:
        def work(connection: sa.Connection) -> list[bool]:
            return _insert(connection, rows)

        try:
            news = await self._runner.run(work, lane=Lane.SETTLEMENT)
        except Exception as error:  # noqa: BLE001 - each of those who wait judges it
            for future in stored:
                if not future.done():
                    future.set_exception(error)
            return
        for future, is_new in zip(stored, news, strict=True):
            # Who has left meanwhile has its callback on disk all the same.
            if not future.done():
                future.set_result(is_new)


def _insert(connection: sa.Connection, rows: Sequence[_Row]) -> list[bool]:
    """Inserts what is not there yet; returns for each row whether it was new."""
    table = schema.inbox
    query = sa.select(table.c.provider, table.c.event_id).where(
        table.c.provider.in_({row["provider"] for row in rows}),
        table.c.event_id.in_({row["event_id"] for row in rows}),
    )
    known = {(row.provider, row.event_id) for row in connection.execute(query)}
    news: list[bool] = []
    fresh: list[_Row] = []
    for row in rows:
        name = (row["provider"], row["event_id"])
        news.append(name not in known)
        if name not in known:
            known.add(name)
            fresh.append(row)
    if fresh:
        # Another process may have stored one since.
        statement = sql.insert(connection, table).on_conflict_do_nothing().inline()
        connection.execute(statement, fresh)
    return news
