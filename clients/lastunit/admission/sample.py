"""What admission counted at two moments, as rates.

Owns the arithmetic of `lastunit admission top`. Must not ask a server or draw. Next: `top`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.admission.v1 import admission_service_pb2 as messages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Rates", "Sample", "lane_name", "rank", "rates_between"]

_LANE_PREFIX: Final = "LANE_"


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted since the server started.

    Attributes:
        seconds: When it was asked, on a monotonic clock.
        lanes: Counts by lane, those served first coming first.
        callers: Counts by caller.
    """

    seconds: float
    lanes: Mapping[str, messages.AdmissionCounts]
    callers: Mapping[str, messages.AdmissionCounts]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How fast one lane's or caller's counts grew.

    Attributes:
        name: Of the lane or caller.
        offered: Operations a second; None where there is nothing to compare with.
        admitted: Likewise.
        refused: Likewise.
        counts: The counts at the later moment.
    """

    name: str
    offered: float | None
    admitted: float | None
    refused: float | None
    counts: messages.AdmissionCounts

    @property
    def refused_share(self) -> float | None:
        """Returns the part that was refused, 0 to 1; None if nothing was offered."""
        if not self.offered or self.refused is None:
            return None
        return self.refused / self.offered

    def as_json(self) -> dict[str, Any]:
        """Returns it as JSON has it; rates per second, null where unknown."""
        return {
            "name": self.name,
            "offered_per_second": _rounded(self.offered),
            "admitted_per_second": _rounded(self.admitted),
            "refused_per_second": _rounded(self.refused),
            "offered_count": self.counts.offered_count,
            "admitted_count": self.counts.admitted_count,
            "refused_count": self.counts.refused_count,
            "in_flight_count": self.counts.in_flight_count,
            "waiting_count": self.counts.waiting_count,
        }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 3)


def lane_name(lane: int) -> str:
    """Returns a lane's name in the words of the policy, for example `reservation`."""
    return messages.Lane.Name(lane).removeprefix(_LANE_PREFIX).lower()  # type: ignore[arg-type]


def rates_between(
    before: Mapping[str, messages.AdmissionCounts],
    after: Mapping[str, messages.AdmissionCounts],
    seconds: float,
) -> list[Rates]:
    """Compares two moments, in the order of the later one.

    Args:
        before: Counts at the earlier moment.
        after: Counts at the later one.
        seconds: Between them; 0 or less for no earlier moment.

    Returns:
        One row a name. A count that fell belongs to a server that was started anew, or to a caller
        whose place was given to another in between: its rates are unknown.
    """
    rows = []
    for name, counts in after.items():
        earlier = before.get(name, messages.AdmissionCounts())
        grown = (
            counts.offered_count - earlier.offered_count,
            counts.admitted_count - earlier.admitted_count,
            counts.refused_count - earlier.refused_count,
        )
        is_known = seconds > 0 and min(grown) >= 0
        offered, admitted, refused = (
            (count / seconds for count in grown) if is_known else (None, None, None)
        )
        rows.append(
            Rates(name=name, offered=offered, admitted=admitted, refused=refused, counts=counts)
        )
    return rows


def rank(rows: Sequence[Rates], count_max: int) -> list[Rates]:
    """Returns the rows that offer the most now, then those that ever did, then by name."""

    def weight(row: Rates) -> tuple[float, int, str]:
        return (-(row.offered or 0.0), -row.counts.offered_count, row.name)

    return sorted(rows, key=weight)[:count_max]
