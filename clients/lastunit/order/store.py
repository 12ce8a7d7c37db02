"""Reads and writes orders, inside a transaction of the caller.

Owns the SQL of the order service and the rule that a row only moves as the table allows, and only
by events it has not seen. Must not call anybody. Next: `lastunit.order.states`, `schema`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from lastunit.order import schema
from lastunit.order.states import OrderEvent, OrderState, next_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.service.database import Database

__all__ = [
    "Allocation",
    "Move",
    "NewOrder",
    "allocate_attempt",
    "count_start",
    "insert_order",
    "load_attempts",
    "load_order",
    "load_position",
    "move_order",
    "overwrite_order",
    "read_order",
    "save_position",
    "set_attempt_state",
]

_POSITION: Final = "journal"
_STARTS: Final = "starts"

# Statements of every call are built once: building one costs more than running it.
_LOAD_ORDER: Final = sa.select(schema.orders).where(
    schema.orders.c.order_id == sa.bindparam("wanted")
)
_LOAD_ATTEMPTS: Final = (
    sa.select(schema.order_attempts)
    .where(schema.order_attempts.c.order_id == sa.bindparam("wanted"))
    .order_by(schema.order_attempts.c.number)
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
class Move:
    """Is one event that moves an order.

    Attributes:
        event: What the ledger said.
        sequence: Its position.
        cause: What caused it there: an attempt, a request, a timer.
        time_ms: Ledger time.
        values: Columns that change with it, beside the state.
    """

    event: OrderEvent
    sequence: int
    cause: str
    time_ms: int
    values: Mapping[str, Any]


def load_order(connection: sa.Connection, order_id: str) -> sa.Row[Any] | None:
    """Returns an order, or None."""
    return connection.execute(_LOAD_ORDER, {"wanted": order_id}).one_or_none()


def read_order(database: Database, order_id: str) -> sa.Row[Any] | None:
    """Returns an order as it stands now, outside of a transaction, or None."""
    with database.read() as connection:
        return load_order(connection, order_id)


def load_attempts(connection: sa.Connection, order_id: str) -> Sequence[sa.Row[Any]]:
    """Returns the attempts of an order by number."""
    return connection.execute(_LOAD_ATTEMPTS, {"wanted": order_id}).all()


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
        "state": next_state(OrderState.CREATED, OrderEvent.RESERVED).value,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "create_ms": order.create_ms,
        "expire_ms": order.expire_ms,
        "ledger_sequence": order.ledger_sequence,
    }
    statement = sqlite.insert(schema.orders).on_conflict_do_nothing()
    return connection.execute(statement, values).rowcount > 0


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
    connection.execute(
        sa.update(schema.orders)
        .where(schema.orders.c.order_id == order.order_id)
        .values(state=target.value, ledger_sequence=move.sequence, **move.values)
    )
    connection.execute(
        sa.insert(schema.order_transitions),
        {
            "order_id": order.order_id,
            "event": move.event.value,
            "state_from": state.value,
            "state_to": target.value,
            "ledger_sequence": move.sequence,
            "cause": move.cause,
            "time_ms": move.time_ms,
        },
    )
    return target


def overwrite_order(
    connection: sa.Connection,
    order: sa.Row[Any],
    *,
    state: OrderState,
    sequence: int,
    values: Mapping[str, Any],
) -> None:
    """Sets an order to what a comparison with the ledger has shown.

    Args:
        connection: Inside a transaction.
        order: The row as it stands in this transaction.
        state: The state that the reservation's state stands for.
        sequence: Position of the ledger's state that was seen.
        values: Columns that go with it.
    """
    connection.execute(
        sa.update(schema.orders)
        .where(schema.orders.c.order_id == order.order_id)
        .values(state=state.value, ledger_sequence=sequence, **values)
    )
    connection.execute(
        sa.insert(schema.order_transitions),
        {
            "order_id": order.order_id,
            "event": "COMPARED",
            "state_from": order.state,
            "state_to": state.value,
            "ledger_sequence": sequence,
            "cause": "comparison",
            "time_ms": order.create_ms,
        },
    )


def set_attempt_state(
    connection: sa.Connection, *, order_id: str, attempt_id: str, state: str, time_ms: int
) -> None:
    """Writes down what the ledger says of an attempt, also of one it learnt of elsewhere.

    Args:
        connection: Inside a transaction.
        order_id: The order.
        attempt_id: The attempt.
        state: The ledger's state of it.
        time_ms: Ledger time.
    """
    table = schema.order_attempts
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
            "number": len(load_attempts(connection, order_id)) + 1,
            "request_id": f"ledger:{attempt_id}",
            "method": "",
            "state": state,
            "create_ms": time_ms,
        },
    )


def load_position(connection: sa.Connection) -> int:
    """Returns how far the ledger's journal was followed, 0 at first."""
    query = sa.select(schema.cursors.c.position).where(schema.cursors.c.name == _POSITION)
    position = connection.execute(query).scalar_one_or_none()
    return 0 if position is None else int(position)


def save_position(connection: sa.Connection, position: int) -> None:
    """Saves how far the journal was followed, in the transaction of the effects."""
    statement = sqlite.insert(schema.cursors).values(name=_POSITION, position=position)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[schema.cursors.c.name],
            set_={"position": sa.func.max(schema.cursors.c.position, position)},
        )
    )


def count_start(connection: sa.Connection) -> int:
    """Counts one more start of this service, and returns how many there were."""
    starts = schema.cursors
    statement = sqlite.insert(starts).values(name=_STARTS, position=1)
    counted = statement.on_conflict_do_update(
        index_elements=[starts.c.name], set_={"position": starts.c.position + 1}
    ).returning(starts.c.position)
    return int(connection.execute(counted).scalar_one())
