"""Names the designs of the replay and says what each one does.

Owns: the table of designs A0 to B7 with their rule, queue order, gate and provider faults, and the
setting (buyers, units, spans) that they share. Must not run anything.
Next: ``model.py`` runs the designs that are models, ``ours.py`` the ones that are real services.
"""

from __future__ import annotations

import dataclasses
from enum import StrEnum

__all__ = [
    "DESIGNS",
    "NAIVE_VERSUS_OURS",
    "Design",
    "Engine",
    "Faults",
    "Rule",
    "Setting",
    "design_names",
]

BUYERS_DEFAULT = 20_000
UNITS_DEFAULT = 2_000
TRANSACTIONS_PER_SECOND_DEFAULT = 32.13
"""Rate of the order database at which the model sells the 5,003 units of the incident."""

GATE_SHARE = 0.7
"""Longest queue as a share of what the database serves within one reservation's life."""

BUYERS_MAX = 200_000
UNITS_MAX = 100_000

_LATE_SECONDS = 900.0
_QUERY_BACK_SECONDS = 1_800.0
_PATIENT_SECONDS = 120.0


class Engine(StrEnum):
    """Where a design runs."""

    MODEL = "model"
    """A discrete-event model in this process."""
    REAL = "real"
    """The ledger server and the order and payment code, driven by a simulated clock."""


