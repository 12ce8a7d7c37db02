"""Buckets: a burst, then a rate; what is refused is told when to come back."""

from __future__ import annotations

import pytest

from lastunit.account.gate import Bucket, BucketSettings
from lastunit.errors import ShedError


class Seconds:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Returns what was set."""
        return self.now


def make_bucket(seconds: Seconds, **settings: float) -> Bucket:
    """Returns a bucket whose refusals are not spread."""
    values = {"calls_per_second": 10.0, "burst_calls": 5, "at_once_max": 100, **settings}
    return Bucket(
        BucketSettings("sign_up", **values),  # type: ignore[arg-type]
        monotonic_seconds=seconds,
        chance=lambda: 0.0,
    )


def let_in(bucket: Bucket, calls: int) -> int:
    """Returns how many of some calls were let in."""
    count = 0
    for _ in range(calls):
        try:
            with bucket.entered():
                count += 1
        except ShedError:
            pass
    return count


def test_a_burst_is_let_in_and_not_one_call_more() -> None:
    """After a rest the bucket is full; one past it is refused with when to come back."""
    bucket = make_bucket(Seconds())

    assert let_in(bucket, 5) == 5
    with pytest.raises(ShedError, match="come back") as caught, bucket.entered():
        pass
    assert caught.value.retry_after_seconds == pytest.approx(0.1)
    assert (caught.value.lane, caught.value.bucket) == ("sign_up", "sign_up")
    assert (bucket.let_in_count, bucket.shed_count) == (5, 1)


def test_the_rate_holds_in_the_long_run() -> None:
    """Ten a second are let in, however often somebody knocks."""
    seconds = Seconds()
    bucket = make_bucket(seconds)
    let_in(bucket, 5)
    count = 0
    for _ in range(1_000):
        seconds.now += 0.01
        count += let_in(bucket, 3)

    assert count == 100


def test_coming_back_when_told_is_let_in() -> None:
    """What the refusal says holds."""
    seconds = Seconds()
    bucket = make_bucket(seconds)
    let_in(bucket, 5)
    with pytest.raises(ShedError) as caught, bucket.entered():
        pass
    assert caught.value.retry_after_seconds is not None
    seconds.now += caught.value.retry_after_seconds

    assert let_in(bucket, 2) == 1


def test_a_long_rest_saves_no_more_than_a_burst() -> None:
    """A night without a call does not let a flood in at dawn."""
    seconds = Seconds()
    bucket = make_bucket(seconds)
    seconds.now += 100_000.0

    assert let_in(bucket, 100) == 5


def test_calls_under_way_are_bounded_too() -> None:
    """A slow database does not let calls pile up; each end makes room for one."""
    bucket = make_bucket(Seconds(), burst_calls=100, at_once_max=2)
    with bucket.entered():
        with bucket.entered():
            assert let_in(bucket, 1) == 0
        assert let_in(bucket, 1) == 1


def test_a_call_that_fails_ends_too() -> None:
    """An error inside leaves the room free."""
    bucket = make_bucket(Seconds(), at_once_max=1)
    with pytest.raises(KeyError), bucket.entered():
        raise KeyError

    assert let_in(bucket, 1) == 1


def test_one_bucket_does_not_empty_another() -> None:
    """Who logs in is let in while sign-ups are refused."""
    seconds = Seconds()
    sign_up, login = make_bucket(seconds), make_bucket(seconds)
    let_in(sign_up, 1_000)

    assert let_in(login, 5) == 5


def test_those_who_are_refused_are_spread() -> None:
    """Two callers are not told the same moment."""
    chances = iter([0.0, 1.0])
    bucket = Bucket(
        BucketSettings("sign_up", 10.0, 1, 10),
        monotonic_seconds=lambda: 0.0,
        chance=chances.__next__,
    )
    let_in(bucket, 1)
    waits = []
    for _ in range(2):
        with pytest.raises(ShedError) as caught, bucket.entered():
            pass
        waits.append(caught.value.retry_after_seconds)

    assert waits == [pytest.approx(0.1), pytest.approx(0.15)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("calls_per_second", 0.09), ("calls_per_second", 100_001)),
        *(("burst_calls", 0), ("burst_calls", 1_000_001)),
        *(("at_once_max", 0), ("at_once_max", 30_001)),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: float) -> None:
    """The error says which setting of which bucket, and its range."""
    with pytest.raises(ValueError, match=f"sign_up {field} is"):
        make_bucket(Seconds(), **{field: value})
