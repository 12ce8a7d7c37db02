"""Makes persons part of one another, and undoes it: the one place where trees change.

Owns what a merge and its reversal write: persons, accounts, unions, identifiers, sessions and the
person events. Must not decide whether two accounts are one human.
Next: `lastunit.account.linking` and `lastunit.account.claiming` decide.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables, moves, person_events, policy, trees
from lastunit.account.person_events import Kind
from lastunit.account.states import (
    Entity,
    IdentifierEvent,
    IdentifierState,
    MergeEvent,
    PersonEvent,
    PersonState,
    UnionEvent,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lastunit.account.moves import Cause

__all__ = ["PARTS_MAX", "TooManyPartsError", "end_unions", "execute", "part", "reverse"]

PARTS_MAX: Final = 64
"""Persons in one tree: what the ledger takes apart in one command."""

REVERSIBLE_MS: Final = 30 * 86_400_000


class TooManyPartsError(Exception):
    """A tree would be larger than the ledger takes apart in one command; nothing was changed."""


def execute(
    connection: sa.Connection,
    cause: Cause,
    *,
    merge_id: str,
    source_root: str,
    target_root: str,
    claim_id: str = "",
    released_identifier_ids: Sequence[str] = (),
) -> int:
    """Makes a live person part of another one.

    Args:
        connection: Inside a transaction.
        cause: What led to it.
        merge_id: A new id.
        source_root: The live person that becomes a part; PROVISIONAL.
        target_root: The live person that stays.
        claim_id: The claim that led to it; empty if a login did.
        released_identifier_ids: Released with it; they come back if it is reversed.

    Returns:
        The sequence of its last person event.

    Raises:
        TooManyPartsError: The tree would have more than 64 persons.
        IllegalMoveError: The source has a real name of its own.
    """
    sources = trees.members_of(connection, source_root)
    targets = trees.members_of(connection, target_root)
    if len(sources) + len(targets) > PARTS_MAX:
        raise TooManyPartsError
    group = dict.fromkeys(
        [*trees.group_of(connection, source_root), *trees.group_of(connection, target_root)]
    )
    moves.move(
        connection, Entity.PERSON, source_root, PersonEvent.MERGE, cause, merged_into=target_root
    )
    account_ids = _take_over(connection, sources, target_root)
    moves.begin(
        connection,
        Entity.MERGE,
        MergeEvent.EXECUTE,
        [
            {
                "merge_id": merge_id,
                "source_person_id": source_root,
                "target_person_id": target_root,
                "claim_id": claim_id,
                "execute_ms": cause.now_ms,
                "due_ms": cause.now_ms + REVERSIBLE_MS,
                "reversible_until_ms": cause.now_ms + REVERSIBLE_MS,
                "released_identifier_ids": json.dumps(list(released_identifier_ids)),
            }
        ],
    )
    end_unions(connection, cause, sources, targets)
    end_sessions(connection, account_ids, "MERGED", cause.now_ms)
    sequence = person_events.add(
        connection,
        Kind.PERSONS_MERGED,
        cause,
        person_id=source_root,
        other_person_id=target_root,
        account_ids=account_ids,
    )
    if moves.state_of(connection, Entity.PERSON, target_root) is PersonState.VERIFIED:
        # Whoever has a name of their own counts with nobody because of another one.
        for row in trees.unions_of(connection, sources):
            end_unions(connection, cause, [row.person_id], [row.owner_person_id])
        sequence = part(
            connection, cause, group=list(group), person_id=source_root, other_person_id=target_root
        )
    # Where only one account of a person may be used, there may be two of them now.
    policy.settle(connection, target_root, cause)
    return sequence


def reverse(
    connection: sa.Connection, cause: Cause, merge: sa.Row[Any]
) -> tuple[Sequence[str], int]:
    """Undoes a merge: the person and its own parts go back to what they were.

    Args:
        connection: Inside a transaction.
        cause: What led to it.
        merge: The stored merge; EXECUTED.

    Returns:
        The accounts that went back, and the sequence of the last person event.

    Raises:
        TooManyPartsError: Neither side fits into one command of the ledger.
        IllegalMoveError: The merge does not stand, or is final.
    """
    source, old_root = merge.source_person_id, trees.root_of(connection, merge.source_person_id)
    parts = trees.subtree_of(connection, source)
    group = trees.group_of(connection, source)
    moves.move(connection, Entity.MERGE, merge.merge_id, MergeEvent.REVERSE, cause, due_ms=None)
    moves.move(connection, Entity.PERSON, source, PersonEvent.SPLIT, cause, merged_into=None)
    account_ids = _take_over(connection, parts, source)
    rest = trees.members_of(connection, old_root)
    # What joined them before was taken back with the merge; the name can match again.
    end_unions(connection, cause, parts, rest)
    _restore_identifiers(connection, cause, json.loads(merge.released_identifier_ids))
    end_sessions(connection, account_ids, "SPLIT", cause.now_ms)
    sequence = part(
        connection,
        cause,
        group=group,
        person_id=source,
        other_person_id=old_root,
        account_ids=account_ids,
    )
    for person_id in (source, old_root):
        policy.settle(connection, person_id, cause)
    return account_ids, sequence


def part(
    connection: sa.Connection,
    cause: Cause,
    *,
    group: Sequence[str],
    person_id: str,
    other_person_id: str = "",
    account_ids: Sequence[str] = (),
) -> int:
    """Tells who counts apart from whom, once what joined a group has ended in part.

    The group may have come apart into several. Each but one is told of: then that one is parted
    from all of them. It is the largest of the others, unless that leaves out one that is too large.

    Args:
        connection: Inside a transaction.
        cause: What led to it.
        group: Who counted together before.
        person_id: The live person that it is about.
        other_person_id: From whom it parted; empty if that is not one person.
        account_ids: Accounts whose answer of ResolvePerson changed.

    Returns:
        The sequence of the last event.

    Raises:
        TooManyPartsError: A group that parts does not fit into one command of the ledger.
    """
    left = list(group)
    groups: list[Sequence[str]] = []
    while left:
        found = trees.group_of(connection, left[0])
        groups.append(found)
        left = [each for each in left if each not in found]
    groups.sort(key=lambda each: (len(each) > PARTS_MAX, person_id not in each, len(each)))
    apart = groups[:-1]
    if any(len(each) > PARTS_MAX for each in apart):
        raise TooManyPartsError
    # Accounts have another live person even if nobody counts apart, for example because a third
    # person joins both: then the one event has accounts and no persons.
    told = apart or ([()] if account_ids else [])
    for number, person_ids in enumerate(told):
        person_events.add(
            connection,
            Kind.PERSONS_SPLIT,
            cause,
            person_id=person_id,
            other_person_id=other_person_id,
            person_ids=person_ids,
            account_ids=account_ids if number == 0 else (),
        )
    return person_events.last_sequence(connection)


def end_unions(
    connection: sa.Connection, cause: Cause, one: Collection[str], other: Collection[str]
) -> int:
    """Ends the active unions between two sets of persons; returns how many there were."""
    ended = 0
    for row in trees.unions_of(connection, one):
        pair = {row.person_id, row.owner_person_id}
        if pair & set(one) and pair & set(other):
            moves.move(
                connection,
                Entity.UNION,
                row.union_id,
                UnionEvent.END,
                cause,
                end_ms=cause.now_ms,
            )
            ended += 1
    return ended


def end_sessions(
    connection: sa.Connection, account_ids: Collection[str], reason: str, now_ms: int
) -> None:
    """Ends the sessions of accounts, whose holders must log in anew."""
    table = _tables.sessions
    connection.execute(
        sa.update(table)
        .where(table.c.account_id.in_(account_ids), table.c.end_ms.is_(None))
        .values(end_ms=now_ms, end_reason=reason)
    )


def _take_over(connection: sa.Connection, person_ids: Sequence[str], root: str) -> Sequence[str]:
    """Lets persons and their accounts name a new root; returns the accounts."""
    persons, accounts = _tables.persons, _tables.accounts
    connection.execute(
        sa.update(persons)
        .where(persons.c.person_id.in_(person_ids), persons.c.person_id != root)
        .values(merged_into=root)
    )
    connection.execute(
        sa.update(accounts).where(accounts.c.home_person_id.in_(person_ids)).values(person_id=root)
    )
    return trees.accounts_of(connection, person_ids)


def _restore_identifiers(
    connection: sa.Connection, cause: Cause, identifier_ids: Sequence[str]
) -> None:
    """Gives back what was called dead, unless somebody else has it by now."""
    table = _tables.identifiers
    for identifier_id in identifier_ids:
        row = connection.execute(
            sa.select(table.c.state, table.c.digest).where(table.c.identifier_id == identifier_id)
        ).one()
        taken = connection.scalar(
            sa.select(sa.func.count()).where(
                table.c.digest == row.digest, table.c.state != IdentifierState.RELEASED
            )
        )
        if row.state == IdentifierState.RELEASED and not taken:
            moves.move(
                connection,
                Entity.IDENTIFIER,
                identifier_id,
                IdentifierEvent.RESTORE,
                cause,
                change_ms=cause.now_ms,
            )
