"""Which persons belong together: trees of merges, and groups that count as one.

Owns the reading of who is part of whom. Must not write. Next: `lastunit.account.merging`.

Merges that stand make a forest over the persons; the root of a tree is the live person, and every
other one in it names the root, so finding it is one step. A group is what the ledger counts as one:
trees joined by active unions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.states import MergeState, UnionState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = [
    "accounts_of",
    "group_of",
    "matched_owners",
    "members_of",
    "root_of",
    "subtree_of",
    "unions_of",
]

_STANDING = (MergeState.EXECUTED.value, MergeState.FINAL.value)


def root_of(connection: sa.Connection, person_id: str) -> str:
    """Returns the live person that a person is, or is part of; empty if there is no such person."""
    table = _tables.persons
    row = connection.execute(
        sa.select(table.c.person_id, table.c.merged_into).where(table.c.person_id == person_id)
    ).one_or_none()
    if row is None:
        return ""
    return str(row.merged_into or row.person_id)


def members_of(connection: sa.Connection, root_id: str) -> Sequence[str]:
    """Returns a live person and all its parts, itself first."""
    table = _tables.persons
    parts = connection.scalars(
        sa.select(table.c.person_id)
        .where(table.c.merged_into == root_id)
        .order_by(table.c.person_id)
    )
    return [root_id, *parts]


def subtree_of(connection: sa.Connection, person_id: str) -> Sequence[str]:
    """Returns a person and those that became part of it, directly or through others."""
    table = _tables.merges
    found = [person_id]
    for parent in found:
        sources = connection.scalars(
            sa.select(table.c.source_person_id)
            .where(table.c.target_person_id == parent, table.c.state.in_(_STANDING))
            .order_by(table.c.source_person_id)
        )
        # Grows while it is gone through: each person is the source of one standing merge at most.
        found.extend(sources)
    return found


def unions_of(connection: sa.Connection, person_ids: Collection[str]) -> Sequence[Any]:
    """Returns the active unions that any of some persons is in: id, person, owner."""
    table = _tables.unions
    return connection.execute(
        sa.select(table.c.union_id, table.c.person_id, table.c.owner_person_id)
        .where(
            table.c.state == UnionState.ACTIVE,
            table.c.person_id.in_(person_ids) | table.c.owner_person_id.in_(person_ids),
        )
        .order_by(table.c.union_id)
    ).all()


def matched_owners(connection: sa.Connection, root_id: str) -> Collection[str]:
    """Returns the persons whose real name a live person, or a part of it, was found to have."""
    members = members_of(connection, root_id)
    # The others of its unions are those who were found to have its own name.
    return {
        row.owner_person_id for row in unions_of(connection, members) if row.person_id in members
    }


def group_of(connection: sa.Connection, person_id: str) -> Sequence[str]:
    """Returns every person that counts together with one, itself among them."""
    roots = [root_of(connection, person_id)]
    group: list[str] = []
    for root in roots:
        members = members_of(connection, root)
        group.extend(members)
        for row in unions_of(connection, members):
            for other in (row.person_id, row.owner_person_id):
                other_root = root_of(connection, other)
                if other_root not in roots:
                    # Gone through in its turn.
                    roots.append(other_root)
    return group


def accounts_of(connection: sa.Connection, person_ids: Collection[str]) -> Sequence[str]:
    """Returns the accounts that were made with some persons."""
    table = _tables.accounts
    return list(
        connection.scalars(
            sa.select(table.c.account_id)
            .where(table.c.home_person_id.in_(person_ids))
            .order_by(table.c.account_id)
        )
    )
