"""Reads and writes orders, inside a transaction of the caller.

Owns the SQL of orders, attempts and transitions, and the rule that an order only moves as the table
allows, and only by events it has not seen. Must not call anybody.
Next: `lastunit.order.states`, `schema`; `facts` for what only this service knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.order import schema
from lastunit.order.moves import CauseKind, Entity
from lastunit.order.states import FulfilmentState, OrderEvent, OrderState, next_state
from lastunit.service import sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.order.moves import Move
    from lastunit.service.database import Database

__all__ = [
    "COMPARED",
    "JOURNAL",
    "ORDERS",
    "Allocation",
    "Attempt",
    "NewOrder",
    "Step",
    "allocate_attempt",
    "count_start",
    "insert_order",
    "load_attempts",
    "load_cursor",
    "load_order",
    "load_position",
    "load_transitions",
    "move_order",
    "overwrite_order",
    "raise_cursor",
    "read_order",
    "save_position",
    "set_attempt_state",
    "write_step",
]

JOURNAL: Final = "journal"
"""Under which name the place in the ledger's journal is kept."""

COMPARED: Final = "COMPARED"
"""The event of a transition that a comparison with the ledger made, in place of those it missed."""

_STARTS: Final = "starts"

_STANDING: Final = [column for column in schema.order_states.c if column.name != "order_id"]
ORDERS: Final = sa.select(schema.orders, *_STANDING).join(
    schema.order_states, schema.order_states.c.order_id == schema.orders.c.order_id
)
"""Selects orders as callers see them: what was ordered, and where each stands."""

# Statements of every call are built once: building one costs more than running it.
_LOAD_ORDER: Final = ORDERS.where(schema.orders.c.order_id == sa.bindparam("wanted"))


def _load_attempts() -> sa.CompoundSelect[Any]:
    """Selects the attempts of an order that were asked of us, then those of others."""
    ours, told = schema.order_attempts, schema.attempt_states
    asked = (
        sa.select(
            ours.c.attempt_id,
            ours.c.number,
            ours.c.request_id,
            ours.c.method,
            sa.func.coalesce(told.c.state, "").label("state"),
            ours.c.create_ms,
        )
        .outerjoin(told, told.c.attempt_id == ours.c.attempt_id)
        .where(ours.c.order_id == sa.bindparam("wanted"))
    )
    others = sa.select(
        told.c.attempt_id,
        sa.literal(0).label("number"),
        sa.literal("").label("request_id"),
        sa.literal("").label("method"),
        told.c.state,
        told.c.begin_ms.label("create_ms"),
    ).where(
        told.c.order_id == sa.bindparam("wanted"),
        ~sa.exists().where(ours.c.attempt_id == told.c.attempt_id),
    )
    return asked.union_all(others)


_LOAD_ATTEMPTS: Final = _load_attempts()
_LOAD_TRANSITIONS: Final = (
    sa.select(schema.order_transitions)
    .where(
        schema.order_transitions.c.order_id == sa.bindparam("wanted"),
        schema.order_transitions.c.number > sa.bindparam("after"),
    )
    .order_by(schema.order_transitions.c.number)
    .limit(sa.bindparam("limit"))
)
_LOAD_CURSOR: Final = sa.select(schema.cursors.c.position).where(
    schema.cursors.c.name == sa.bindparam("wanted")
)


