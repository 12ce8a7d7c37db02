"""Lets sign-ups and logins in, each from a bucket of its own.

Owns how many calls of each kind may begin and be under way. Must not know what they do.
Next: docs/operating/accounts-privacy.md for the settings.

A flood of newcomers empties the bucket of sign-ups and nothing else: those who have an account log
in from another bucket, and ResolvePerson, which settlement and orders need, passes by both.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastunit.errors import ShedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Bucket", "BucketSettings"]

RATE_MAX: Final = 100_000.0
BURST_MAX: Final = 1_000_000
AT_ONCE_MAX: Final = 30_000

# All come back at once if all are told the same.
_SPREAD_MAX: Final = 1.5
# While calls are under way nobody knows when one ends.
_BUSY_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Says how much one bucket lets in.

    Attributes:
        name: In errors and metrics, such as `sign_up`.
        calls_per_second: 0.1 to 100,000 in the long run.
        burst_calls: 1 to 1,000,000 at once after a rest.
        at_once_max: Calls under way together, 1 to 30,000.
    """

    name: str
    calls_per_second: float
    burst_calls: int
    at_once_max: int

    def __post_init__(self) -> None:
        """Checks every range and names the setting that is outside of it."""
        self._check("calls_per_second", self.calls_per_second, 0.1, RATE_MAX)
        self._check("burst_calls", self.burst_calls, 1, BURST_MAX)
        self._check("at_once_max", self.at_once_max, 1, AT_ONCE_MAX)

    def _check(self, field: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"{self.name} {field} is {value}; it must be {least} to {most}")


class Bucket:
    """Is a token bucket with a bound on what is under way.

    Args:
        settings: How much it lets in.
        monotonic_seconds: Tells the time.
        chance: Gives numbers from 0 to below 1, to spread those who are told to come back.

    Attributes:
        name: As in the settings.
        let_in_count: Calls let in; one that counts as many counts as one here.
        shed_count: Calls refused.
    """

    def __init__(
        self,
        settings: BucketSettings,
        *,
        monotonic_seconds: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = settings.name
        self._settings = settings
        self._monotonic_seconds = monotonic_seconds
        self._chance = chance
        # When the bucket would be full again, if nobody came: one number is the whole state.
        # Source: the generic cell rate algorithm, ITU-T I.371.
        self._full_at = monotonic_seconds()
        self._under_way = 0
        self.let_in_count = 0
        self.shed_count = 0

    @contextlib.contextmanager
    def entered(self, calls: int = 1) -> Iterator[None]:
        """Lets a call in for as long as it lasts.

        Args:
            calls: As how many it counts, 1 or more; more than a burst count as a burst.

        Raises:
            ShedError: Too many came; nothing was done.
        """
        self._take(calls)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def _take(self, calls: int) -> None:
        settings = self._settings
        if self._under_way >= settings.at_once_max:
            raise self._shed(_BUSY_SECONDS, "too many such calls are under way")
        now = self._monotonic_seconds()
        interval = 1.0 / settings.calls_per_second
        full_at = max(self._full_at, now) + interval * min(calls, settings.burst_calls)
        wait = full_at - now - interval * settings.burst_calls
        # Sums of tenths are not exact; a millionth of an interval is no call.
        if wait > interval * 1e-6:
            raise self._shed(wait, "too many such calls came")
        self._full_at = full_at
        self.let_in_count += 1

    def _shed(self, wait_seconds: float, why: str) -> ShedError:
        self.shed_count += 1
        spread = 1.0 + (_SPREAD_MAX - 1.0) * self._chance()
        name = self._settings.name
        return ShedError(
            f"{why}; come back later",
            retry_after_seconds=wait_seconds * spread,
            lane=name,
            bucket=name,
            reason="SHED",
            metadata={"lane": name, "bucket": name},
        )
