"""What may be shown of persons and what belongs to them, as messages of the contract.

Owns the masking: no message made here holds anything that is not masked. Must not write.
Next: `lastunit.account.showing`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.states import ClaimState, IdentifierState, UnionState
from lastunit.account.v1 import person_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lastunit.account.person_events import StoredEvent

__all__ = [
    "claim",
    "claim_row",
    "event",
    "identifier",
    "identifier_of",
    "identifiers_of",
    "merge",
    "merge_row",
    "person",
    "transition",
    "union",
]


def _stamp(stamp: Any, milliseconds: int | None) -> None:
    if milliseconds is not None:
        stamp.FromMilliseconds(milliseconds)


def person(row: sa.Row[Any]) -> pb.Person:
    """Shows a person."""
    shown = pb.Person(
        person_id=row.person_id,
        state=pb.PersonState.Value(f"PERSON_STATE_{row.state}"),
        merged_into_person_id=row.merged_into or "",
    )
    _stamp(shown.create_time, row.create_ms)
    _stamp(shown.verify_time, row.verify_ms)
    return shown


def identifier(row: sa.Row[Any]) -> pb.IdentifierView:
    """Shows an identifier, masked."""
    shown = pb.IdentifierView(
        identifier_id=row.identifier_id,
        account_id=row.account_id,
        kind=pb.IdentifierKind.Value(f"IDENTIFIER_KIND_{row.kind.upper()}"),
        state=pb.IdentifierState.Value(f"IDENTIFIER_STATE_{row.state}"),
        masked=row.masked,
    )
    _stamp(shown.verify_time, row.verify_ms)
    if row.state == IdentifierState.DISPUTED:
        _stamp(shown.release_time, row.release_ms)
    return shown


def identifier_of(connection: sa.Connection, identifier_id: str) -> pb.IdentifierView:
    """Shows the identifier that has an id."""
    table = _tables.identifiers
    query = sa.select(table).where(table.c.identifier_id == identifier_id)
    return identifier(connection.execute(query).one())


def identifiers_of(
    connection: sa.Connection, account_ids: Collection[str], *, is_leading: bool = False
) -> Sequence[pb.IdentifierView]:
    """Shows the identifiers of accounts, oldest first.

    Args:
        connection: A transaction.
        account_ids: Whose.
        is_leading: True leaves out those that lead nowhere any more.
    """
    table = _tables.identifiers
    query = sa.select(table).where(table.c.account_id.in_(account_ids))
    if is_leading:
        query = query.where(table.c.state != IdentifierState.RELEASED)
    rows = connection.execute(query.order_by(table.c.create_ms, table.c.identifier_id))
    return [identifier(row) for row in rows]


def union(row: sa.Row[Any]) -> pb.Union:
    """Shows a union."""
    shown = pb.Union(
        union_id=row.union_id,
        person_id=row.person_id,
        owner_person_id=row.owner_person_id,
        is_active=row.state == UnionState.ACTIVE,
    )
    _stamp(shown.create_time, row.create_ms)
    _stamp(shown.end_time, row.end_ms)
    return shown


def merge_row(connection: sa.Connection, merge_id: str) -> sa.Row[Any] | None:
    """Returns a merge as it is stored; None if there is none."""
    table = _tables.merges
    return connection.execute(sa.select(table).where(table.c.merge_id == merge_id)).one_or_none()


def merge(row: sa.Row[Any]) -> pb.Merge:
    """Shows a merge."""
    shown = pb.Merge(
        merge_id=row.merge_id,
        source_person_id=row.source_person_id,
        target_person_id=row.target_person_id,
        state=pb.MergeState.Value(f"MERGE_STATE_{row.state}"),
        claim_id=row.claim_id,
    )
    _stamp(shown.execute_time, row.execute_ms)
    _stamp(shown.reversible_until_time, row.reversible_until_ms)
    return shown


def claim_row(connection: sa.Connection, claim_id: str) -> sa.Row[Any] | None:
    """Returns a claim as it is stored; None if there is none."""
    table = _tables.claims
    return connection.execute(sa.select(table).where(table.c.claim_id == claim_id)).one_or_none()


def claim(row: sa.Row[Any]) -> pb.Claim:
    """Shows a claim."""
    shown = pb.Claim(
        claim_id=row.claim_id,
        account_id=row.account_id,
        person_id=row.person_id,
        owner_person_id=row.owner_person_id,
        state=pb.ClaimState.Value(f"CLAIM_STATE_{ClaimState(row.state)}"),
        merge_id=row.merge_id,
        dead_identifier_ids=json.loads(row.dead_identifier_ids),
    )
    _stamp(shown.create_time, row.create_ms)
    _stamp(shown.wait_until_time, row.wait_until_ms)
    _stamp(shown.confirm_until_time, row.confirm_until_ms)
    return shown


def event(stored: StoredEvent) -> pb.PersonEvent:
    """Shows a person event."""
    shown = pb.PersonEvent(
        sequence=stored.sequence,
        kind=pb.PersonEventKind.Value(f"PERSON_EVENT_KIND_{stored.kind}"),
        person_id=stored.person_id,
        other_person_id=stored.other_person_id,
        person_ids=stored.person_ids,
        account_ids=stored.account_ids,
        cause=stored.cause,
    )
    _stamp(shown.time, stored.time_ms)
    return shown


def transition(row: sa.Row[Any]) -> pb.Transition:
    """Shows a move."""
    shown = pb.Transition(
        entity=pb.EntityKind.Value(f"ENTITY_KIND_{row.entity}"),
        entity_id=row.entity_id,
        event=row.event,
        state_from=row.state_from,
        state_to=row.state_to,
        cause=row.cause,
        actor=row.actor,
        reason=row.reason,
    )
    _stamp(shown.time, row.time_ms)
    return shown
