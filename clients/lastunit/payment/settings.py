"""What an operator can set of the payment service, with its ranges.

Owns names, units, defaults and checks. Must not read flags or files: `cli` does.
Next: `lastunit.payment.schedule`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PaymentSettings"]

TIME_SCALE_MIN: Final = 0.001
TIME_SCALE_MAX: Final = 100.0
SPAN_SECONDS_MAX: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class PaymentSettings:
    """Says how patiently the provider is asked and the ledger told.

    Attributes:
        ask_offsets_seconds: When an open attempt is asked for, in seconds after its start, rising;
            those past its `settle_by` are left out, and `settle_by` itself follows them.
        unknown_offsets_seconds: Further offsets while the create call has had no answer.
        ask_again_seconds: Pause between asks after `settle_by`, 1 to 86,400.
        ask_jitter: Share of that pause that chance adds or takes, 0 to 0.9.
        asks_per_second: Most asks and closes a second for each provider, more than 0.
        close_age_seconds: Age at which a close is tried again that was refused as too young.
        retry_seconds_min: First pause before the ledger or provider is called again.
        retry_seconds_max: Longest such pause; the pause doubles in between.
        refund_ask_seconds: Pauses between asks how far an accepted refund is, one or more; the last
            one repeats.
        refund_retry_seconds: Pauses after refused refunds; after the last one a human decides.
        check_seconds: How long a health check of a provider may take, 0.01 to 60; the next one
            comes half as long after it, and three lost in a row send new attempts to the next
            provider.
        rest_seconds: Pause before a provider that was given up is tried again, 0.01 to 86,400.
        time_scale: All spans above but `check_seconds` are multiplied by it, 0.001 to 100; 0.1 for
            a 1:10 run. How long an answer may take is a matter of machines, not of the sale.
        attempts_per_order_max: More attempts of one order are refused, 1 to 99.
        calls_at_once_max: Calls to provider or ledger under way in one step, 1 to 1,024.
        creates_at_once_max: Create calls under way, 1 to 1,024; few, so that a rush to the pay
            page leaves the event loop to settlements.
    """

    ask_offsets_seconds: tuple[float, ...] = (60, 90, 120, 180, 300, 450)
    unknown_offsets_seconds: tuple[float, ...] = (2, 5, 10, 30)
    ask_again_seconds: float = 30
    ask_jitter: float = 0.2
    asks_per_second: float = 50
    close_age_seconds: float = 305
    retry_seconds_min: float = 0.1
    retry_seconds_max: float = 30
    refund_ask_seconds: tuple[float, ...] = (60, 300, 1_800, 7_200)
    refund_retry_seconds: tuple[float, ...] = (60, 300, 1_800, 7_200, 43_200)
    check_seconds: float = 1.0
    rest_seconds: float = 30.0
    time_scale: float = 1.0
    attempts_per_order_max: int = 16
    calls_at_once_max: int = 256
    creates_at_once_max: int = 32

    def __post_init__(self) -> None:
        """Checks every range and names the setting that is outside of it."""
        self._check("time_scale", self.time_scale, TIME_SCALE_MIN, TIME_SCALE_MAX)
        self._check("ask_again_seconds", self.ask_again_seconds, 1, SPAN_SECONDS_MAX)
        self._check("ask_jitter", self.ask_jitter, 0, 0.9)
        self._check("asks_per_second", self.asks_per_second, 0.01, 1_000_000)
        self._check("close_age_seconds", self.close_age_seconds, 0, SPAN_SECONDS_MAX)
        self._check("retry_seconds_min", self.retry_seconds_min, 0.001, self.retry_seconds_max)
        self._check("retry_seconds_max", self.retry_seconds_max, 0.001, SPAN_SECONDS_MAX)
        self._check("check_seconds", self.check_seconds, 0.01, 60)
        self._check("rest_seconds", self.rest_seconds, 0.01, SPAN_SECONDS_MAX)
        self._check("attempts_per_order_max", self.attempts_per_order_max, 1, 99)
        self._check("calls_at_once_max", self.calls_at_once_max, 1, 1_024)
        self._check("creates_at_once_max", self.creates_at_once_max, 1, 1_024)
        if not self.refund_ask_seconds:
            raise ValueError("refund_ask_seconds is empty; give it one pause or more")
        for name in (
            "ask_offsets_seconds",
            "unknown_offsets_seconds",
            "refund_ask_seconds",
            "refund_retry_seconds",
        ):
            for span in getattr(self, name):
                self._check(name, span, 0.001, SPAN_SECONDS_MAX)

    def _check(self, name: str, value: float, least: float, most: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; it must be {least} to {most}")