@dataclass(frozen=True, slots=True)
class NewOrder:
    """Is an order whose units are held.

    Attributes:
        order_id: Also the reservation's id.
        request_id: The buyer's id of the call.
        account_id: Who asked.
        person_id: Who that is.
        sale_id: The sale.
        lines: For each line sku, pool, units and price of a unit.
        parts: What the units cost, pool by pool, with the fields of `OrderPart`.
        coupon_id: The coupon that was used; empty for none.
        reduction_name: The full reduction that counted; empty for none.
        missing_gifts: SKUs of gifts that were reached and gone.
        amount_minor: Sum of the parts, minor units.
        currency: Three capitals.
        create_ms: When it was asked for.
        expire_ms: When the units may lapse.
        ledger_sequence: Position of the reservation in the ledger.
    """

    order_id: str
    request_id: str
    account_id: str
    person_id: str
    sale_id: str
    lines: Sequence[Mapping[str, object]]
    parts: Sequence[Mapping[str, object]]
    coupon_id: str
    reduction_name: str
    missing_gifts: Sequence[str]
    amount_minor: int
    currency: str
    create_ms: int
    expire_ms: int
    ledger_sequence: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """Is the number an attempt got, or why it got none.

    Attributes:
        attempt_id: The attempt; empty if refused.
        is_new: True if this call has allocated it.
        conflict_field: Field that differs from the first call; empty without a conflict.
        is_too_many: True if the order has used up its numbers.
    """

    attempt_id: str = ""
    is_new: bool = False
    conflict_field: str = ""
    is_too_many: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """Is one attempt to pay for an order.

    Attributes:
        attempt_id: Its name.
        number: Its place among the order's, 1 or more.
        request_id: The buyer's id of the call; empty for one that the ledger learnt of elsewhere.
        method: Method of payment; empty for such a one.
        state: The ledger's word; empty until it was begun there.
        create_ms: When it was asked for, or first told of.
    """

    attempt_id: str
    number: int
    request_id: str
    method: str
    state: str
    create_ms: int


@dataclass(frozen=True, slots=True)
class Step:
    """Is one transition as it is stored, without its number.

    Attributes:
        entity: Which machine moved.
        event: Its event.
        state_from: Where it was.
        state_to: Where it is.
        cause_kind: What the cause is the id of.
        cause: What made it move.
        actor: Who.
        reason: Why; may be empty.
        ledger_sequence: The ledger's event; 0 where it was not concerned.
        time_ms: When, milliseconds since 1970.
    """

    entity: Entity
    event: str
    state_from: str
    state_to: str
    cause_kind: CauseKind
    cause: str
    actor: str
    reason: str
    ledger_sequence: int
    time_ms: int


def load_order(connection: sa.Connection, order_id: str) -> sa.Row[Any] | None:
    """Returns an order, or None."""
    return connection.execute(_LOAD_ORDER, {"wanted": order_id}).one_or_none()


def read_order(database: Database, order_id: str) -> sa.Row[Any] | None:
    """Returns an order as it stands now, outside of a transaction, or None."""
    with database.read() as connection:
        return load_order(connection, order_id)


def load_attempts(connection: sa.Connection, order_id: str) -> Sequence[Attempt]:
    """Returns the attempts of an order by number; those of others take the numbers left free."""
    rows = connection.execute(_LOAD_ATTEMPTS, {"wanted": order_id}).all()
    taken = {row.number for row in rows}
    free = (number for number in range(1, 2 * len(rows) + 1) if number not in taken)
    others = sorted((row.create_ms, row.attempt_id) for row in rows if not row.number)
    numbers = {attempt_id: next(free) for _, attempt_id in others}
    attempts = [
        Attempt(
            attempt_id=row.attempt_id,
            number=row.number or numbers[row.attempt_id],
            request_id=row.request_id,
            method=row.method,
            state=row.state,
            create_ms=row.create_ms,
        )
        for row in rows
    ]
    return sorted(attempts, key=lambda attempt: attempt.number)


def load_transitions(
    connection: sa.Connection, order_id: str, *, after: int = 0, limit: int
) -> Sequence[sa.Row[Any]]:
    """Returns transitions of an order after a number, in order.

    Args:
        connection: A reader.
        order_id: The order.
        after: The last number that is known, 0 or more.
        limit: At most so many, 1 or more.
    """
    values = {"wanted": order_id, "after": after, "limit": limit}
    return connection.execute(_LOAD_TRANSITIONS, values).all()