class Rule(StrEnum):
    """What happens to a unit whose time is over, and to money that comes later."""

    ACCEPT_LATE = "accept_late"
    """The clock gives the unit back; late money is honoured although the unit is gone."""
    REFUND_LATE = "refund_late"
    """The clock gives the unit back; late money is refunded."""
    RETAKE_OR_REFUND = "retake_or_refund"
    """The clock gives the unit back; late money takes a free unit, else it is refunded."""
    AWAIT_SETTLEMENT = "await_settlement"
    """The clock gives nothing back; the provider is asked and closes the attempt first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faults:
    """What the payment provider does wrong.

    Attributes:
        callback_late_seconds: Added to each callback's usual second of delay; 0 or more.
        callback_loss: Share of callbacks that are never sent; 0 to 1.
        callback_duplicate: Share of callbacks that are sent again 15 s later; 0 to 1.
        query_down_until_seconds: Seconds from the start of the sale until the provider answers
            questions; 0 if it always does.
    """

    callback_late_seconds: float = 0.0
    callback_loss: float = 0.0
    callback_duplicate: float = 0.0
    query_down_until_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """The scale of a run; the same for every design that is compared.

    Attributes:
        buyers: Buyers who press "buy", 1 to BUYERS_MAX.
        units: Units offered, 1 to UNITS_MAX.
        seed: Seed of buyers, provider and faults.
        views_per_buyer: Presses that a buyer has at most.
        arrival_seconds: Seconds within which every buyer presses for the first time.
        ttl_seconds: Seconds that an unpaid reservation lives.
        pay_mean_seconds: Mean of the exponential time from the order to the payment.
        transactions_per_second: Rate of the order database; ``None`` scales the incident's
            32.13 with the number of buyers, which keeps the shape of the incident.
        price: Turnover of one unit.
        horizon_seconds: Seconds after which a run is cut.
    """

    buyers: int = BUYERS_DEFAULT
    units: int = UNITS_DEFAULT
    seed: int = 1
    views_per_buyer: int = 10
    arrival_seconds: float = 10.0
    ttl_seconds: float = 600.0
    pay_mean_seconds: float = 45.0
    transactions_per_second: float | None = None
    price: int = 840
    horizon_seconds: float = 14_400.0

    @property
    def rate(self) -> float:
        """Transactions a second that the order database serves."""
        if self.transactions_per_second is not None:
            return self.transactions_per_second
        return TRANSACTIONS_PER_SECOND_DEFAULT * self.buyers / BUYERS_DEFAULT

    def gate_limit(self, share: float) -> int:
        """Longest queue that is worth joining: ``share`` of what one reservation's life serves."""
        return int(share * self.rate * self.ttl_seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """One way to sell, together with what the provider and the buyers do.

    Attributes:
        name: Short name, as in the post-mortem: A0 to B7.
        title: What it is, in a few words.
        engine: Model or real services.
        rule: What happens to units and money when time is over.
        has_settlement_lane: Whether payment news is served before new orders.
        gate_share: Share of rate x ttl at which the gate refuses, or ``None`` for no gate.
        ledger_decides: Whether an in-memory ledger decides before the order database is touched.
        faults: What the provider does wrong.
        think_seconds: A refused buyer presses again after one to two times this.
        pay_probability: Share of buyers with a unit who pay.
    """

    name: str
    title: str
    engine: Engine = Engine.MODEL
    rule: Rule
    has_settlement_lane: bool = False
    gate_share: float | None = None
    ledger_decides: bool = False
    faults: Faults = dataclasses.field(default_factory=Faults)
    think_seconds: float = 5.0
    pay_probability: float = 1.0


def _late() -> Faults:
    return Faults(callback_late_seconds=_LATE_SECONDS)


def _fast(name: str, title: str, rule: Rule) -> Design:
    """A fast stock core with a lane and a gate, whose clock still closes orders."""
    return Design(
        name=name,
        title=title,
        rule=rule,
        has_settlement_lane=True,
        gate_share=GATE_SHARE,
        ledger_decides=True,
        faults=_late(),
        think_seconds=_PATIENT_SECONDS,
    )


def _ours(
    name: str,
    title: str,
    *,
    faults: Faults | None = None,
    think_seconds: float = _PATIENT_SECONDS,
    pay_probability: float = 1.0,
) -> Design:
    return Design(
        name=name,
        title=title,
        engine=Engine.REAL,
        rule=Rule.AWAIT_SETTLEMENT,
        has_settlement_lane=True,
        gate_share=GATE_SHARE,
        ledger_decides=True,
        faults=faults or Faults(),
        think_seconds=think_seconds,
        pay_probability=pay_probability,
    )


_ALL = (
    Design(name="A0", title="the incident: late callbacks accepted", rule=Rule.ACCEPT_LATE),
    Design(name="A1", title="compare-and-set, late money refunded", rule=Rule.REFUND_LATE),
    Design(name="A2", title="late money re-takes or is refunded", rule=Rule.RETAKE_OR_REFUND),
    Design(
        name="A3",
        title="A2 + settlement lane first",
        rule=Rule.RETAKE_OR_REFUND,
        has_settlement_lane=True,
    ),
    Design(name="A4", title="A2 + gate", rule=Rule.RETAKE_OR_REFUND, gate_share=GATE_SHARE),
    Design(name="A5", title="await settlement, one queue", rule=Rule.AWAIT_SETTLEMENT),
    Design(
        name="A6",
        title="A5 + settlement lane first",
        rule=Rule.AWAIT_SETTLEMENT,
        has_settlement_lane=True,
    ),
    _ours("A7", "ours: ledger, lane, gate, await", think_seconds=5.0),
    Design(
        name="A3+",
        title="A3, callbacks 15 min late",
        rule=Rule.RETAKE_OR_REFUND,
        has_settlement_lane=True,
        faults=_late(),
    ),
    _fast("B1", "fast core, clock closes, callbacks 15 min late", Rule.ACCEPT_LATE),
    _fast("B1b", "B1 + compare-and-set, refund", Rule.REFUND_LATE),
    _fast("B1c", "B1 + re-take or refund", Rule.RETAKE_OR_REFUND),
    _ours("B2", "ours, callbacks 15 min late", faults=_late()),
    _ours(
        "B3",
        "ours, 5 % of callbacks lost, 20 % twice",
        faults=Faults(callback_loss=0.05, callback_duplicate=0.2),
    ),
    _ours(
        "B4",
        "ours, 15 min late and no queries until 30:00",
        faults=Faults(
            callback_late_seconds=_LATE_SECONDS, query_down_until_seconds=_QUERY_BACK_SECONDS
        ),
    ),
    _ours("B5", "ours, 20 % never pay", pay_probability=0.8),
    _ours("B7", "ours, every callback lost", faults=Faults(callback_loss=1.0)),
)

DESIGNS: dict[str, Design] = {design.name: design for design in _ALL}
"""Every design by name, in the order in which they are shown."""

NAIVE_VERSUS_OURS = ("A0", "A7")
"""The pair that is shown beside each other by default."""


def design_names(text: str) -> tuple[str, ...]:
    """Names the designs that a word on the command line stands for.

    Args:
        text: ``all``, ``naive-vs-ours``, ``naive``, ``ours``, or names parted by commas.

    Returns:
        Names that are keys of ``DESIGNS``, without repeats.

    Raises:
        ValueError: A name is unknown.
    """
    groups = {
        "all": tuple(DESIGNS),
        "naive-vs-ours": NAIVE_VERSUS_OURS,
        "naive": tuple(name for name, each in DESIGNS.items() if each.engine is Engine.MODEL),
        "ours": tuple(name for name, each in DESIGNS.items() if each.engine is Engine.REAL),
    }
    by_upper = {name.upper(): name for name in DESIGNS}
    found: dict[str, None] = {}
    for word in (part.strip() for part in text.split(",")):
        if word.lower() in groups:
            found.update(dict.fromkeys(groups[word.lower()]))
        elif word.upper() in by_upper:
            found[by_upper[word.upper()]] = None
        else:
            known = ", ".join([*groups, *DESIGNS])
            raise ValueError(f"unknown design {word!r}; known are {known}")
    return tuple(found)
