"""The faults the sandbox provider can be told to have.

Owns their names, units and ranges. Must not act on them. Next: `lastunit.payment.sandbox.core`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

__all__ = ["Operation", "Outage", "SandboxKnobs"]

# Ten days: no callback of any real provider is later, and a typo of a power of ten is noticed.
SPAN_MS_MAX: Final = 10 * 86_400_000

OUTAGES_MAX: Final = 64


class Operation(StrEnum):
    """What can be down on its own."""

    CREATE = "create"
    QUERY = "query"
    CLOSE = "close"
    REFUND = "refund"
    BILL = "bill"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class Outage:
    """Is a span in which one operation does not work.

    Attributes:
        operation: What is down. Callbacks that fall due in it are sent when it ends.
        start_ms: Begin, in milliseconds after the sandbox started, 0 or more.
        end_ms: First millisecond at which it works again.
    """

    operation: Operation
    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        """Checks the range."""
        if not 0 <= self.start_ms <= self.end_ms <= SPAN_MS_MAX:
            raise ValueError(
                f"outage of {self.operation}: start_ms {self.start_ms} and end_ms {self.end_ms} "
                f"must be 0 to {SPAN_MS_MAX} in this order"
            )


@dataclass(frozen=True, slots=True)
class SandboxKnobs:
    """Says how the sandbox misbehaves; the default is a good provider that calls after 1 s.

    Attributes:
        callback_delay_ms: Delay of every callback, 0 to ten days.
        callback_delay_mean_ms: Mean of an exponential delay on top, 0 to ten days.
        loss_probability: Share of callbacks that are never sent, 0 to 1.
        duplicate_probability: Share of callbacks that are sent twice, 0 to 1.
        duplicate_delay_ms: How much later the second one is sent.
        reorder_probability: Share of callbacks held back so that later ones overtake, 0 to 1.
        reorder_delay_ms_max: How long at most.
        amount_fault_probability: Share of callbacks that name one minor unit too few, 0 to 1.
        currency_fault_probability: Share of callbacks that name the currency `XXX`, 0 to 1.
        signature_fault_probability: Share of callbacks with a broken signature, 0 to 1.
        create_silence_probability: Share of create calls that are done but not answered, 0 to 1.
        close_age_ms_min: A younger attempt cannot be closed, 0 to ten days.
        takes_money_after_close: True for a provider that breaks its word.
        is_refund_refused: True for a provider that refuses every refund.
        refund_delay_ms: How long an accepted refund is under way, 0 to ten days.
        is_refund_failing: True for a provider whose accepted refunds come to nothing.
        clock_skew_ms: Added to the timestamps of callbacks.
        retry_ms: Waits before a callback that was not answered with 200 is sent again.
        outages: When which operation is down, at most 64.
    """

    callback_delay_ms: int = 1_000
    callback_delay_mean_ms: int = 0
    loss_probability: float = 0.0
    duplicate_probability: float = 0.0
    duplicate_delay_ms: int = 15_000
    reorder_probability: float = 0.0
    reorder_delay_ms_max: int = 5_000
    amount_fault_probability: float = 0.0
    currency_fault_probability: float = 0.0
    signature_fault_probability: float = 0.0
    create_silence_probability: float = 0.0
    close_age_ms_min: int = 0
    takes_money_after_close: bool = False
    is_refund_refused: bool = False
    refund_delay_ms: int = 0
    is_refund_failing: bool = False
    clock_skew_ms: int = 0
    retry_ms: tuple[int, ...] = (1_000, 5_000, 15_000, 60_000, 300_000, 900_000)
    outages: tuple[Outage, ...] = ()

    def __post_init__(self) -> None:
        """Checks every range and names the knob that is outside of it."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{field.name} is {value}; it must be 0 to 1")
            if field.name == "clock_skew_ms":
                if abs(value) > SPAN_MS_MAX:
                    raise ValueError(f"clock_skew_ms is {value}; it must be ± {SPAN_MS_MAX}")
            elif "_ms" in field.name and isinstance(value, int) and not 0 <= value <= SPAN_MS_MAX:
                raise ValueError(f"{field.name} is {value}; it must be 0 to {SPAN_MS_MAX}")
        if len(self.outages) > OUTAGES_MAX:
            raise ValueError(f"{len(self.outages)} outages are given; at most {OUTAGES_MAX} fit")

    def changed(self, changes: dict[str, Any]) -> Self:
        """Returns these knobs with some of them set anew.

        Args:
            changes: Names and values as JSON has them; `outages` is a list of objects.

        Raises:
            ValueError: A name is unknown or a value is out of range.
        """
        unknown = changes.keys() - {field.name for field in dataclasses.fields(self)}
        if unknown:
            raise ValueError(f"unknown knobs: {', '.join(sorted(unknown))}")
        values = dict(changes)
        if "outages" in values:
            values["outages"] = tuple(_outage(each) for each in values["outages"])
        if "retry_ms" in values:
            values["retry_ms"] = tuple(int(each) for each in values["retry_ms"])
        return dataclasses.replace(self, **values)

    def down_until_ms(self, operation: Operation, offset_ms: int) -> int | None:
        """Returns when an operation works again, or None if it works.

        Args:
            operation: What is asked for.
            offset_ms: Milliseconds since the sandbox started.
        """
        ends = [
            outage.end_ms
            for outage in self.outages
            if outage.operation is operation and outage.start_ms <= offset_ms < outage.end_ms
        ]
        return max(ends, default=None)


def _outage(value: Any) -> Outage:
    try:
        return Outage(
            operation=Operation(value["operation"]),
            start_ms=int(value["start_ms"]),
            end_ms=int(value["end_ms"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"an outage needs operation, start_ms and end_ms: {value!r}") from error
