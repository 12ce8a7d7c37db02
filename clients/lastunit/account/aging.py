"""What only a clock makes happen: claims, merges and locks that are due.

Owns the step; a loop of the process calls it, and a test that turns the clock by hand.
Must not judge: `lastunit.account.claim_rules` and the tables do. Next: `lastunit.account.parts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, claim_rules, moves, person_events
from lastunit.account.person_events import Kind
from lastunit.account.states import (
    AccountEvent,
    AccountState,
    ClaimEvent,
    ClaimState,
    Entity,
    MergeEvent,
    MergeState,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.ports import Means

__all__ = ["STEP_MAX", "Ageing", "due_rows"]

STEP_MAX: Final = 100
"""Rows of a kind in one transaction: calls come in between."""


class Ageing:
    """Moves what is due.

    Args:
        means: What to work with.
    """

    def __init__(self, means: Means) -> None:
        self._means = means

    async def age_once(self) -> int:
        """Moves up to 100 claims, merges and locks each that are due; returns how many moved."""
        now_ms = self._means.clock.now_ms()
        if not self._is_due(now_ms):
            return 0
        count, account_ids = await self._means.database.run(
            lambda connection: self._age(connection, now_ms)
        )
        if account_ids:
            self._means.directory.forget(account_ids)
            self._means.notify()
        return count

    def _is_due(self, now_ms: int) -> bool:
        """Looks without the writer: mostly nothing is due."""
        with self._means.database.read() as connection:
            return any(
                connection.scalar(sa.select(sa.literal(1)).where(column <= now_ms).limit(1))
                for column in (
                    _tables.claims.c.due_ms,
                    _tables.merges.c.due_ms,
                    _tables.accounts.c.unlock_ms,
                )
            )

    # --- in the writer's thread ---

    def _age(self, connection: sa.Connection, now_ms: int) -> tuple[int, Sequence[str]]:
        claims = due_rows(connection, _tables.claims.c.due_ms, now_ms)
        for claim in claims:
            aged = claim_rules.age(connection, claim, now_ms)
            if aged.state == ClaimState.APPROVED:
                self._means.notices.put(
                    connection,
                    account_ids=[claim.account_id],
                    kind="CLAIM_APPROVED",
                    data={"claim_id": claim.claim_id},
                    now_ms=now_ms,
                )
        cause = moves.Cause(moves.TIMER, now_ms)
        merges = due_rows(connection, _tables.merges.c.due_ms, now_ms)
        for merge in merges:
            _make_final(connection, cause, merge)
        accounts = due_rows(connection, _tables.accounts.c.unlock_ms, now_ms)
        unlocked = [row.account_id for row in accounts if _unlock(connection, cause, row)]
        return len(claims) + len(merges) + len(accounts), unlocked


def due_rows(
    connection: sa.Connection, column: sa.Column[Any], now_ms: int
) -> Sequence[sa.Row[Any]]:
    """Returns the rows of a table whose time has come, longest due first.

    Args:
        connection: A transaction.
        column: Says when, in milliseconds since the epoch; null for never.
        now_ms: The present.
    """
    query = sa.select(column.table).where(column <= now_ms).order_by(column).limit(STEP_MAX)
    return connection.execute(query).all()


def _make_final(connection: sa.Connection, cause: moves.Cause, merge: sa.Row[Any]) -> None:
    if merge.state != MergeState.EXECUTED:
        raise AssertionError(f"merge {merge.merge_id} is {merge.state} and still due")
    moves.move(connection, Entity.MERGE, merge.merge_id, MergeEvent.TIME_OVER, cause, due_ms=None)
    if merge.claim_id:
        moves.move(connection, Entity.CLAIM, merge.claim_id, ClaimEvent.TIME_OVER, cause)


def _unlock(connection: sa.Connection, cause: moves.Cause, account: sa.Row[Any]) -> bool:
    """Ends a lock whose time is over; one that was closed meanwhile is only not due any more."""
    if account.state != AccountState.LOCKED:
        table = _tables.accounts
        connection.execute(
            sa.update(table).where(table.c.account_id == account.account_id).values(unlock_ms=None)
        )
        return False
    moves.move(
        connection,
        Entity.ACCOUNT,
        account.account_id,
        AccountEvent.UNLOCK,
        cause,
        lock_reason="",
        unlock_ms=None,
    )
    person_events.add(
        connection,
        Kind.ACCOUNT_UNLOCKED,
        cause,
        person_id=account.person_id,
        account_ids=[account.account_id],
    )
    return True
