"""How many accounts of a person may be used: MULTI, all of them, or SINGLE, one.

Owns the setting and what it does to the accounts of a person. Must not answer calls.
Next: `lastunit.account.locking`.

A person with several accounts under SINGLE keeps the one that was logged in to last; the others are
LOCKED with the reason CHOOSE, may look at what they have, and can be chosen instead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, moves, person_events, sessions
from lastunit.account.person_events import Kind
from lastunit.account.states import AccountEvent, AccountState, Entity
from lastunit.service import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.moves import Cause

__all__ = ["CHOOSE", "Policy", "is_pending", "read", "settle", "settle_some", "write"]

CHOOSE: Final = "CHOOSE"
"""The reason of a lock that the person can move to another account."""

_NAME: Final = "policy"
# Up to which person the present policy has been carried out; no row: to all of them.
_CURSOR: Final = "policy_settled_to"


class Policy(StrEnum):
    """The names are those of the contract's AccountPolicy."""

    MULTI = "MULTI"
    SINGLE = "SINGLE"


def read(connection: sa.Connection) -> tuple[Policy, int]:
    """Returns the policy and its version; MULTI and 0 if nobody set one."""
    table = _tables.settings
    row = connection.execute(
        sa.select(table.c.value, table.c.version).where(table.c.name == _NAME)
    ).one_or_none()
    return (Policy.MULTI, 0) if row is None else (Policy(row.value), row.version)


def write(connection: sa.Connection, policy: Policy) -> int:
    """Sets the policy, to be carried out by `settle_some`; returns its version."""
    version = read(connection)[1] + 1
    for name, value in ((_NAME, policy.value), (_CURSOR, "")):
        statement = sql.insert(connection, _tables.settings).values(
            name=name, value=value, version=version
        )
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["name"], set_={"value": value, "version": version}
            )
        )
    return version


def is_pending(connection: sa.Connection) -> bool:
    """Tells whether there are persons that the present policy was not carried out for."""
    table = _tables.settings
    return connection.scalar(sa.select(table.c.value).where(table.c.name == _CURSOR)) is not None


def settle(
    connection: sa.Connection, person_id: str, cause: Cause, *, keep: str = ""
) -> Sequence[str]:
    """Locks and unlocks the accounts of one person as the policy says.

    Args:
        connection: Inside a transaction of the writer.
        person_id: A live person.
        cause: What led to it.
        keep: The account to keep under SINGLE; empty: the one that was logged in to last.

    Returns:
        The accounts that changed.
    """
    policy, _ = read(connection)
    table = _tables.accounts
    rows = connection.execute(
        sa.select(table)
        .where(
            table.c.person_id == person_id,
            (table.c.state == AccountState.ACTIVE)
            | ((table.c.state == AccountState.LOCKED) & (table.c.lock_reason == CHOOSE)),
        )
        .order_by(table.c.account_id)
    ).all()
    if not rows:
        return []
    is_all = policy is Policy.MULTI
    kept = {row.account_id for row in rows} if is_all else {_kept(rows, keep)}
    changed = []
    for row in rows:
        is_active = row.state == AccountState.ACTIVE
        if is_active != (row.account_id in kept):
            _turn(connection, row, cause, is_locked=is_active)
            changed.append(row.account_id)
    return changed


def settle_some(connection: sa.Connection, cause: Cause, *, limit: int) -> Sequence[str] | None:
    """Carries a new policy out for the next persons.

    Args:
        connection: Inside a transaction of the writer.
        cause: What led to it.
        limit: At most so many persons, 1 or more.

    Returns:
        The accounts that changed; None once all persons are done.
    """
    settings, accounts = _tables.settings, _tables.accounts
    done_to = connection.scalar(sa.select(settings.c.value).where(settings.c.name == _CURSOR))
    if done_to is None:
        return None
    persons = connection.scalars(
        sa.select(accounts.c.person_id)
        .where(accounts.c.person_id > done_to)
        .group_by(accounts.c.person_id)
        .having(sa.func.count() > 1)
        .order_by(accounts.c.person_id)
        .limit(limit)
    ).all()
    changed: list[str] = []
    for person_id in persons:
        changed += settle(connection, person_id, cause)
    if persons:
        connection.execute(
            sa.update(settings).where(settings.c.name == _CURSOR).values(value=persons[-1])
        )
    else:
        connection.execute(sa.delete(settings).where(settings.c.name == _CURSOR))
    return changed


def _kept(rows: Sequence[Any], keep: str) -> str:
    ids = [row.account_id for row in rows]
    if keep in ids:
        return keep
    # Whoever is in the middle of something stays there; then the oldest account.
    last = max(
        rows,
        key=lambda row: (row.state == AccountState.ACTIVE, row.login_ms or 0, -row.create_ms),
    )
    return str(last.account_id)


def _turn(connection: sa.Connection, row: Any, cause: Cause, *, is_locked: bool) -> None:
    """Locks or unlocks one account, and lets everybody know."""
    moves.move(
        connection,
        Entity.ACCOUNT,
        row.account_id,
        AccountEvent.LOCK if is_locked else AccountEvent.UNLOCK,
        cause,
        lock_reason=CHOOSE if is_locked else "",
        unlock_ms=None,
    )
    if is_locked:
        sessions.end_all(connection, [row.account_id], "LOCKED", cause.now_ms)
    person_events.add(
        connection,
        Kind.ACCOUNT_LOCKED if is_locked else Kind.ACCOUNT_UNLOCKED,
        cause,
        person_id=row.person_id,
        account_ids=[row.account_id],
    )