def insert_order(connection: sa.Connection, order: NewOrder) -> bool:
    """Writes a held order down; returns False if it was written before, which changes nothing."""
    values = {
        "order_id": order.order_id,
        "request_id": order.request_id,
        "account_id": order.account_id,
        "person_id": order.person_id,
        "sale_id": order.sale_id,
        "lines": json.dumps(order.lines, separators=(",", ":")),
        "parts": json.dumps(order.parts, separators=(",", ":")),
        "coupon_id": order.coupon_id,
        "reduction_name": order.reduction_name,
        "missing_gifts": json.dumps(order.missing_gifts, separators=(",", ":")),
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "create_ms": order.create_ms,
        "hold_expire_ms": order.expire_ms,
        "create_sequence": order.ledger_sequence,
    }
    if not sql.insert_new(connection, schema.orders, values):
        return False
    first = next_state(OrderState.CREATED, OrderEvent.RESERVED)
    connection.execute(
        sa.insert(schema.order_states),
        {
            "order_id": order.order_id,
            "state": first.value,
            "expire_ms": order.expire_ms,
            "fulfilment_state": FulfilmentState.UNSHIPPED.value,
            "ledger_sequence": order.ledger_sequence,
            "transition_count": 1,
        },
    )
    connection.execute(
        sa.insert(schema.order_transitions),
        {
            "order_id": order.order_id,
            "number": 1,
            "entity": Entity.ORDER.value,
            "event": OrderEvent.RESERVED.value,
            "state_from": OrderState.CREATED.value,
            "state_to": first.value,
            "cause_kind": CauseKind.CALL.value,
            "cause": order.request_id,
            "actor": order.account_id,
            "reason": "",
            "ledger_sequence": order.ledger_sequence,
            "time_ms": order.create_ms,
        },
    )
    return True


def write_step(
    connection: sa.Connection, order: sa.Row[Any], step: Step, values: Mapping[str, Any]
) -> None:
    """Writes a transition down, and where the order stands after it.

    Args:
        connection: Inside a transaction.
        order: The row as it stands in this transaction.
        step: The transition, which the caller has found in the table.
        values: Columns of `order_states` that change with it.
    """
    number = order.transition_count + 1
    connection.execute(
        sa.update(schema.order_states)
        .where(schema.order_states.c.order_id == order.order_id)
        .values(transition_count=number, **values)
    )
    connection.execute(
        sa.insert(schema.order_transitions),
        {
            "order_id": order.order_id,
            "number": number,
            "entity": step.entity.value,
            "event": step.event,
            "state_from": step.state_from,
            "state_to": step.state_to,
            "cause_kind": step.cause_kind.value,
            "cause": step.cause,
            "actor": step.actor,
            "reason": step.reason,
            "ledger_sequence": step.ledger_sequence,
            "time_ms": step.time_ms,
        },
    )


def allocate_attempt(
    connection: sa.Connection,
    *,
    order_id: str,
    request_id: str,
    method: str,
    now_ms: int,
    number_max: int,
) -> Allocation:
    """Gives a request to pay its attempt's number; the same request gets the same one.

    Args:
        connection: Inside a transaction.
        order_id: The order, which must exist.
        request_id: The buyer's id of the call.
        method: Method of payment; compared if the request is repeated.
        now_ms: The time.
        number_max: Numbers the order may use up.
    """
    attempts = load_attempts(connection, order_id)
    for attempt in attempts:
        if attempt.request_id == request_id:
            differs = "" if attempt.method == method else "method"
            return Allocation(attempt.attempt_id, conflict_field=differs)
    number = len(attempts) + 1
    if number > number_max:
        return Allocation(is_too_many=True)
    attempt_id = f"{order_id}:{number}"
    connection.execute(
        sa.insert(schema.order_attempts),
        {
            "attempt_id": attempt_id,
            "order_id": order_id,
            "number": number,
            "request_id": request_id,
            "method": method,
            "create_ms": now_ms,
        },
    )
    return Allocation(attempt_id, is_new=True)


