"""The breaker of a provider: every state with every event, and the counting behind them."""

from __future__ import annotations

import pytest

from lastunit.payment.breaker import (
    TRANSITIONS,
    Breaker,
    BreakerEvent,
    BreakerLimits,
    BreakerState,
)

# One line for each state: the state after each event in the order of the enumeration; - is no move.
EXPECTED = """
CLOSED    OPEN OPEN -         -      -
OPEN      -    -    HALF_OPEN -      -
HALF_OPEN -    OPEN -         CLOSED OPEN
"""
LIMITS = BreakerLimits(rest_ms=30_000)


def breaker() -> Breaker:
    """Makes one that is closed at 0."""
    return Breaker(LIMITS, now_ms=0)


def opened() -> Breaker:
    """Makes one that opened at 0 by lost checks."""
    made = breaker()
    for _ in range(LIMITS.lost_check_count):
        made.note_check(is_answered=False, now_ms=0)
    return made


def test_every_state_with_every_event() -> None:
    """The table is what is written above, and nothing else."""
    wanted = {}
    for line in EXPECTED.split("\n"):
        if not line:
            continue
        state, *targets = line.split()
        for event, target in zip(BreakerEvent, targets, strict=True):
            if target != "-":
                wanted[BreakerState(state), event] = BreakerState(target)
    assert wanted == TRANSITIONS


def test_half_of_the_last_twenty_calls_open_it() -> None:
    """Nine errors do not, also when they are spread; the tenth does."""
    made = breaker()
    for _ in range(9):
        made.note_call(is_well=False, now_ms=1)
        made.note_call(is_well=True, now_ms=1)
    assert (made.state, made.error_count) == (BreakerState.CLOSED, 9)
    made.note_call(is_well=False, now_ms=2)
    assert (made.state, made.cause) == (BreakerState.OPEN, BreakerEvent.MANY_ERRORS)
    assert not made.take(3)


def test_old_errors_are_forgotten() -> None:
    """Nine errors, eleven good calls, and nine errors again: never ten of twenty."""
    made = breaker()
    for is_well in [False] * 9 + [True] * 11 + [False] * 9:
        made.note_call(is_well=is_well, now_ms=1)
    assert made.state is BreakerState.CLOSED


def test_three_lost_checks_in_a_row_open_it() -> None:
    """An answer in between starts the count anew."""
    made = breaker()
    for is_answered in (False, False, True, False, False):
        made.note_check(is_answered=is_answered, now_ms=1)
    assert made.state is BreakerState.CLOSED
    made.note_check(is_answered=False, now_ms=2)
    assert (made.state, made.cause) == (BreakerState.OPEN, BreakerEvent.CHECKS_LOST)


def test_after_its_rest_three_attempts_may_try_it() -> None:
    """Not before; then three and no more; all well closes it."""
    made = opened()
    assert not made.take(29_999)
    assert [made.take(30_000) for _ in range(4)] == [True, True, True, False]
    assert made.state is BreakerState.HALF_OPEN
    for _ in range(3):
        made.note_call(is_well=True, now_ms=30_001)
    assert made.state.value == "CLOSED"
    assert made.take(30_002)


@pytest.mark.parametrize("is_by_check", [False, True])
def test_one_bad_probe_opens_it_again(*, is_by_check: bool) -> None:
    """A failed attempt, or checks that are lost meanwhile; the rest begins anew."""
    made = opened()
    made.note_check(is_answered=True, now_ms=1)
    assert made.take(30_000)
    if is_by_check:
        for _ in range(3):
            made.note_check(is_answered=False, now_ms=30_001)
    else:
        made.note_call(is_well=False, now_ms=30_001)
    assert made.state is BreakerState.OPEN
    assert not made.take(60_000)
    assert made.take(60_001)


def test_probes_that_never_came_back_are_replaced() -> None:
    """Callers that went away must not keep a good provider out for ever."""
    made = opened()
    for _ in range(3):
        assert made.take(30_000)
    assert not made.take(59_999)
    assert made.take(60_000)


def test_an_answer_that_comes_late_changes_nothing() -> None:
    """A call of before ends well while the breaker rests: it stays open."""
    made = opened()
    for _ in range(20):
        made.note_call(is_well=True, now_ms=5)
    assert made.state is BreakerState.OPEN
