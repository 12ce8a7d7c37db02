"""When to try again, as a table."""

from __future__ import annotations

import random

import pytest

from lastunit.client._retry import BACKOFF_SECONDS_MAX, backoff_seconds


@pytest.mark.parametrize(
    ("failure_count", "at_least", "at_most"),
    [(1, 0.025, 0.05), (2, 0.05, 0.1), (3, 0.1, 0.2), (5, 0.4, 0.8), (60, 0.4, 0.8)],
)
def test_pauses_double_up_to_a_bound(failure_count: int, at_least: float, at_most: float) -> None:
    """Half of each pause is fixed, half is spread."""
    pauses = [
        backoff_seconds(failure_count, pushback_seconds=None, jitter=random.Random(seed))
        for seed in range(200)
    ]

    assert all(pause is not None and at_least <= pause <= at_most for pause in pauses)
    assert len(set(pauses)) > 100
    assert at_most <= BACKOFF_SECONDS_MAX


def test_a_pushback_is_obeyed_to_the_letter() -> None:
    """What the server asks for replaces the back-off."""
    assert backoff_seconds(1, pushback_seconds=3.0, jitter=random.Random(1)) == 3.0
    assert backoff_seconds(9, pushback_seconds=0.0, jitter=random.Random(1)) == 0.0


def test_a_negative_pushback_means_never() -> None:
    """A server can forbid retries."""
    assert backoff_seconds(1, pushback_seconds=-0.001, jitter=random.Random(1)) is None


def test_a_first_try_has_no_pause() -> None:
    """Asking for a pause without a failure is a mistake of the caller."""
    with pytest.raises(ValueError, match="failure_count"):
        backoff_seconds(0, pushback_seconds=None, jitter=random.Random(1))
