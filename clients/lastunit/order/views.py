"""Shows what the order service has, as messages of `lastunit.order.v1`.

Owns the mapping of rows to messages, and pages. Must not change anything.
Next: `lastunit.order.core`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.client.outcomes import Outcome
from lastunit.order import schema, store
from lastunit.order.states import OrderState
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.stock.v1 import outcome_pb2, reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["list_orders", "order", "outcome", "placed", "state", "state_value"]


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


def order(row: sa.Row[Any], attempts: Sequence[store.Attempt]) -> order_pb2.Order:
    """Returns one order as a message.

    Args:
        row: The order.
        attempts: Its attempts by number.
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
    )
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


def list_orders(connection: sa.Connection, request: pb.ListOrdersRequest) -> pb.ListOrdersResponse:
    """Returns one page of orders, newest first."""
    table = schema.orders
    is_by_person = request.WhichOneof("owner") == "person_id"
    owner = (
        table.c.person_id == request.person_id
        if is_by_person
        else table.c.account_id == request.account_id
    )
    query = store.ORDERS.where(owner)
    if request.page_token:
        last = store.load_order(connection, request.page_token)
        before = (0 if last is None else last.create_ms, request.page_token)
        key = sa.tuple_(table.c.create_ms, table.c.order_id)
        query = query.where(key < sa.tuple_(*map(sa.literal, before)))
    query = query.order_by(table.c.create_ms.desc(), table.c.order_id.desc())
    rows = connection.execute(query.limit(request.page_size + 1)).all()
    page = rows[: request.page_size]
    return pb.ListOrdersResponse(
        orders=[order(row, store.load_attempts(connection, row.order_id)) for row in page],
        next_page_token=page[-1].order_id if len(rows) > len(page) else "",
    )
