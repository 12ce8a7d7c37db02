"""The table of orders: every state with every event."""

from __future__ import annotations

import pytest

from lastunit.order.states import (
    TRANSITIONS,
    IllegalTransitionError,
    OrderEvent,
    OrderState,
    is_reachable,
    next_state,
)

# One line for each event: the state it leads to from each of STATES, `-` where it has no place.
STATES = ("CREATED", "HELD", "PAYING", "PAID", "CLOSED", "REFUND_DUE", "REFUNDED", "RETURNED")
EXPECTED = """
RESERVED            HELD   -      -      -        -          -          -        -
REFUSED             CLOSED -      -      -        -          -          -        -
EXTENDED            -      HELD   -      -        -          -          -        -
PAYMENT_BEGUN       -      PAYING PAYING -        PAYING     -          -        -
ATTEMPT_CLOSED      -      -      PAYING PAID     -          REFUND_DUE REFUNDED RETURNED
LAST_ATTEMPT_CLOSED -      -      HELD   -        -          -          -        -
OVERDUE             -      -      PAYING -        -          -          -        -
CANCEL_ASKED        -      -      PAYING -        -          -          -        -
RELEASED            -      CLOSED CLOSED -        -          -          -        -
PAID                -      PAID   PAID   -        PAID       -          -        -
REFUND_DUE          -      -      -      -        REFUND_DUE -          -        -
PAID_TWICE          -      -      -      PAID     -          REFUND_DUE REFUNDED RETURNED
ATTEMPT_REFUNDED    -      -      -      PAID     -          REFUND_DUE REFUNDED RETURNED
REFUNDED            -      -      -      -        -          REFUNDED   -        -
PARTLY_RETURNED     -      -      -      PAID     -          -          -        -
RETURNED            -      -      -      RETURNED -          -          -        -
NEWS_IGNORED        -      HELD   PAYING PAID     CLOSED     REFUND_DUE REFUNDED RETURNED
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
        (OrderState.HELD, OrderState.CREATED, False),
    ],
)
def test_a_comparison_goes_only_where_the_table_has_a_way(
    source: OrderState, target: OrderState, expected: bool
) -> None:
    """Paid orders never fall back, whatever a comparison says."""
    assert expected is is_reachable(source, target)
