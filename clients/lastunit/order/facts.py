"""Reads and writes what only this service knows of an order, inside a transaction of the caller.

Owns the SQL of facts: each is written together with its transition, and remembers after which event
of the ledger it came, so that a rebuild puts it in the same place. Must not call anybody.
Next: `lastunit.order.states` (the tables), `lastunit.order.refunds` (what is still to be done).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.order import schema, store
from lastunit.order.moves import CauseKind, Entity
from lastunit.order.states import (
    FulfilmentEvent,
    FulfilmentState,
    OrderEvent,
    OrderState,
    next_fulfilment_state,
    next_state,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.order.moves import Fact

__all__ = [
    "add",
    "apply_stored",
    "count",
    "differing_field",
    "find_call",
    "load_unapplied",
    "pass_over",
]

_FIND_CALL: Final = (
    sa.select(schema.order_facts)
    .where(
        schema.order_facts.c.order_id == sa.bindparam("wanted"),
        schema.order_facts.c.cause_kind == CauseKind.CALL.value,
        schema.order_facts.c.cause == sa.bindparam("request_id"),
    )
    .order_by(schema.order_facts.c.number)
    .limit(1)
)


def add(connection: sa.Connection, order_id: str, fact: Fact) -> None:
    """Writes a fact down and moves the order, or its goods, by it.

    Args:
        connection: Inside a transaction.
        order_id: The order, which must exist.
        fact: What happened; the caller knows that the tables allow it.

    Raises:
        IllegalTransitionError: They do not; nothing is changed.
    """
    order = store.load_order(connection, order_id)
    if order is None:
        raise AssertionError(f"order {order_id} is gone")
    entity = Entity.ORDER if isinstance(fact.event, OrderEvent) else Entity.FULFILMENT
    values = {
        "order_id": order_id,
        "number": order.fact_count + 1,
        "entity": entity.value,
        "event": fact.event.value,
        "cause_kind": fact.cause_kind.value,
        "cause": fact.cause,
        "content": json.dumps(fact.content, separators=(",", ":"), sort_keys=True),
        "actor": fact.actor,
        "reason": fact.reason,
        "after_sequence": order.ledger_sequence,
        "time_ms": fact.time_ms,
    }
    _move(connection, order, values)
    connection.execute(sa.insert(schema.order_facts), values)


def apply_stored(connection: sa.Connection, order_id: str, row: sa.Row[Any]) -> None:
    """Moves an order by a fact that was written before, for a rebuild.

    Args:
        connection: Inside a transaction.
        order_id: The order.
        row: The fact.
    """
    order = store.load_order(connection, order_id)
    if order is None:
        raise AssertionError(f"order {order_id} is gone")
    _move(connection, order, row._asdict())


def pass_over(connection: sa.Connection, order_id: str, row: sa.Row[Any]) -> None:
    """Counts a fact as shown that has no place in the order's state, for a rebuild."""
    table = schema.order_states
    connection.execute(
        sa.update(table).where(table.c.order_id == order_id).values(fact_count=row.number)
    )


def load_unapplied(
    connection: sa.Connection, order: sa.Row[Any], *, before_sequence: int | None = None
) -> Sequence[sa.Row[Any]]:
    """Returns the facts that an order does not show yet, in order, for a rebuild.

    Args:
        connection: A transaction.
        order: The row as it stands in it.
        before_sequence: Only those that came before this event of the ledger; None: all.
    """
    table = schema.order_facts
    query = sa.select(table).where(
        table.c.order_id == order.order_id, table.c.number > order.fact_count
    )
    if before_sequence is not None:
        query = query.where(table.c.after_sequence < before_sequence)
    return connection.execute(query.order_by(table.c.number)).all()


def find_call(connection: sa.Connection, order_id: str, request_id: str) -> sa.Row[Any] | None:
    """Returns the first fact that a call has made, or None if there was no such call."""
    values = {"wanted": order_id, "request_id": request_id}
    return connection.execute(_FIND_CALL, values).one_or_none()


def count(connection: sa.Connection, order_id: str, event: OrderEvent | FulfilmentEvent) -> int:
    """Returns how often something happened to an order."""
    table = schema.order_facts
    query = sa.select(sa.func.count()).where(
        table.c.order_id == order_id, table.c.event == event.value
    )
    return int(connection.execute(query).scalar_one())


def differing_field(fact: sa.Row[Any], content: Mapping[str, Any]) -> str:
    """Returns the first field in which a repeated call differs; empty if it does not.

    Args:
        fact: What the first call has made.
        content: What the repeat says.
    """
    written: Mapping[str, Any] = json.loads(fact.content)
    for name in sorted({*written, *content}):
        if written.get(name) != content.get(name):
            return name
    return ""


def _move(connection: sa.Connection, order: sa.Row[Any], fact: Mapping[str, Any]) -> None:
    """Finds the move in its table, and writes the transition and where the order stands."""
    entity = Entity(fact["entity"])
    source: str
    target: str
    if entity is Entity.ORDER:
        source, column = order.state, "state"
        target = next_state(OrderState(source), OrderEvent(fact["event"]))
    else:
        source, column = order.fulfilment_state, "fulfilment_state"
        target = next_fulfilment_state(FulfilmentState(source), FulfilmentEvent(fact["event"]))
    step = store.Step(
        entity=entity,
        event=fact["event"],
        state_from=source,
        state_to=str(target),
        cause_kind=CauseKind(fact["cause_kind"]),
        cause=fact["cause"],
        actor=fact["actor"],
        reason=fact["reason"],
        ledger_sequence=0,
        time_ms=fact["time_ms"],
    )
    changed = {column: str(target), "fact_count": fact["number"]}
    store.write_step(connection, order, step, changed)
