"""When to ask, when to try again, and how fast at most: time as plain arithmetic.

Owns the ask schedule, the back-off and the token bucket. Must not read a clock or sleep.
Next: `lastunit.payment.reconciler`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from lastunit.payment.settings import PaymentSettings

__all__ = ["Schedule", "TokenBucket"]


class Schedule:
    """Computes instants from the settings.

    Args:
        settings: The spans and their scale.
        random: Spreads the asks after `settle_by`, so that they do not come in waves.
    """

    def __init__(self, settings: PaymentSettings, random: random.Random) -> None:
        self._settings = settings
        self._random = random
        self._ask_offsets_ms = [self._ms(each) for each in settings.ask_offsets_seconds]
        unknown = (*settings.unknown_offsets_seconds, *settings.ask_offsets_seconds)
        self._unknown_offsets_ms = sorted({self._ms(each) for each in unknown})

    def next_ask_ms(
        self, *, start_ms: int, settle_by_ms: int, now_ms: int, is_created: bool
    ) -> int:
        """Returns when to ask next, later than now.

        Args:
            start_ms: When the attempt was started, milliseconds since the epoch.
            settle_by_ms: When the ledger calls it overdue; asked for exactly then.
            now_ms: The time.
            is_created: False while the create call has had no answer.
        """
        offsets = self._ask_offsets_ms if is_created else self._unknown_offsets_ms
        for offset_ms in offsets:
            if now_ms < start_ms + offset_ms < settle_by_ms:
                return start_ms + offset_ms
        if now_ms < settle_by_ms:
            return settle_by_ms
        return self.ask_again_ms(now_ms)

    def ask_again_ms(self, now_ms: int) -> int:
        """Returns when to ask again after `settle_by` or an outage, spread by chance."""
        jitter = self._settings.ask_jitter
        spread = 1 + self._random.uniform(-jitter, jitter)
        return now_ms + max(1, round(self._ms(self._settings.ask_again_seconds) * spread))

    def close_again_ms(self, *, start_ms: int, now_ms: int) -> int:
        """Returns when to close again after a refusal: once it is old enough, else as asks."""
        old_enough_ms = start_ms + self._ms(self._settings.close_age_seconds)
        return old_enough_ms if now_ms < old_enough_ms else self.ask_again_ms(now_ms)

    def retry_ms(self, *, try_count: int, now_ms: int) -> int:
        """Returns when to call again after no answer; the pause doubles with each try.

        Args:
            try_count: Tries so far, 1 or more.
            now_ms: The time.
        """
        least_ms = self._ms(self._settings.retry_seconds_min)
        most_ms = self._ms(self._settings.retry_seconds_max)
        # The exponent is bounded before it is used: a try count grows for as long as it lasts.
        return now_ms + min(most_ms, least_ms << min(try_count - 1, 20))

    def refund_ask_ms(self, *, ask_count: int, now_ms: int) -> int:
        """Returns when to ask how far an accepted refund is; the last pause repeats.

        Args:
            ask_count: Answers so far that it is under way, 1 or more.
            now_ms: The time.
        """
        pauses = self._settings.refund_ask_seconds
        return now_ms + self._ms(pauses[min(ask_count, len(pauses)) - 1])

    def refund_again_ms(self, *, refusal_count: int, now_ms: int) -> int | None:
        """Returns when to ask for a refused refund again; None: a human has to decide.

        Args:
            refusal_count: Refusals so far, 1 or more.
            now_ms: The time.
        """
        pauses = self._settings.refund_retry_seconds
        if refusal_count > len(pauses):
            return None
        return now_ms + self._ms(pauses[refusal_count - 1])

    def _ms(self, seconds: float) -> int:
        return max(1, round(seconds * self._settings.time_scale * 1000))


class TokenBucket:
    """Lets so many through a second, with a burst of one second's worth.

    Args:
        rate_per_second: More than 0.
        now_ms: The time at which it is full, milliseconds since the epoch.
    """

    def __init__(self, rate_per_second: float, *, now_ms: int) -> None:
        if rate_per_second <= 0:
            raise ValueError(f"rate_per_second is {rate_per_second}; it must be more than 0")
        self._rate_per_second = rate_per_second
        self._burst = max(1.0, rate_per_second)
        self._tokens = self._burst
        self._filled_ms = now_ms

    def take(self, now_ms: int, wanted: int) -> int:
        """Takes tokens and returns how many there were, 0 to `wanted`.

        Args:
            now_ms: The time; if it goes back nothing is filled.
            wanted: How many would be used, 0 or more.
        """
        passed_ms = max(0, now_ms - self._filled_ms)
        self._filled_ms = max(self._filled_ms, now_ms)
        filled = self._tokens + passed_ms / 1000 * self._rate_per_second
        self._tokens = min(self._burst, filled)
        taken = min(wanted, int(self._tokens))
        self._tokens -= taken
        return taken

    def next_ms(self, now_ms: int) -> int:
        """Returns when at least one token is there, `now_ms` or later."""
        missing = max(0.0, 1.0 - self._tokens)
        return max(now_ms, self._filled_ms + -int(-missing / self._rate_per_second * 1000 // 1))
