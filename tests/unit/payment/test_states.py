"""The table of attempts: every state with every news."""

from __future__ import annotations

import pytest

from lastunit.payment.states import OPEN_STATES, TABLE, AttemptState, Effect, News, decide

# One line for each state: the state after each news, in the order of NEWS below; `.` is ignored,
# `!` tells the ledger, `?` keeps the provider being asked, `q` waits for a human; `=` is the row's
# own state.
NEWS = (
    News.CREATED,
    News.REFUSED,
    News.NO_ANSWER,
    News.PAID,
    News.PAID_DIFFERENTLY,
    News.FAILED,
    News.NOT_PAID,
    News.NOT_FOUND,
    News.CLOSE_ACKNOWLEDGED,
    News.CLOSE_REFUSED,
    News.REFUNDED,
)
EXPECTED = """
INIT        OPEN? FAILED! UNKNOWN? SUCCEEDED! QUARANTINEDq FAILED! OPEN? UNKNOWN? CANCELLED! =? =.
OPEN        =?    =.      =?       SUCCEEDED! QUARANTINEDq FAILED! =?    =?       CANCELLED! =? =.
UNKNOWN     OPEN? =?      =?       SUCCEEDED! QUARANTINEDq FAILED! OPEN? =?       CANCELLED! =? =.
SUCCEEDED   =.    =.      =.       =.         =.           =.      =.    =.       =.         =. =.
FAILED      =.    =.      =.       SUCCEEDED! QUARANTINEDq =.      =.    =.       =.         =. =.
CANCELLED   =.    =.      =.       SUCCEEDED! QUARANTINEDq =.      =.    =.       =.         =. =.
QUARANTINED =. =. =. =. =. =. =. =. =. =. CANCELLED!
"""
MARKS = {
    Effect.IGNORE: ".",
    Effect.KEEP_ASKING: "?",
    Effect.QUARANTINE: "q",
    Effect.SETTLE_SUCCEEDED: "!",
    Effect.SETTLE_FAILED: "!",
    Effect.SETTLE_CANCELLED: "!",
}
ROWS = {line.split()[0]: line.split()[1:] for line in EXPECTED.strip().splitlines()}


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("news", News)
def test_every_news_in_every_state_is_decided_as_drawn(state: AttemptState, news: News) -> None:
    """Each pair leads to the state and the duty of the drawn table."""
    expected = ROWS[state.value][NEWS.index(news)].replace("=", state.value)

    decision = decide(state, news)

    assert expected == decision.state.value + MARKS[decision.effect]


def test_the_table_is_complete() -> None:
    """No state and no news is missing, so `decide` never fails."""
    assert set(AttemptState) == set(TABLE)
    assert all(set(News) == set(row) for row in TABLE.values())


@pytest.mark.parametrize("state", sorted(OPEN_STATES))
def test_only_the_providers_word_ends_an_open_attempt(state: AttemptState) -> None:
    """Silence, a missing answer and a refused close leave money possible."""
    for news in (News.NO_ANSWER, News.NOT_PAID, News.NOT_FOUND, News.CLOSE_REFUSED):
        assert decide(state, news).state in OPEN_STATES


def test_results_told_to_the_ledger_match_the_state() -> None:
    """A settlement always says what the state says."""
    duties = {
        Effect.SETTLE_SUCCEEDED: AttemptState.SUCCEEDED,
        Effect.SETTLE_FAILED: AttemptState.FAILED,
        Effect.SETTLE_CANCELLED: AttemptState.CANCELLED,
    }
    for row in TABLE.values():
        for decision in row.values():
            assert duties.get(decision.effect, decision.state) is decision.state
