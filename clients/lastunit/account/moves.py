"""The only writer of states: moves what there is by the tables of `states`, and writes it down.

Owns each `state` column and the rows of `transitions`. Must not decide whether something should
happen: the caller has checked its guard in the same transaction.
Next: `lastunit.account.states` for the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import _tables
from lastunit.account.states import (
    AccountState,
    ClaimState,
    Entity,
    IdentifierState,
    MergeState,
    PersonState,
    UnionState,
    next_state,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.account.states import Event, State

__all__ = ["TIMER", "Cause", "begin", "move", "state_of"]

TIMER: Final = "timer"
"""The cause of what only a clock made happen."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Says what led to a move.

    Attributes:
        name: A request id, the id of a claim or merge, or `TIMER`.
        now_ms: When, in milliseconds since the epoch.
        actor: Who asked; empty if nobody did.
        reason: Why, as it was given.
    """

    name: str
    now_ms: int
    actor: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    table: sa.Table
    key: sa.Column[Any]
    states: type[State]


def _place(table: sa.Table, key: str, states: type[State]) -> _Place:
    return _Place(table, table.c[key], states)


_PLACES: Final[Mapping[Entity, _Place]] = {
    Entity.IDENTIFIER: _place(_tables.identifiers, "identifier_id", IdentifierState),
    Entity.ACCOUNT: _place(_tables.accounts, "account_id", AccountState),
    Entity.PERSON: _place(_tables.persons, "person_id", PersonState),
    Entity.UNION: _place(_tables.unions, "union_id", UnionState),
    Entity.MERGE: _place(_tables.merges, "merge_id", MergeState),
    Entity.CLAIM: _place(_tables.claims, "claim_id", ClaimState),
}


def begin(
    connection: sa.Connection,
    entity: Entity,
    event: Event,
    rows: Sequence[Mapping[str, object]],
) -> None:
    """Inserts rows in the state that an event leads to from `NONE`.

    Args:
        connection: Inside a transaction.
        entity: What they are.
        event: What made them.
        rows: Every column but `state`; may be empty. Their first move needs no transition: each
            row dates itself.

    Raises:
        IllegalMoveError: Nothing begins with such an event.
    """
    place = _PLACES[entity]
    state = next_state(entity, place.states("NONE"), event)
    if rows:
        connection.execute(sa.insert(place.table), [{**row, "state": state.value} for row in rows])


def move(
    connection: sa.Connection,
    entity: Entity,
    entity_id: str,
    event: Event,
    cause: Cause,
    **changes: object,
) -> State:
    """Moves one thing, and writes down what moved it.

    Args:
        connection: Inside a transaction.
        entity: What it is.
        entity_id: Which one; it must exist.
        event: What happens.
        cause: What led to it.
        changes: Further columns of its row that change with it.

    Returns:
        The state it is in now.

    Raises:
        IllegalMoveError: The event has no place in its state; nothing is changed.
    """
    place = _PLACES[entity]
    source = state_of(connection, entity, entity_id)
    target = next_state(entity, source, event)
    connection.execute(
        sa.update(place.table)
        .where(place.key == entity_id)
        .values({**changes, "state": target.value})
    )
    connection.execute(
        sa.insert(_tables.transitions),
        {
            "entity": entity.value,
            "entity_id": entity_id,
            "event": event.value,
            "state_from": source.value,
            "state_to": target.value,
            "cause": cause.name,
            "actor": cause.actor,
            "reason": cause.reason,
            "time_ms": cause.now_ms,
        },
    )
    return target


def state_of(connection: sa.Connection, entity: Entity, entity_id: str) -> State:
    """Returns where something is; `NONE` if it is not there."""
    place = _PLACES[entity]
    found = connection.scalar(sa.select(place.table.c.state).where(place.key == entity_id))
    return place.states(found or "NONE")
