"""When the provider is asked, how pauses grow, and how fast asks may come."""

from __future__ import annotations

import itertools
import random

import pytest

from lastunit.payment.schedule import Schedule, TokenBucket
from lastunit.payment.settings import PaymentSettings


def schedule(**changes: object) -> Schedule:
    """Returns a schedule with some settings changed."""
    # The class checks the names.
    return Schedule(PaymentSettings(**changes), random.Random(3))  # type: ignore[arg-type]


def asks(*, is_created: bool, scale: float = 1.0, count: int = 12) -> list[int]:
    """Returns the seconds at which an attempt with settle_by at 600 s is asked for."""
    made = schedule(time_scale=scale)
    now_ms, found = 0, []
    for _ in range(count):
        now_ms = made.next_ask_ms(
            start_ms=0,
            settle_by_ms=round(600_000 * scale),
            now_ms=now_ms,
            is_created=is_created,
        )
        found.append(now_ms)
    return found


def test_an_open_attempt_is_asked_for_at_the_stated_seconds() -> None:
    """60, 90, 120, 180, 300, 450 s after its start and then exactly at settle_by."""
    assert [each / 1000 for each in asks(is_created=True)[:7]] == [60, 90, 120, 180, 300, 450, 600]


def test_an_unanswered_create_is_asked_for_sooner() -> None:
    """2, 5, 10 and 30 s come before the rest."""
    found = [each / 1000 for each in asks(is_created=False)]

    assert found[:11] == [2, 5, 10, 30, 60, 90, 120, 180, 300, 450, 600]


def test_after_settle_by_asks_come_every_30_s_and_a_fifth() -> None:
    """The pause is 24 to 36 s and not always the same."""
    found = asks(is_created=True, count=100)[6:]
    pauses = [late - early for early, late in itertools.pairwise(found)]

    assert all(24_000 <= pause <= 36_000 for pause in pauses)
    assert len(set(pauses)) > 1


def test_one_factor_scales_every_span() -> None:
    """A 1:10 run asks at tenths."""
    assert [each // 10 for each in asks(is_created=False)[:11]] == (
        asks(is_created=False, scale=0.1)[:11]
    )


def test_retries_double_up_to_the_longest_pause() -> None:
    """0.1 s doubles to 30 s and stays there, for however many tries."""
    made = schedule()
    pauses = [made.retry_ms(try_count=each, now_ms=0) for each in (1, 2, 3, 9, 10, 10_000)]

    assert pauses == [100, 200, 400, 25_600, 30_000, 30_000]


def test_refused_refunds_are_tried_five_times_more() -> None:
    """1 min, 5 min, 30 min, 2 h, 12 h, then a human."""
    made = schedule()
    pauses = [made.refund_again_ms(refusal_count=each, now_ms=0) for each in range(1, 7)]

    assert pauses == [60_000, 300_000, 1_800_000, 7_200_000, 43_200_000, None]


def test_the_bucket_holds_one_second_and_fills_at_its_rate() -> None:
    """50 at once, then none, then one each 20 ms; time going back fills nothing."""
    bucket = TokenBucket(50, now_ms=0)

    assert [bucket.take(0, 80), bucket.take(0, 80)] == [50, 0]
    assert [bucket.take(19, 80), bucket.take(20, 80)] == [0, 1]
    assert bucket.take(5, 80) == 0
    assert bucket.take(10_000, 80) == 50


def test_the_bucket_says_when_to_come_back() -> None:
    """Empty, the next token of 50 a second is 20 ms away; at that time it is there."""
    bucket = TokenBucket(50, now_ms=0)
    bucket.take(0, 50)
    next_ms = bucket.next_ms(0)

    assert next_ms == 20
    assert bucket.take(next_ms, 1) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time_scale", 0),
        ("time_scale", 101),
        ("ask_again_seconds", 0.5),
        ("ask_jitter", 1),
        ("asks_per_second", 0),
        ("attempts_per_order_max", 0),
        ("attempts_per_order_max", 100),
        ("calls_at_once_max", 1_025),
        ("creates_at_once_max", 0),
        ("ask_offsets_seconds", (0,)),
        ("refund_retry_seconds", (86_401,)),
    ],
)
def test_settings_name_what_is_out_of_range(name: str, value: object) -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match=name):
        PaymentSettings(**{name: value})  # type: ignore[arg-type] # names are checked by the class
