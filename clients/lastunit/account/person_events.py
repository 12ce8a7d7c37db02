"""What others must know of persons: one list without a gap, written with what it tells of.

Owns the numbers and the reading of events. Must not send them anywhere.
Next: `lastunit.account.watching` streams them, `lastunit.account.feeding` tells the ledger.

Of all processes one transaction at a time writes, so the number after the last committed one is
free and no reader ever sees a later event before an earlier one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from lastunit.account import _tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.moves import Cause

__all__ = ["Kind", "StoredEvent", "add", "last_sequence", "read_after"]


class Kind(StrEnum):
    """What happened; the names are those of the contract's PersonEventKind."""

    PERSONS_UNITED = "PERSONS_UNITED"
    """`person_id` and `other_person_id` count together: one real name."""
    PERSONS_MERGED = "PERSONS_MERGED"
    """`person_id` is part of `other_person_id`."""
    PERSONS_SPLIT = "PERSONS_SPLIT"
    """`person_ids` count together, and apart from all others."""
    PERSON_VERIFIED = "PERSON_VERIFIED"
    """`person_id` proved a real name of its own."""
    ACCOUNT_LOCKED = "ACCOUNT_LOCKED"
    ACCOUNT_UNLOCKED = "ACCOUNT_UNLOCKED"
    ACCOUNT_CLOSED = "ACCOUNT_CLOSED"
    IDENTIFIER_CHANGED = "IDENTIFIER_CHANGED"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Is one event as it was written.

    Attributes:
        sequence: From 1, without a gap.
        kind: What happened.
        person_id: Whom it happened to.
        other_person_id: The other one; empty without one.
        person_ids: Of a split: home persons that count together from now on.
        account_ids: Accounts whose answer of ResolvePerson changed.
        cause: What led to it.
        time_ms: When, in milliseconds since the epoch.
    """

    sequence: int
    kind: Kind
    person_id: str
    other_person_id: str
    person_ids: tuple[str, ...]
    account_ids: tuple[str, ...]
    cause: str
    time_ms: int


def add(
    connection: sa.Connection,
    kind: Kind,
    cause: Cause,
    *,
    person_id: str,
    other_person_id: str = "",
    person_ids: Sequence[str] = (),
    account_ids: Sequence[str] = (),
) -> int:
    """Appends an event, and makes kept answers about its accounts outdated.

    Args:
        connection: Inside a transaction of the writer.
        kind: What happened.
        cause: What led to it.
        person_id: Whom it happened to.
        other_person_id: The other one, if there is one.
        person_ids: See `StoredEvent`.
        account_ids: See `StoredEvent`; their versions rise.

    Returns:
        Its sequence.
    """
    sequence = last_sequence(connection) + 1
    connection.execute(
        sa.insert(_tables.person_events),
        {
            "sequence": sequence,
            "kind": kind.value,
            "person_id": person_id,
            "other_person_id": other_person_id,
            "person_ids": json.dumps(list(person_ids)),
            "account_ids": json.dumps(list(account_ids)),
            "cause": cause.name,
            "time_ms": cause.now_ms,
        },
    )
    if account_ids:
        table = _tables.accounts
        connection.execute(
            sa.update(table)
            .where(table.c.account_id.in_(account_ids))
            .values(version=table.c.version + 1)
        )
    return sequence


def last_sequence(connection: sa.Connection) -> int:
    """Returns the sequence of the last event; 0 without one."""
    newest = connection.scalar(sa.select(sa.func.max(_tables.person_events.c.sequence)))
    return int(newest or 0)


def read_after(connection: sa.Connection, sequence: int, *, limit: int) -> Sequence[StoredEvent]:
    """Returns events after one, oldest first."""
    table = _tables.person_events
    rows = connection.execute(
        sa.select(table).where(table.c.sequence > sequence).order_by(table.c.sequence).limit(limit)
    )
    return [
        StoredEvent(
            sequence=row.sequence,
            kind=Kind(row.kind),
            person_id=row.person_id,
            other_person_id=row.other_person_id,
            person_ids=tuple(json.loads(row.person_ids)),
            account_ids=tuple(json.loads(row.account_ids)),
            cause=row.cause,
            time_ms=row.time_ms,
        )
        for row in rows
    ]
