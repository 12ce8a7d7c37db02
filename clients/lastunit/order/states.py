"""The lives of an order and of its goods, each as one table of data.

Owns which event leads from which state to which; the core and the follower enforce it, the tests
go through every pair, `tools/states_page.py` draws them, and nothing else decides a state. Must not
do I/O or read a clock.
Next: `lastunit.order.translation` turns the ledger's events into the events of this table,
`lastunit.order.facts` has those that only this service knows.

The state of an order is that of its stock and money. Where its goods are is a machine of its own
beside it, so that a parcel on its way and a refund never wait for one another.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FULFILMENT_TRANSITIONS",
    "OWN_EVENTS",
    "PAYABLE_STATES",
    "TRANSITIONS",
    "FulfilmentEvent",
    "FulfilmentState",
    "IllegalTransitionError",
    "OrderEvent",
    "OrderState",
    "is_reachable",
    "next_fulfilment_state",
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
    """Its units are sold to it."""
    CLOSED = "CLOSED"
    """Units are given back, or were never had; the close reason says why. Late money leads on."""
    REFUND_DUE = "REFUND_DUE"
    """All its money is owed back: it came for units that are gone, or was asked back in full."""
    REFUNDED = "REFUNDED"
    """All its money went back. Terminal."""
    RETURNED = "RETURNED"
    """Every unit came back. Only a refund leads on."""


class OrderEvent(StrEnum):
    """What the ledger said about the reservation of an order, or what was asked of us."""

    RESERVED = "RESERVED"
    """The ledger holds the units."""
    REFUSED = "REFUSED"
    """The ledger refused to reserve."""
    EXTENDED = "EXTENDED"
    """The units are held for longer."""
    PAYMENT_BEGUN = "PAYMENT_BEGUN"
    """An attempt is open; from CLOSED it has re-taken units that were free."""
    ATTEMPT_CLOSED = "ATTEMPT_CLOSED"
    """An attempt failed or was cancelled while another one is open."""
    LAST_ATTEMPT_CLOSED = "LAST_ATTEMPT_CLOSED"
    """The last open attempt failed or was cancelled and the units stay held."""
    OVERDUE = "OVERDUE"
    """A payment is open past the time it should have settled by; the units are kept."""
    CANCEL_ASKED = "CANCEL_ASKED"
    """The buyer cancelled while a payment was open; its provider is asked to close it."""
    RELEASED = "RELEASED"
    """The units went back."""
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
    """Some units came back."""
    RETURNED = "RETURNED"
    """The last of its units came back."""
    NEWS_IGNORED = "NEWS_IGNORED"
    """News of lower rank than what is known, such as a failure after a success: noted only."""
    PART_REFUND_ASKED = "PART_REFUND_ASKED"
    """Some of its money is to go back. Of this service, not of the ledger."""
    PART_REFUND_DONE = "PART_REFUND_DONE"
    """Some of its money went back and some is still to go or to stay. Of this service."""
    FULL_REFUND_ASKED = "FULL_REFUND_ASKED"
    """What is left of its money is to go back. Of this service."""
    FULL_REFUND_DONE = "FULL_REFUND_DONE"
    """The last of its money went back. Of this service."""


class FulfilmentState(StrEnum):
    """Where the goods of an order are."""

    UNSHIPPED = "UNSHIPPED"
    """They have not left."""
    SHIPPED = "SHIPPED"
    """They are on their way."""
    DELIVERED = "DELIVERED"
    """The carrier handed them over."""


class FulfilmentEvent(StrEnum):
    """What was told of the goods of an order."""

    SHIP = "SHIP"
    """The carrier took them; only for an order that is PAID."""
    DELIVER = "DELIVER"
    """The carrier handed them over."""
    RETURN = "RETURN"
    """Some of them came back; the ledger then says how many are left."""


class IllegalTransitionError(ValueError):
    """The table has no row for this pair.

    Attributes:
        state: State the order, or its goods, are in.
        event: Event that has no place there.
    """

    def __init__(
        self, state: OrderState | FulfilmentState, event: OrderEvent | FulfilmentEvent
    ) -> None:
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
    # A late no for an order that was closed without its provider's word, or with it.
    (_S.CLOSED, _E.ATTEMPT_CLOSED): _S.CLOSED,
    (_S.CLOSED, _E.NEWS_IGNORED): _S.CLOSED,
    (_S.PAID, _E.PAID_TWICE): _S.PAID,
    # The other attempts of a paid order are closed at the provider after the fact.
    (_S.PAID, _E.ATTEMPT_CLOSED): _S.PAID,
    (_S.PAID, _E.ATTEMPT_REFUNDED): _S.PAID,
    (_S.PAID, _E.PARTLY_RETURNED): _S.PAID,
    (_S.PAID, _E.RETURNED): _S.RETURNED,
    (_S.PAID, _E.NEWS_IGNORED): _S.PAID,
    (_S.PAID, _E.PART_REFUND_ASKED): _S.PAID,
    (_S.PAID, _E.PART_REFUND_DONE): _S.PAID,
    (_S.PAID, _E.FULL_REFUND_ASKED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.PAID_TWICE): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.ATTEMPT_CLOSED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.ATTEMPT_REFUNDED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.REFUNDED): _S.REFUNDED,
    (_S.REFUND_DUE, _E.NEWS_IGNORED): _S.REFUND_DUE,
    # The goods come back before, while or after the money goes.
    (_S.REFUND_DUE, _E.PARTLY_RETURNED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.RETURNED): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.PART_REFUND_DONE): _S.REFUND_DUE,
    (_S.REFUND_DUE, _E.FULL_REFUND_DONE): _S.REFUNDED,
    (_S.REFUNDED, _E.PAID_TWICE): _S.REFUNDED,
    (_S.REFUNDED, _E.ATTEMPT_CLOSED): _S.REFUNDED,
    (_S.REFUNDED, _E.ATTEMPT_REFUNDED): _S.REFUNDED,
    (_S.REFUNDED, _E.NEWS_IGNORED): _S.REFUNDED,
    (_S.REFUNDED, _E.PARTLY_RETURNED): _S.REFUNDED,
    (_S.REFUNDED, _E.RETURNED): _S.REFUNDED,
    (_S.RETURNED, _E.PAID_TWICE): _S.RETURNED,
    (_S.RETURNED, _E.ATTEMPT_CLOSED): _S.RETURNED,
    (_S.RETURNED, _E.ATTEMPT_REFUNDED): _S.RETURNED,
    (_S.RETURNED, _E.NEWS_IGNORED): _S.RETURNED,
    (_S.RETURNED, _E.PART_REFUND_ASKED): _S.RETURNED,
    (_S.RETURNED, _E.PART_REFUND_DONE): _S.RETURNED,
    (_S.RETURNED, _E.FULL_REFUND_ASKED): _S.REFUND_DUE,
}
"""The only legal moves; any other pair changes nothing, is counted, and is compared."""

OWN_EVENTS: Final = frozenset(
    {
        _E.PART_REFUND_ASKED,
        _E.PART_REFUND_DONE,
        _E.FULL_REFUND_ASKED,
        _E.FULL_REFUND_DONE,
    }
)
"""What only this service knows; the ledger's word on a reservation never stands for one of these.
"""

_F = FulfilmentState
_G = FulfilmentEvent

FULFILMENT_TRANSITIONS: Final[Mapping[tuple[FulfilmentState, FulfilmentEvent], FulfilmentState]] = {
    (_F.UNSHIPPED, _G.SHIP): _F.SHIPPED,
    (_F.SHIPPED, _G.DELIVER): _F.DELIVERED,
    # A parcel that was refused at the door comes back without having been delivered.
    (_F.SHIPPED, _G.RETURN): _F.SHIPPED,
    (_F.DELIVERED, _G.RETURN): _F.DELIVERED,
}
"""The only legal moves of the goods; any other pair is refused as WRONG_STATE."""

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


def next_fulfilment_state(state: FulfilmentState, event: FulfilmentEvent) -> FulfilmentState:
    """Returns where an event leads the goods.

    Args:
        state: Where they are.
        event: What was told.

    Raises:
        IllegalTransitionError: The table has no such row.
    """
    try:
        return FULFILMENT_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransitionError(state, event) from None


def is_reachable(source: OrderState, target: OrderState) -> bool:
    """Tells whether some path of the ledger's events leads from one state to another.

    Used when an order is compared with the ledger after events were missed: what the ledger says
    is believed only where the table has a way to it.
    """
    seen = {source}
    frontier = [source]
    while frontier:
        state = frontier.pop()
        for (origin, event), target_state in TRANSITIONS.items():
            if event in OWN_EVENTS:
                continue
            if origin is state and target_state not in seen:
                seen.add(target_state)
                frontier.append(target_state)
    return target in seen
