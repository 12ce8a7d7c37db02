"""Holds what a run of the replay found out.

Owns: the figures of one run, its curves second by second, and how they are recorded.
Must not decide anything about a design. Next: ``table.py`` and ``page.py`` show these.
"""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["CURVES", "Curves", "RunResult", "Sample", "percentile"]

CURVES = (
    "queue",
    "callback_wait",
    "available",
    "held",
    "paying",
    "overdue",
    "sold",
    "charged",
    "honoured",
    "refunded",
)
"""Names of the curves, each sampled once a simulated second."""


@dataclasses.dataclass(kw_only=True, slots=True)
class Sample:
    """The state of a run at one second.

    Attributes:
        queue: Transactions that wait for the order database.
        callback_wait: Longest wait, in seconds, of a callback served within this second; ``None``
            if none was served.
        available: Units that can be sold.
        held: Units in unpaid reservations.
        paying: Units whose payment is open.
        overdue: Units whose payment is open for too long; they are kept.
        sold: Units promised to payers; above the supply it is an oversale.
        charged: Payments that the provider has taken so far.
        honoured: Payments that got their unit so far.
        refunded: Payments that got none and are given back so far.
    """

    queue: int = 0
    callback_wait: float | None = None
    available: int = 0
    held: int = 0
    paying: int = 0
    overdue: int = 0
    sold: int = 0
    charged: int = 0
    honoured: int = 0
    refunded: int = 0


class Curves:
    """Keeps one value per simulated second and curve."""

    def __init__(self) -> None:
        self.seconds: list[int] = []
        self.values: dict[str, list[float | None]] = {name: [] for name in CURVES}

    def add(self, second: int, sample: Sample) -> None:
        """Appends the sample of ``second``; seconds must rise."""
        assert not self.seconds or second > self.seconds[-1]
        self.seconds.append(second)
        for name in CURVES:
            self.values[name].append(getattr(sample, name))


@dataclasses.dataclass(kw_only=True)
class RunResult:
    """What one design did with one seed.

    Attributes:
        design: Name of the design.
        title: What the design is.
        engine: ``model`` or ``real``.
        seed: Random seed of the run.
        buyers: Buyers who took part.
        units: Units offered.
        charged: Payments that the provider took.
        honoured: Payments that got their unit.
        oversold: Honoured payments beyond the units offered.
        refunded: Payments that got no unit and are given back.
        unsettled: Payments that had neither unit nor refund when the run ended; must be 0.
        callback_wait_p99: Seconds from a callback's arrival to its effect; ``None`` without any.
        callback_wait_max: The longest of these.
        last_sale_seconds: Seconds from the start to the last honoured payment.
        turnover: Price of all honoured payments.
        presses: Times that a buyer pressed "buy".
        sold_out_answers: Presses answered with "no unit".
        gate_refusals: Presses that the gate refused.
        first_sold_out_seconds: Seconds until the first "sold out"; ``None`` if nobody was told.
        late_callbacks: Payments whose news came after the unit was given back.
        asks: Questions to the provider.
        duplicates: Payment news that changed nothing because it was known.
        given_back: Units that went back to sale.
        queue_peak: Most transactions that waited for the order database.
        seconds: Wall-clock seconds that the run took.
        checks: Name of each check of a real run and whether it held.
        curves: Values per simulated second.
    """

    design: str
    title: str
    engine: str
    seed: int
    buyers: int
    units: int
    charged: int = 0
    honoured: int = 0
    oversold: int = 0
    refunded: int = 0
    unsettled: int = 0
    callback_wait_p99: float | None = None
    callback_wait_max: float | None = None
    last_sale_seconds: float = 0.0
    turnover: int = 0
    presses: int = 0
    sold_out_answers: int = 0
    gate_refusals: int = 0
    first_sold_out_seconds: float | None = None
    late_callbacks: int = 0
    asks: int = 0
    duplicates: int = 0
    given_back: int = 0
    queue_peak: int = 0
    seconds: float = 0.0
    checks: dict[str, bool] = dataclasses.field(default_factory=dict)
    curves: Curves = dataclasses.field(default_factory=Curves, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Gives the figures without the curves, ready for ``json.dumps``."""
        found = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "curves"
        }
        found["seconds"] = round(self.seconds, 2)
        return found


def percentile(values: list[float], share: float) -> float | None:
    """Picks the value below which ``share`` (0 to 1) of ``values`` lie; ``None`` for none."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2)