def move_order(connection: sa.Connection, order: sa.Row[Any], move: Move) -> OrderState:
    """Moves an order by one event of the ledger.

    Args:
        connection: Inside a transaction.
        order: The row as it stands in this transaction.
        move: The event; one that the row has seen already changes nothing.

    Returns:
        The state afterwards.

    Raises:
        IllegalTransitionError: The table has no such row; nothing is changed.
    """
    state = OrderState(order.state)
    if move.sequence <= order.ledger_sequence:
        return state
    target = next_state(state, move.event)
    step = Step(
        entity=Entity.ORDER,
        event=move.event.value,
        state_from=state.value,
        state_to=target.value,
        cause_kind=CauseKind.LEDGER,
        cause=move.cause,
        actor=move.actor,
        reason=move.reason,
        ledger_sequence=move.sequence,
        time_ms=move.time_ms,
    )
    changed = {"state": target.value, "ledger_sequence": move.sequence, **move.values}
    write_step(connection, order, step, changed)
    return target


def overwrite_order(
    connection: sa.Connection,
    order: sa.Row[Any],
    *,
    state: OrderState,
    sequence: int,
    time_ms: int,
    values: Mapping[str, Any],
) -> None:
    """Sets an order to what a comparison with the ledger has shown.

    Args:
        connection: Inside a transaction.
        order: The row as it stands in this transaction.
        state: The state that the reservation's state stands for.
        sequence: Position of the ledger's state that was seen.
        time_ms: When it was seen, milliseconds since 1970.
        values: Columns that go with it.
    """
    step = Step(
        entity=Entity.ORDER,
        event=COMPARED,
        state_from=order.state,
        state_to=state.value,
        cause_kind=CauseKind.COMPARISON,
        cause="comparison",
        actor="order-service",
        reason="",
        ledger_sequence=sequence,
        time_ms=time_ms,
    )
    changed = {"state": state.value, "ledger_sequence": sequence, **values}
    write_step(connection, order, step, changed)


def set_attempt_state(
    connection: sa.Connection,
    *,
    order_id: str,
    attempt_id: str,
    state: str,
    sequence: int,
    time_ms: int,
) -> None:
    """Writes down what the ledger says of an attempt, also of one it learnt of elsewhere.

    Args:
        connection: Inside a transaction.
        order_id: The order.
        attempt_id: The attempt.
        state: The ledger's state of it.
        sequence: Position of the ledger's word.
        time_ms: Ledger time.
    """
    table = schema.attempt_states
    updated = connection.execute(
        sa.update(table).where(table.c.attempt_id == attempt_id).values(state=state)
    )
    if updated.rowcount:
        return
    connection.execute(
        sa.insert(table),
        {
            "attempt_id": attempt_id,
            "order_id": order_id,
            "state": state,
            "begin_ms": time_ms,
            "begin_sequence": sequence,
        },
    )


def load_position(connection: sa.Connection) -> int:
    """Returns how far the ledger's journal was followed, 0 at first."""
    return load_cursor(connection, JOURNAL)


def load_cursor(connection: sa.Connection, name: str) -> int:
    """Returns a saved position by its name, 0 if there is none."""
    position = connection.execute(_LOAD_CURSOR, {"wanted": name}).scalar_one_or_none()
    return 0 if position is None else int(position)


def save_position(connection: sa.Connection, position: int) -> None:
    """Saves how far the journal was followed, in the transaction of the effects."""
    raise_cursor(connection, JOURNAL, position)


def raise_cursor(connection: sa.Connection, name: str, position: int) -> None:
    """Saves a position unless a later one is saved."""
    cursors = schema.cursors
    statement = sql.insert(connection, cursors).values(name=name, position=position)
    further = sql.greatest(cursors.c.position, statement.excluded.position)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[cursors.c.name], set_={"position": further})
    )


def count_start(connection: sa.Connection) -> int:
    """Counts one more start of this service, and returns how many there were."""
    starts = schema.cursors
    statement = sql.insert(connection, starts).values(name=_STARTS, position=1)
    counted = statement.on_conflict_do_update(
        index_elements=[starts.c.name], set_={"position": starts.c.position + 1}
    ).returning(starts.c.position)
    return int(connection.execute(counted).scalar_one())
