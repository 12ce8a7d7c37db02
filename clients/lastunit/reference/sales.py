"""PutSale and SetSaleState: under which rules and when stock is offered.

Owns the life of sales. Must not look at units.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.state import UNPAID_STATES, Policy, Sale
from lastunit.reference.words import optional_millis, optional_value
from lastunit.stock.v1 import outcome_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger

__all__ = ["move_sale", "policy_of", "put_sale", "set_sale_state", "state_by_time"]

SALES_MAX: Final = 10_000
SCHEDULED: Final = sale_pb2.SALE_STATE_SCHEDULED
OPEN: Final = sale_pb2.SALE_STATE_OPEN
PAUSED: Final = sale_pb2.SALE_STATE_PAUSED
CLOSED: Final = sale_pb2.SALE_STATE_CLOSED
CANCELLED: Final = sale_pb2.SALE_STATE_CANCELLED
ARCHIVED: Final = sale_pb2.SALE_STATE_ARCHIVED

# From where an operator may move a sale to where.
MOVES: Final[dict[int, tuple[int, ...]]] = {
    SCHEDULED: (SCHEDULED, OPEN, PAUSED, CLOSED, CANCELLED),
    OPEN: (OPEN, PAUSED, CLOSED, CANCELLED),
    PAUSED: (SCHEDULED, OPEN, PAUSED, CLOSED, CANCELLED),
    CLOSED: (OPEN, CLOSED, CANCELLED, ARCHIVED),
    CANCELLED: (CANCELLED, ARCHIVED),
    ARCHIVED: (),
}
SPANS: Final = (
    "reservation_ttl",
    "settle_by",
    "retry_grace",
    "max_life",
    "expiry_brake_lag",
    "forget_after",
)


def policy_of(message: Any) -> Policy:
    """Reads a policy; an unset field takes its default."""
    given: dict[str, Any] = {}
    for span in SPANS:
        value = optional_millis(message, span)
        if value is not None:
            given[span] = value
    for limit in (
        "unpaid_reservations_per_person_max",
        "attempts_per_reservation_max",
        "low_level_percent",
    ):
        if message.HasField(limit):
            given[limit] = getattr(message, limit)
    return Policy(
        units_per_person_per_sku_max=message.units_per_person_per_sku_max,
        units_per_person_max=message.units_per_person_max,
        is_unverified_release_allowed=message.is_unverified_release_allowed,
        does_return_give_limit_back=message.does_return_give_limit_back,
        does_forget_while_open=message.does_forget_while_open,
        **given,
    )


def path_of_difference(name: str, first: Any, now: Any) -> str:
    """Returns the field that differs; of a policy the field in it."""
    if not isinstance(first, Policy):
        return name
    fields = (field.name for field in dataclasses.fields(Policy))
    return f"{name}.{next(f for f in fields if getattr(first, f) != getattr(now, f))}"


def state_by_time(state: int, opens: int | None, closes: int | None, now: int) -> int:
    """Returns the state that ledger time gives to a sale that is not over."""
    if state == SCHEDULED and (opens is None or opens <= now):
        state = OPEN
    if state in (OPEN, PAUSED) and closes is not None and closes <= now:
        state = CLOSED
    return state


def put_sale(ledger: Ledger, request: Any) -> Answer:
    """Makes a sale or changes its times and rules."""
    opens = optional_millis(request, "opens_time")
    closes = optional_millis(request, "closes_time")
    sale = ledger.sales.get(request.sale_id)
    state = ledger.sale_state(sale) if sale else SCHEDULED
    refusal = refuse_put(ledger, request, sale, opens, closes)
    if refusal:
        refusal.fields = {"sale_state": state} if sale else {}
        return refusal
    if sale is None:
        sale = Sale(request.sale_id, len(ledger.sales))
        ledger.sales[sale.sale_id] = sale
    state = state_by_time(state, opens, closes, ledger.now)
    if state == CLOSED and sale.state != CLOSED:
        sale.ended = ledger.now
    sale.state = state
    sale.opens = opens
    sale.closes = closes
    sale.policy = policy_of(request.policy)
    sale.revision += 1
    ledger.changed.update(dict.fromkeys(sale.skus.values()))
    ledger.record(
        "sale_defined",
        sale=sale,
        opens_time=opens,
        closes_time=closes,
        policy=sale.policy,
        revision=sale.revision,
        sale_state=state,
        expected_revision=optional_value(request, "expected_revision"),
    )
    return done(revision=sale.revision, sale_state=state)


def refuse_put(
    ledger: Ledger, request: Any, sale: Sale | None, opens: int | None, closes: int | None
) -> Answer | None:
    """Refuses a sale that is over, would never open, is one too many, or was changed meanwhile."""
    if sale and sale.state in (CANCELLED, ARCHIVED):
        return refused(outcome_pb2.OUTCOME_SALE_CLOSED)
    was_rolling = sale is not None and sale.policy.does_forget_while_open
    if was_rolling and not request.policy.does_forget_while_open:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="policy.does_forget_while_open")
    if closes is not None and opens is not None and closes <= opens:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="closes_time")
    if sale is None and len(ledger.sales) >= SALES_MAX:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="sales_max")
    expected = optional_value(request, "expected_revision")
    if expected is not None and expected != (sale.revision if sale else 0):
        return refused(outcome_pb2.OUTCOME_COUNTER_MISMATCH)
    return None


def set_sale_state(ledger: Ledger, request: Any) -> Answer:
    """Moves a sale to another state."""
    sale = ledger.sales.get(request.sale_id)
    if sale is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)
    state = ledger.sale_state(sale)
    refusal = refuse_move(ledger, sale, state, request.state)
    if refusal:
        refusal.fields = {"sale_state": state}
        return refusal
    move_sale(ledger, sale, request.state, state)
    return done(sale_state=sale.state)


def move_sale(ledger: Ledger, sale: Sale, state: int, state_from: int) -> None:
    """Moves a sale and records it."""
    if state in (CLOSED, CANCELLED) and state_from not in (CLOSED, CANCELLED):
        sale.ended = ledger.now
    sale.state = state
    ledger.record("sale_state_changed", sale=sale, sale_state_from=state_from, sale_state_to=state)


def refuse_move(ledger: Ledger, sale: Sale, state: int, target: int) -> Answer | None:
    """Refuses a move that is not in the table, or that time or live reservations undo."""
    if target not in MOVES[state]:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE)
    if target == OPEN and sale.has_forgotten:
        return refused(outcome_pb2.OUTCOME_SALE_CLOSED)
    if target == OPEN and sale.closes is not None and sale.closes <= ledger.now:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="closes_time")
    if target == SCHEDULED and (sale.opens is None or sale.opens <= ledger.now):
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="opens_time")
    is_live = any(reservation.state in UNPAID_STATES for reservation in sale.reservations)
    if target == ARCHIVED and is_live:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="live_reservations")
    return None
