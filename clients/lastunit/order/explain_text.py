"""Prints the explanation of an order: `lastunit order explain`.

Owns the form only, one line a move. Must not ask anybody. Next: `lastunit.order.explaining`.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from lastunit.order.v1 import order_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from lastunit.order.v1 import order_service_pb2 as pb

__all__ = ["explanation_text"]

_ENTITY_PREFIX: Final = "TRANSITION_ENTITY_"
_STATE_PREFIX: Final = "ORDER_STATE_"
_FULFILMENT_PREFIX: Final = "FULFILMENT_STATE_"
_REFUND_PREFIX: Final = "ORDER_REFUND_STATE_"


def explanation_text(explained: pb.ExplainResponse) -> str:
    """Returns the explanation as a page of text."""
    order = explained.order
    lines = [
        *_head(order),
        "",
        *_price(order),
        "",
        *_table([_columns(move) for move in explained.transitions]),
    ]
    if explained.missing:
        lines += ["", *(f"missing: {each}" for each in explained.missing)]
    return "\n".join(lines)


def _head(order: order_pb2.Order) -> Iterator[str]:
    state = order_pb2.OrderState.Name(order.state).removeprefix(_STATE_PREFIX)
    goods = order_pb2.FulfilmentState.Name(order.fulfilment_state)
    flags = {
        "overdue": order.is_overdue,
        "cancel asked": order.is_cancel_asked,
        "taken again": order.is_retaken,
    }
    if order.close_reason:
        name = order_pb2.CloseReason.Name(order.close_reason)
        state += f" ({name.removeprefix('CLOSE_REASON_')})"
    yield f"order    {order.order_id}, sale {order.sale_id}"
    yield f"buyer    account {order.account_id}, person {order.person_id}"
    marks = [flag for flag, is_on in flags.items() if is_on]
    yield f"stands   {', '.join([state, goods.removeprefix(_FULFILMENT_PREFIX), *marks])}"


def _price(order: order_pb2.Order) -> Iterator[str]:
    yield f"price    {order.amount_minor} {order.currency}, in the currency's smallest unit"
    if order.coupon_id:
        yield f"coupon   {order.coupon_id}"
    if order.reduction_name:
        yield f"reduced  {order.reduction_name}"
    for part in order.parts:
        off = part.reduction_minor + part.coupon_minor
        told = f"{part.units} x {part.sku} of {part.pool}, {part.unit_amount_minor} each"
        back = f", back {part.refund_minor}" if part.refund_minor else ""
        yield f"part     {told}, off {off}, paid {part.amount_minor}{back}"
    for gift in order.missing_gifts:
        yield f"no gift  {gift}"
    for refund in order.refunds:
        state = order_pb2.OrderRefundState.Name(refund.state).removeprefix(_REFUND_PREFIX)
        why = f", refused: {refund.last_refusal}" if refund.last_refusal else ""
        yield f"refund   {refund.amount_minor} {state}{why}, by {refund.actor}: {refund.reason}"


def _columns(move: order_pb2.Transition) -> tuple[str, ...]:
    entity = order_pb2.TransitionEntity.Name(move.entity).removeprefix(_ENTITY_PREFIX).lower()
    moved = f"{move.state_from or '-'} > {move.state_to or '-'}"
    return (
        _instant(move.time),
        entity,
        move.event,
        moved if move.state_from != move.state_to else move.state_to,
        f"{move.cause_kind} {move.cause}".strip(),
        move.actor,
        move.reason,
    )


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Returns lines whose columns stand below each other; the last may be as long as it is."""
    heads = ("time", "what", "event", "state", "cause", "actor", "why")
    every = [heads, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(heads))]
    for row in every:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _instant(time: Timestamp) -> str:
    moment = dt.datetime.fromtimestamp(time.ToMilliseconds() / 1_000, tz=dt.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
