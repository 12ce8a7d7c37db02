"""The table of orders: every state with every event."""

from __future__ import annotations

import pytest
from tools import states_page

from lastunit.order.states import (
    TRANSITIONS,
    FulfilmentEvent,
    FulfilmentState,
    IllegalTransitionError,
    OrderEvent,
    OrderState,
    is_reachable,
    next_fulfilment_state,
    next_state,
)

# One line for each event: the state it leads to from each of STATES, `-` where it has no place.
STATES = ("CREATED", "HELD", "PAYING", "PAID", "CLOSED", "REFUND_DUE", "REFUNDED", "RETURNED")
EXPECTED = """
RESERVED            HELD   -      -      -          -          -          -        -
REFUSED             CLOSED -      -      -          -          -          -        -
EXTENDED            -      HELD   -      -          -          -          -        -
PAYMENT_BEGUN       -      PAYING PAYING -          PAYING     -          -        -
ATTEMPT_CLOSED      -      -      PAYING PAID       CLOSED     REFUND_DUE REFUNDED RETURNED
LAST_ATTEMPT_CLOSED -      -      HELD   -          -          -          -        -
OVERDUE             -      -      PAYING -          -          -          -        -
CANCEL_ASKED        -      -      PAYING -          -          -          -        -
RELEASED            -      CLOSED CLOSED -          -          -          -        -
PAID                -      PAID   PAID   -          PAID       -          -        -
REFUND_DUE          -      -      -      -          REFUND_DUE -          -        -
PAID_TWICE          -      -      -      PAID       -          REFUND_DUE REFUNDED RETURNED
ATTEMPT_REFUNDED    -      -      -      PAID       -          REFUND_DUE REFUNDED RETURNED
REFUNDED            -      -      -      -          -          REFUNDED   -        -
PARTLY_RETURNED     -      -      -      PAID       -          REFUND_DUE REFUNDED -
RETURNED            -      -      -      RETURNED   -          REFUND_DUE REFUNDED -
NEWS_IGNORED        -      HELD   PAYING PAID       CLOSED     REFUND_DUE REFUNDED RETURNED
PART_REFUND_ASKED   -      -      -      PAID       -          -          -        RETURNED
PART_REFUND_DONE    -      -      -      PAID       -          REFUND_DUE -        RETURNED
FULL_REFUND_ASKED   -      -      -      REFUND_DUE -          -          -        REFUND_DUE
FULL_REFUND_DONE    -      -      -      -          -          REFUNDED   -        -
"""
ROWS = {line.split()[0]: line.split()[1:] for line in EXPECTED.strip().splitlines()}


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("event", OrderEvent)
def test_every_event_in_every_state_leads_where_it_is_drawn(
    state: OrderState, event: OrderEvent
) -> None:
    """Each pair has the drawn target, or is refused with both named."""
    expected = ROWS[event.value][STATES.index(state.value)]
    if expected == "-":
        with pytest.raises(IllegalTransitionError, match=f"{state} can see {event}"):
            next_state(state, event)
    else:
        assert OrderState(expected) is next_state(state, event)


GOODS = """
SHIP    SHIPPED -         -
DELIVER -       DELIVERED -
RETURN  -       SHIPPED   DELIVERED
"""
GOODS_STATES = ("UNSHIPPED", "SHIPPED", "DELIVERED")
GOODS_ROWS = {line.split()[0]: line.split()[1:] for line in GOODS.strip().splitlines()}


@pytest.mark.parametrize("state", FulfilmentState)
@pytest.mark.parametrize("event", FulfilmentEvent)
def test_every_event_of_the_goods_leads_where_it_is_drawn(
    state: FulfilmentState, event: FulfilmentEvent
) -> None:
    """Each pair has the drawn target, or is refused with both named."""
    expected = GOODS_ROWS[event.value][GOODS_STATES.index(state.value)]
    if expected == "-":
        with pytest.raises(IllegalTransitionError, match=f"{state} can see {event}"):
            next_fulfilment_state(state, event)
    else:
        assert FulfilmentState(expected) is next_fulfilment_state(state, event)


def test_money_that_is_going_back_never_makes_an_order_payable_or_paid_again() -> None:
    """From REFUND_DUE and REFUNDED no event leads to any state but these two."""
    going_back = {OrderState.REFUND_DUE, OrderState.REFUNDED}
    targets = {target for (state, _), target in TRANSITIONS.items() if state in going_back}

    assert going_back == targets


@pytest.mark.parametrize("page", states_page.PAGES, ids=lambda page: page.name)
def test_the_page_is_drawn_from_the_tables(page: states_page.Page) -> None:
    """docs/reference shows what the code enforces, and every member says what it means."""
    assert page.path.read_text() == states_page.text(page)


def test_no_timer_ends_an_order_that_is_paying() -> None:
    """OVERDUE keeps it PAYING; only the provider's word or the ledger's release leaves it."""
    leaving = {
        event
        for (state, event), target in TRANSITIONS.items()
        if state is OrderState.PAYING and target is not OrderState.PAYING
    }

    assert {OrderEvent.LAST_ATTEMPT_CLOSED, OrderEvent.RELEASED, OrderEvent.PAID} == leaving


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (OrderState.HELD, OrderState.REFUNDED, True),
        (OrderState.CLOSED, OrderState.PAID, True),
        (OrderState.PAID, OrderState.PAID, True),
        (OrderState.PAID, OrderState.HELD, False),
        (OrderState.PAID, OrderState.CLOSED, False),
        (OrderState.REFUNDED, OrderState.PAID, False),
        # What only this service knows is no way of the ledger's.
        (OrderState.PAID, OrderState.REFUND_DUE, False),
        (OrderState.HELD, OrderState.CREATED, False),
    ],
)
def test_a_comparison_goes_only_where_the_table_has_a_way(
    source: OrderState, target: OrderState, expected: bool
) -> None:
    """Paid orders never fall back, whatever a comparison says."""
    assert expected is is_reachable(source, target)
