"""Numbers that their provider gave to somebody else.

Owns when a number counts as dormant, and what becomes of it. Must not decide who may register.
Next: `lastunit.account.registering`.

Who proves a number and says that the account behind it is somebody else's starts a notice of seven
days, if nobody used the number for 90 days. The account stays with its owner and loses the number;
an owner who logs in with it in time keeps both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables, identifier_rows, moves, notices, person_events
from lastunit.account.moves import Cause
from lastunit.account.states import Entity, IdentifierEvent, IdentifierState

if TYPE_CHECKING:
    from lastunit.account.identifier_rows import Row

__all__ = ["dispute", "release_due"]

_DAY_MS: Final = 86_400_000

# Providers give numbers out again after three to six months, seldom sooner.
DORMANT_MS: Final = 90 * _DAY_MS
NOTICE_MS: Final = 7 * _DAY_MS


def dispute(connection: sa.Connection, row: Row, cause: Cause) -> int | None:
    """Starts the notice; one that has started goes on.

    Args:
        connection: Inside a transaction of the writer.
        row: The identifier, which the caller has proved.
        cause: What led to it.

    Returns:
        When the identifier is free, in milliseconds since the epoch; None if its account used it
        within 90 days, and so keeps it.
    """
    if row.release_ms is not None:
        return row.release_ms
    if cause.now_ms < row.use_ms + DORMANT_MS:
        return None
    release_ms = cause.now_ms + NOTICE_MS
    moves.move(
        connection,
        Entity.IDENTIFIER,
        row.identifier_id,
        IdentifierEvent.DISPUTE,
        cause,
        release_ms=release_ms,
        change_ms=cause.now_ms,
    )
    notices.put(
        connection,
        account_ids=[row.account_id],
        kind="IDENTIFIER_DISPUTED",
        now_ms=cause.now_ms,
        but_identifier_id=row.identifier_id,
    )
    return release_ms


def release_due(connection: sa.Connection, now_ms: int, *, limit: int) -> list[str]:
    """Takes identifiers from their accounts whose notice has run out.

    Returns:
        The accounts that lost one.
    """
    table, accounts = _tables.identifiers, _tables.accounts
    rows = connection.execute(
        sa.select(table.c.identifier_id, table.c.account_id, accounts.c.person_id)
        .join_from(table, accounts)
        .where(table.c.release_ms <= now_ms, table.c.state == IdentifierState.DISPUTED)
        .order_by(table.c.release_ms)
        .limit(limit)
    ).all()
    cause = Cause(moves.TIMER, now_ms)
    for row in rows:
        identifier_rows.release(connection, row.identifier_id, cause)
        person_events.add(
            connection,
            person_events.Kind.IDENTIFIER_CHANGED,
            cause,
            person_id=row.person_id,
            account_ids=[row.account_id],
        )
    return [row.account_id for row in rows]
