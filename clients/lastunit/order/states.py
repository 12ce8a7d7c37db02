"""The life of an order as one table of data.

Owns which event leads from which state to which; the core and the follower enforce it, the tests
go through every pair, and nothing else decides a state. Must not do I/O or read a clock.
Next: `lastunit.order.follower` turns the ledger's events into the events of this table.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "PAYABLE_STATES",
    "TRANSITIONS",
    "IllegalTransitionError",
    "OrderEvent",
    "OrderState",
    "is_reachable",
    "next_state",
]


class OrderState(StrEnum):
    """Where an order stands."""

    CREATED = "CREATED"
    """Asked for; nothing durable yet."""
    HELD = "HELD"
    """Units are held and nobody has started to pay."""
    PAYING = "PAYING"
    """At least one attempt is open; no clock ends this."""
    PAID = "PAID"
    CLOSED = "CLOSED"
    """Units are given back, or were never had; the close reason says why."""
    REFUND_DUE = "REFUND_DUE"
    """Money came for an order whose units are gone; it is owed back."""
    REFUNDED = "REFUNDED"
    RETURNED = "RETURNED"


class OrderEvent(StrEnum):
    """What the ledger said about the reservation of an order."""

    RESERVED = "RESERVED"
    REFUSED = "REFUSED"
    """The ledger refused to reserve."""
    EXTENDED = "EXTENDED"
    PAYMENT_BEGUN = "PAYMENT_BEGUN"
    """An attempt is open; from CLOSED it has re-taken units that were free."""
    ATTEMPT_CLOSED = "ATTEMPT_CLOSED"
    """An attempt failed or was cancelled while another one is open."""
    LAST_ATTEMPT_CLOSED = "LAST_ATTEMPT_CLOSED"
    """The last open attempt failed or was cancelled and the units stay held."""
    OVERDUE = "OVERDUE"
    CANCEL_ASKED = "CANCEL_ASKED"
    RELEASED = "RELEASED"
    PAID = "PAID"
    """The units are sold to this order, now or, from CLOSED, taken again."""
    REFUND_DUE = "REFUND_DUE"
    """Money came and no unit was left for it."""
    PAID_TWICE = "PAID_TWICE"
    """A further attempt succeeded; that attempt alone is owed back."""
    ATTEMPT_REFUNDED = "ATTEMPT_REFUNDED"
    """One attempt is refunded and the order stands as before."""
    REFUNDED = "REFUNDED"
    """Everything owed for this order is refunded."""
    PARTLY_RETURNED = "PARTLY_RETURNED"
    RETURNED = "RETURNED"
    NEWS_IGNORED = "NEWS_IGNORED"
    """News of lower rank than what is known; counted by the ledger."""


class IllegalTransitionError(ValueError):
    """The table has no row for this pair.

    Attributes:
        state: State the order is in.
        event: Event that has no place there.
    """

    def __init__(self, state: OrderState, event: OrderEvent) -> None:
        super().__init__(f"no order in state {state} can see {event}; compare it with the ledger")
        self.state = state
        self.event = event


_S = OrderState
_E = OrderEvent

TRANSITIONS: Final[Mapping[tuple[OrderState, OrderEvent], OrderState]] = {
    (_S.CREATED, _E.RESERVED): _S.HELD,
    (_S.CREATED, _E.REFUSED): _S.CLOSED,
    (_S.HELD, _E.EXTENDED): _S.HELD,
    (_S.HELD, _E.PAYMENT_BEGUN): _S.PAYING,
    (_S.HELD, _E.RELEASED): _S.CLOSED,
    # Money for an attempt that the ledger was never told of, or a sale without a payment step.
    (_S.HELD, _E.PAID): _S.PAID,
    (_S.HELD, _E.NEWS_IGNORED): _S.HELD,
    (_S.PAYING, _E.PAYMENT_BEGUN): _S.PAYING,
    (_S.PAYING, _E.ATTEMPT_CLOSED): _S.PAYING,
    (_S.PAYING, _E.LAST_ATTEMPT_CLOSED): _S.HELD,
    (_S.PAYING, _E.OVERDUE): _S.PAYING,
    (_S.PAYING, _E.CANCEL_ASKED): _S.PAYING,
    (_S.PAYING, _E.RELEASED): _S.CLOSED,
    (_S.PAYING, _E.PAID): _S.PAID,
    (_S.PAYING, _E.NEWS_IGNORED): _S.PAYING,
    (_S.CLOSED, _E.PAYMENT_BEGUN): _S.PAYING,
    (_S.CLOSED, _E.PAID): _S.PAID,
    (_S.CLOSED, _E.REFUND_DUE): _S.REFUND_DUE,
    (_S.CLOSED, _E.NEWS_IGNORED): _S.CLOSED,
    (_S.PAID, _E.PAID_TWICE): _S.PAID,
    # The other attempts of a paid order are closed at the provider after the fact.
    (_S.PAID, _E.ATTEMPT_CLOSED): _S.PAID,
    (_S.PAID, _E.ATTEMPT_REFUNDED): _S.PAID,
    (_S.PAID, _E.PARTLY_RETURNED): _S.PAID,
    (_S.PAID, _E.RETURNED): _S.RETURNED,
    (_S.PAID, _E.NEWS_IGNORED): _S.PAID,
    (_S.REFUND_DUE, _E.PAID_TWICE): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.ATTEMPT_CLOSED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.ATTEMPT_REFUNDED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.REFUNDED): _S.REFUNDED,
    (_S.REFUND_DUE, _E.NEWS_IGNORED): _S.REFUND_DUE,
    (_S.REFUNDED, _E.PAID_TWICE): _S.REFUNDED,
    (_S.REFUNDED, _E.ATTEMPT_CLOSED): _S.REFUNDED,
    (_S.REFUNDED, _E.ATTEMPT_REFUNDED): _S.REFUNDED,
    (_S.REFUNDED, _E.NEWS_IGNORED): _S.REFUNDED,
    (_S.RETURNED, _E.PAID_TWICE): _S.RETURNED,
    (_S.RETURNED, _E.ATTEMPT_CLOSED): _S.RETURNED,
    (_S.RETURNED, _E.ATTEMPT_REFUNDED): _S.RETURNED,
    (_S.RETURNED, _E.NEWS_IGNORED): _S.RETURNED,
}
"""The only legal moves; any other pair changes nothing, is counted, and is compared."""

PAYABLE_STATES: Final = frozenset({_S.HELD, _S.PAYING, _S.CLOSED})
"""States in which a new attempt is passed on to the ledger, which has the last word. From CLOSED
it takes the units again if they are free, or refuses before any money moves."""


def next_state(state: OrderState, event: OrderEvent) -> OrderState:
    """Returns where an event leads.

    Args:
        state: State the order is in.
        event: What the ledger said.

    Raises:
        IllegalTransitionError: The table has no such row.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(state, event) from None


def is_reachable(source: OrderState, target: OrderState) -> bool:
    """Tells whether some path of the table leads from one state to another.

    Used when an order is compared with the ledger after events were missed: what the ledger says
    is believed only where the table has a way to it.
    """
    seen = {source}
    frontier = [source]
    while frontier:
        state = frontier.pop()
        for (origin, _), target_state in TRANSITIONS.items():
            if origin is state and target_state not in seen:
                seen.add(target_state)
                frontier.append(target_state)
    return target in seen
