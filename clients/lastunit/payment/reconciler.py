"""Asks providers what became of attempts, and closes those whose time is over.

Owns which attempt is asked for when, under a bound a second. Must not believe silence: an attempt
whose provider does not answer stays as it is and is asked for again.
Next: `lastunit.payment.schedule` (when), `lastunit.payment.attempts` (what it means).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import attempts, schema
from lastunit.payment.attempts import Fact, fact_from_provider
from lastunit.payment.provider import (
    CloseStatus,
    ProviderRefusedError,
    ProviderStatus,
    ProviderUnavailableError,
)
from lastunit.payment.schedule import Schedule, TokenBucket
from lastunit.payment.states import OPEN_STATES, News
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.payment.provider import Provider
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database, TransactionRunner

__all__ = ["Reconciler"]

_NEWS_OF_STATUS: Final[Mapping[ProviderStatus, News]] = {
    ProviderStatus.PENDING: News.NOT_PAID,
    ProviderStatus.PAID: News.PAID,
    ProviderStatus.FAILED: News.FAILED,
    ProviderStatus.CLOSED: News.CLOSE_ACKNOWLEDGED,
}

_NEWS_OF_CLOSE: Final[Mapping[CloseStatus, News]] = {
    CloseStatus.CLOSED: News.CLOSE_ACKNOWLEDGED,
    CloseStatus.PAID: News.PAID,
    CloseStatus.NOT_NOW: News.CLOSE_REFUSED,
}

_OPEN_NAMES: Final = tuple(state.value for state in OPEN_STATES)

_NEXT_ASK: Final = sa.select(sa.func.min(schema.attempts.c.next_ask_ms))
_DUE: Final = (
    sa.select(schema.attempts)
    .where(schema.attempts.c.next_ask_ms <= sa.bindparam("now_ms"))
    .order_by(schema.attempts.c.next_ask_ms, schema.attempts.c.attempt_id)
    .limit(sa.bindparam("limit"))
)

_log: Final = logging.getLogger(__name__)


class Reconciler:
    """Asks, closes, and writes down what the provider says.

    Args:
        database: The payment service's tables, for reading.
        runner: Writes them.
        providers: By name.
        clock: Tells the time at which an answer came.
        schedule: Says when to ask next.
        settings: Bounds of asks a second and calls at once.
    """

    def __init__(
        self,
        *,
        database: Database,
        runner: TransactionRunner,
        providers: Mapping[str, Provider],
        clock: Clock,
        schedule: Schedule,
        settings: PaymentSettings,
    ) -> None:
        self._database = database
        self._runner = runner
        self._providers = providers
        self._clock = clock
        self._schedule = schedule
        now_ms = clock.now_ms()
        self._buckets = {
            name: TokenBucket(settings.asks_per_second, now_ms=now_ms) for name in providers
        }
        self._calls_at_once = asyncio.Semaphore(settings.calls_at_once_max)

    def next_ask_ms(self) -> int | None:
        """Returns when the next ask is due and allowed, or None if no attempt is open."""
        with self._database.read() as connection:
            soonest = connection.execute(_NEXT_ASK).scalar_one()
        if soonest is None:
            return None
        now_ms = max(int(soonest), self._clock.now_ms())
        allowed = [bucket.next_ms(now_ms) for bucket in self._buckets.values()]
        return max(int(soonest), min(allowed, default=now_ms))

    async def reconcile_once(self, now_ms: int, limit: int) -> int:
        """Asks for what is due.

        Args:
            now_ms: The time, milliseconds since the epoch.
            limit: At most so many asks, 1 or more; the token bucket may allow fewer.

        Returns:
            How many attempts were asked for.
        """
        rows = self._allowed(self._due(now_ms, limit), now_ms)
        if rows:
            await self._ask_all(rows)
        return len(rows)

    async def ask_now(self, attempt_id: str) -> bool:
        """Asks for one attempt outside of the schedule and its bound.

        Returns:
            False if the provider did not answer.
        """
        with self._database.read() as connection:
            row = attempts.load(connection, attempt_id)
        if row is None or row.state not in _OPEN_NAMES:
            return True
        return await self._ask_all([row], why="call AskNow") == 0

    def _due(self, now_ms: int, limit: int) -> Sequence[sa.Row[Any]]:
        with self._database.read() as connection:
            return connection.execute(_DUE, {"now_ms": now_ms, "limit": limit}).all()

    def _allowed(self, rows: Sequence[sa.Row[Any]], now_ms: int) -> Sequence[sa.Row[Any]]:
        """Returns the rows the providers' buckets have tokens for, in order."""
        wanted: dict[str, int] = {}
        for row in rows:
            wanted[row.provider] = wanted.get(row.provider, 0) + 1
        left = {
            name: self._buckets[name].take(now_ms, count)
            for name, count in wanted.items()
            if name in self._buckets
        }
        allowed = []
        for row in rows:
            if left.get(row.provider, 0) > 0:
                left[row.provider] -= 1
                allowed.append(row)
        return allowed

    async def _ask_all(self, rows: Sequence[sa.Row[Any]], *, why: str = "") -> int:
        """Asks for the rows at the same time, writes all answers at once, returns the silent."""
        facts = await asyncio.gather(*(self._ask(row, why) for row in rows))
        now_ms = self._clock.now_ms()

        def work(connection: sa.Connection) -> None:
            for row, fact in zip(rows, facts, strict=True):
                self._write(connection, row, fact, now_ms)

        await self._runner.run(work, lane=Lane.SETTLEMENT)
        return facts.count(None)

    async def _ask(self, row: sa.Row[Any], why: str) -> Fact | None:
        """Returns what the provider says, or None if it says nothing."""
        provider = self._providers[row.provider]
        is_closing = row.is_close_asked or row.settle_by_ms <= self._clock.now_ms()
        async with self._calls_at_once:
            if is_closing:
                try:
                    return await _close(provider, row, why or "timer close")
                except (ProviderUnavailableError, ProviderRefusedError):
                    # The close may be down alone; if it is paid, asking still tells.
                    _log.info("close not answered", extra={"attempt_id": row.attempt_id})
            try:
                return await _query(provider, row, why or "timer ask")
            except (ProviderUnavailableError, ProviderRefusedError):
                # A refused question is no answer to it.
                return None

    def _write(
        self, connection: sa.Connection, row: sa.Row[Any], fact: Fact | None, now_ms: int
    ) -> None:
        table = schema.attempts
        this = table.c.attempt_id == row.attempt_id
        values: dict[str, Any] = {"ask_count": table.c.ask_count + 1}
        if fact is None:
            values["next_ask_ms"] = self._schedule.next_ask_ms(
                start_ms=row.start_ms,
                settle_by_ms=row.settle_by_ms,
                now_ms=now_ms,
                is_created=row.provider_no != "",
            )
        # A callback may have closed the matter while the provider was asked; then it is not
        # asked for again.
        is_open = table.c.state.in_(_OPEN_NAMES)
        connection.execute(sa.update(table).where(this, is_open).values(**values))
        if fact is not None:
            attempts.record(
                connection, row.attempt_id, fact, now_ms=now_ms, schedule=self._schedule
            )


async def _query(provider: Provider, row: sa.Row[Any], cause: str) -> Fact:
    answer = await provider.query(row.attempt_id, known=attempts.known(row))
    if answer is None:
        return Fact(news=News.NOT_FOUND, source="query", cause=cause)
    return fact_from_provider(_NEWS_OF_STATUS[answer.status], "query", answer, cause=cause)


async def _close(provider: Provider, row: sa.Row[Any], cause: str) -> Fact:
    answer = await provider.close(row.attempt_id, known=attempts.known(row))
    news = _NEWS_OF_CLOSE[answer.status]
    return fact_from_provider(news, "close", answer.attempt, cause=cause)
