"""What only a clock makes happen to logins: notices go out, recycled numbers become free.

Owns the step and what it does first. Must not move persons, claims or accounts.
Next: `lastunit.account.notices`, `lastunit.account.recycling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables, codes, recycling, sessions

if TYPE_CHECKING:
    from lastunit.account.notices import Notices
    from lastunit.account.resolving import Directory
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["PAUSE_SECONDS", "Upkeep"]

# Hours and days are what is waited for; a notice should not wait for long.
PAUSE_SECONDS: Final = 1.0

# Rows of each kind in one transaction, so that it holds up nobody.
ROWS_PER_STEP_MAX: Final = 200


class Upkeep:
    """Does what is due.

    Args:
        database: Opened with `_tables.metadata`.
        notices: Sends them.
        directory: Is told of accounts that changed.
        clock: Says what is due.
    """

    def __init__(
        self, database: Database, *, notices: Notices, directory: Directory, clock: Clock
    ) -> None:
        self._database = database
        self._notices = notices
        self._directory = directory
        self._clock = clock

    async def step(self) -> int:
        """Does what is due now; returns how much that was."""
        return await self.step_at(self._clock.now_ms())

    async def step_at(self, now_ms: int) -> int:
        """Does what is due at a time, in milliseconds since the epoch."""
        # A second in which nothing is due costs a few look-ups and no commit.
        if not self._is_due(now_ms):
            return 0
        changed = await self._database.run(
            lambda connection: recycling.release_due(connection, now_ms, limit=ROWS_PER_STEP_MAX)
        )
        self._directory.forget(changed)
        swept = await self._database.run(
            lambda connection: (
                codes.sweep(connection, now_ms, limit=ROWS_PER_STEP_MAX)
                + sessions.sweep(connection, now_ms, limit=ROWS_PER_STEP_MAX)
            )
        )
        return len(changed) + swept + await self._notices.send_once(now_ms)

    def _is_due(self, now_ms: int) -> bool:
        codes_, sessions_ = _tables.codes, _tables.sessions
        notices_, identifiers = _tables.notices, _tables.identifiers
        conditions = (
            notices_.c.due_ms <= now_ms,
            identifiers.c.release_ms <= now_ms,
            codes_.c.create_ms <= now_ms - codes.KEPT_MS,
            sessions_.c.expire_ms <= now_ms,
        )
        due = sa.or_(*(sa.exists().where(condition) for condition in conditions))
        with self._database.read() as connection:
            return bool(connection.scalar(sa.select(due)))
