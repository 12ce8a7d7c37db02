"""Shows what the order service has, as messages of `lastunit.order.v1`.

Owns the mapping of rows to messages, and pages. Must not change anything.
Next: `lastunit.order.core`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.client.outcomes import Outcome
from lastunit.order import refunds, schema, store
from lastunit.order.moves import Entity
from lastunit.order.states import OrderState
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.stock.v1 import outcome_pb2, reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "fulfilment",
    "full_order",
    "list_orders",
    "order",
    "outcome",
    "placed",
    "refund",
    "state",
    "state_value",
    "transition",
]

_ENTITIES: Final = {
    Entity.ORDER: order_pb2.TRANSITION_ENTITY_ORDER,
    Entity.FULFILMENT: order_pb2.TRANSITION_ENTITY_FULFILMENT,
}


def outcome(value: Outcome) -> outcome_pb2.Outcome.ValueType:
    """Returns an outcome as the contract has it."""
    return outcome_pb2.Outcome.ValueType(value.value)


def state_value(value: OrderState | None) -> order_pb2.OrderState.ValueType:
    """Returns a state as the contract has it; None is unspecified."""
    if value is None:
        return order_pb2.ORDER_STATE_UNSPECIFIED
    return order_pb2.OrderState.Value(f"ORDER_STATE_{value.value}")


def state(row: sa.Row[Any]) -> order_pb2.OrderState.ValueType:
    """Returns an order's state as the contract has it."""
    return state_value(OrderState(row.state))


def placed(row: sa.Row[Any]) -> pb.PlaceOrderResponse:
    """Returns the good answer to PlaceOrder."""
    response = pb.PlaceOrderResponse(
        outcome=outcome(Outcome.OK),
        order_id=row.order_id,
        person_id=row.person_id,
        order_state=state(row),
        amount_minor=row.amount_minor,
        currency=row.currency,
        missing_gifts=json.loads(row.missing_gifts),
    )
    response.expire_time.FromMilliseconds(row.expire_ms)
    return response


def fulfilment(row: sa.Row[Any]) -> order_pb2.FulfilmentState.ValueType:
    """Returns where an order's goods are as the contract has it."""
    return order_pb2.FulfilmentState.Value(f"FULFILMENT_STATE_{row.fulfilment_state}")


def refund(row: sa.Row[Any]) -> order_pb2.OrderRefund:
    """Returns one refund as a message."""
    message = order_pb2.OrderRefund(
        refund_id=row.refund_id,
        request_id=row.request_id,
        attempt_id=row.attempt_id,
        amount_minor=row.amount_minor,
        currency=row.currency,
        state=order_pb2.OrderRefundState.Value(f"ORDER_REFUND_STATE_{row.state}"),
        reason=row.reason,
        actor=row.actor,
        is_full=row.is_full,
        last_refusal=row.last_refusal,
    )
    message.create_time.FromMilliseconds(row.create_ms)
    if row.done_ms is not None:
        message.done_time.FromMilliseconds(row.done_ms)
    return message


def transition(row: sa.Row[Any]) -> order_pb2.Transition:
    """Returns one transition of an order or its goods as a message."""
    message = order_pb2.Transition(
        entity=_ENTITIES[Entity(row.entity)],
        entity_id=row.order_id,
        sequence=row.number,
        event=row.event,
        state_from=row.state_from,
        state_to=row.state_to,
        cause_kind=row.cause_kind,
        cause=row.cause,
        actor=row.actor,
        reason=row.reason,
        ledger_sequence=row.ledger_sequence,
    )
    message.time.FromMilliseconds(row.time_ms)
    return message


def full_order(connection: sa.Connection, row: sa.Row[Any]) -> order_pb2.Order:
    """Returns one order as a message, with all that belongs to it.

    Args:
        connection: A reader.
        row: The order.
    """
    asked: Sequence[sa.Row[Any]] = ()
    # Most orders have no fact at all, and no refund without one.
    if row.fact_count:
        asked = refunds.load_refunds(connection, row.order_id)
    return order(row, store.load_attempts(connection, row.order_id), asked)


def order(
    row: sa.Row[Any], attempts: Sequence[store.Attempt], asked: Sequence[sa.Row[Any]] = ()
) -> order_pb2.Order:
    """Returns one order as a message.

    Args:
        row: The order.
        attempts: Its attempts by number.
        asked: Its refunds, oldest first.
    """
    message = order_pb2.Order(
        order_id=row.order_id,
        account_id=row.account_id,
        person_id=row.person_id,
        sale_id=row.sale_id,
        state=state(row),
        is_overdue=row.is_overdue,
        is_cancel_asked=row.is_cancel_asked,
        is_retaken=row.is_retaken,
        amount_minor=row.amount_minor,
        currency=row.currency,
        ledger_sequence=row.ledger_sequence,
        parts=[order_pb2.OrderPart(**part) for part in json.loads(row.parts)],
        coupon_id=row.coupon_id,
        reduction_name=row.reduction_name,
        missing_gifts=json.loads(row.missing_gifts),
        fulfilment_state=fulfilment(row),
        refunds=[refund(each) for each in asked],
        refund_minor=sum(each.amount_minor for each in asked),
    )
    for shares in refunds.shares_of(asked):
        for part, share in zip(message.parts, shares, strict=True):
            part.refund_minor += share
    if row.close_reason:
        message.close_reason = order_pb2.CloseReason.Value(f"CLOSE_REASON_{row.close_reason}")
    for line in json.loads(row.lines):
        message.lines.add(**line, currency=row.currency)
    message.create_time.FromMilliseconds(row.create_ms)
    message.expire_time.FromMilliseconds(row.expire_ms)
    if row.settle_by_ms is not None:
        message.settle_by_time.FromMilliseconds(row.settle_by_ms)
    for attempt in attempts:
        shown = message.attempts.add(
            attempt_id=attempt.attempt_id, number=attempt.number, method=attempt.method
        )
        if attempt.state:
            shown.state = reservation_pb2.AttemptState.Value(f"ATTEMPT_STATE_{attempt.state}")
        shown.create_time.FromMilliseconds(attempt.create_ms)
    return message


def _is_of_person(person_id: str) -> sa.ColumnElement[bool]:
    """Says whether an order's account is a live person's; an order names its home person."""
    table, moved = schema.orders, schema.person_accounts
    is_moved = sa.exists().where(moved.c.account_id == table.c.account_id)
    accounts = sa.select(moved.c.account_id).where(moved.c.person_id == person_id)
    return sa.or_(
        table.c.account_id.in_(accounts), sa.and_(table.c.person_id == person_id, ~is_moved)
    )


def list_orders(connection: sa.Connection, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
    """Returns one page of orders, newest first."""
    table = schema.orders
    is_by_person = request.WhichOneof("owner") == "person_id"
    query = store.ORDERS.where(
        _is_of_person(request.person_id)
        if is_by_person
        else table.c.account_id == request.account_id
    )
    if request.page_token:
        last = store.load_order(connection, request.page_token)
        before = (0 if last is None else last.create_ms, request.page_token)
        key = sa.tuple_(table.c.create_ms, table.c.order_id)
        query = query.where(key < sa.tuple_(*map(sa.literal, before)))
    query = query.order_by(table.c.create_ms.desc(), table.c.order_id.desc())
    rows = connection.execute(query.limit(request.page_size + 1)).all()
    page = rows[: request.page_size]
    return pb.ListOrdersResponse(
        orders=[full_order(connection, row) for row in page],
        next_page_token=page[-1].order_id if len(rows) > len(page) else "",
    )
