"""Writes down what happened to attempts, refunds and breakers, each with its cause.

Owns the rows of `transitions`: who moved, by which event, from where to where, what caused it, who
was behind it, when. Must not decide anything. Next: `lastunit.payment.attempts`, `refunds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import schema

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OWN_ACTOR", "Cause", "Entity", "Move", "list_of_order", "write"]

OWN_ACTOR: Final = "payment-service"
"""Who is behind what the service does by itself."""

# A cause names ids of others; ours are at most 64 bytes and a provider's may be odd.
_CAUSE_CHARACTERS_MAX: Final = 160

_INSERT: Final = sa.insert(schema.transitions)


class Entity(StrEnum):
    """Which machine moved."""

    ATTEMPT = "attempt"
    REFUND = "refund"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True)
class Cause:
    """Says why something moved.

    Attributes:
        text: `call`, `callback`, `ledger`, `timer` or `bill`, and which one: `callback e-12`.
        actor: A person, a service or a provider.
    """

    text: str
    actor: str = OWN_ACTOR


@dataclass(frozen=True, slots=True)
class Move:
    """Is one row.

    Attributes:
        entity: The machine.
        entity_id: Of an attempt, of a refund, or the name of a provider.
        event: As the machine's table names it.
        state_from: Empty for the first.
        state_to: As before if nothing changed.
        effect: What the decision obliged to.
        attempt_id: Empty for a breaker.
        order_id: Empty for a breaker.
    """

    entity: Entity
    entity_id: str
    event: str
    state_from: str
    state_to: str
    effect: str = ""
    attempt_id: str = ""
    order_id: str = ""


def write(connection: sa.Connection, move: Move, cause: Cause, *, now_ms: int) -> None:
    """Writes one row in the transaction of the move.

    Args:
        connection: Inside a transaction.
        move: What moved.
        cause: Why.
        now_ms: The time.
    """
    connection.execute(
        _INSERT,
        {
            "entity": move.entity.value,
            "entity_id": move.entity_id,
            "attempt_id": move.attempt_id,
            "order_id": move.order_id,
            "event": move.event,
            "state_from": move.state_from,
            "state_to": move.state_to,
            "effect": move.effect,
            "cause": cause.text[:_CAUSE_CHARACTERS_MAX],
            "actor": cause.actor,
            "time_ms": now_ms,
        },
    )


def list_of_order(
    connection: sa.Connection, order_id: str, *, after: int, limit: int
) -> Sequence[sa.Row[Any]]:
    """Returns what happened to an order's attempts and refunds, in the order of writing.

    Args:
        connection: A reader.
        order_id: The order.
        after: `transition_id` after which to read, 0 or more.
        limit: At most so many, 1 or more.
    """
    table = schema.transitions
    query = (
        sa.select(table)
        .where(table.c.order_id == order_id, table.c.transition_id > after)
        .order_by(table.c.transition_id)
        .limit(limit)
    )
    return connection.execute(query).all()
