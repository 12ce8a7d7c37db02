"""The table of refunds: every state with every event."""

from __future__ import annotations

import pytest

from lastunit.payment.refund_states import (
    TABLE,
    RefundEffect,
    RefundEvent,
    RefundState,
    decide,
)

# One line for each state: state and duty after each event in the order of the enumeration: ? asks
# how far it is, ~ tries anew later, ^ repeats the call soon, > calls now, ! money is back, * is an
# alarm, . is ignored; = is the row's own state.
EXPECTED = """
INIT    PENDING? DONE! FAILED~ =^ =>
PENDING PENDING? DONE! FAILED~ =^ =>
DONE    =.       =.    =*      =. =.
FAILED  PENDING? DONE! FAILED~ =^ =>
"""
MARKS = {
    RefundEffect.ASK_LATER: "?",
    RefundEffect.TRY_LATER: "~",
    RefundEffect.CALL_AGAIN: "^",
    RefundEffect.CALL_NOW: ">",
    RefundEffect.SETTLE: "!",
    RefundEffect.ALARM: "*",
    RefundEffect.IGNORE: ".",
}
ROWS = {line.split()[0]: line.split()[1:] for line in EXPECTED.strip().splitlines()}


@pytest.mark.parametrize("state", RefundState)
@pytest.mark.parametrize("event", RefundEvent)
def test_every_event_in_every_state_is_decided_as_drawn(
    state: RefundState, event: RefundEvent
) -> None:
    """Each pair leads to the state and the duty of the drawn table."""
    expected = ROWS[state.value][tuple(RefundEvent).index(event)].replace("=", state.value)

    decision = decide(state, event)

    assert expected == decision.state.value + MARKS[decision.effect]


def test_the_table_is_complete() -> None:
    """No state and no event is missing, so `decide` never fails."""
    assert set(RefundState) == set(TABLE)
    assert all(set(RefundEvent) == set(row) for row in TABLE.values())


@pytest.mark.parametrize("state", RefundState)
def test_silence_neither_gives_money_back_nor_gives_up(state: RefundState) -> None:
    """Without an answer a refund stays as it is, and is called for again unless it is done."""
    decision = decide(state, RefundEvent.NO_ANSWER)

    assert decision.state is state
    assert (decision.effect is RefundEffect.CALL_AGAIN) == (state is not RefundState.DONE)
