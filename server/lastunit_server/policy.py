"""The admission policy file: how much of which work is let in.

Owns the file's names, ranges and defaults; must not decide admission (the node does). The file is
TOML of schema version 1::

    version = 1

    [lanes.reservation]          # also: settlement, read, control
    rate_per_second = 50000      # tokens a second; leave it out for no bucket
    burst = 5000                 # tokens that a quiet lane saves up
    calls_in_flight_max = 16384  # let in and not yet answered; each operation of a batch counts

    [callers.default]            # the bucket of each caller that is not named
    rate_per_second = 5000
    burst = 500

    [callers.order-service]      # a bucket of its own for a caller by name
    rate_per_second = 20000
    burst = 2000

    [costs]                      # tokens a call costs, by method
    Reserve = 1.0
    per_line = 0.2               # and for each line of a reservation

Settlement and control have no rate: a bucket never refuses them.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.functional_validators import AfterValidator
from pydantic.types import StringConstraints

from lastunit_server.methods import COST_METHODS

__all__ = ["AdmissionPolicy"]

# The node counts tokens in millionths in 64 bits; these bounds keep every product inside them.
RATE_MIN = 0.001
RATE_MAX = 1_000_000
BURST_MIN = 1
BURST_MAX = 10_000_000
COST_MAX = 1000
IN_FLIGHT_MAX = 1_000_000
CALLERS_MAX = 1_000_000
# A bucket smaller than this share of its rate loses tokens to every pause of the scheduler.
BURST_SECONDS_MIN = 0.01

# A read takes no flush and changes nothing: a twentieth of a reservation. What only settlement and
# control do costs nothing, so that it takes no tokens from reservations.
COST_DEFAULTS = {
    **dict.fromkeys(COST_METHODS, 0.0),
    "Reserve": 1.0,
    "GetReservation": 0.05,
    "GetAvailability": 0.05,
    "ListReservations": 1.0,
    "WatchAvailability": 1.0,
}
# The one cost that is not a method's: it is added for each line of a reservation.
PER_LINE = "per_line"

CallerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _is_burst_wide_enough(rate: float | None, burst: float | None) -> None:
    if (rate is None) != (burst is None):
        raise ValueError("rate_per_second and burst belong together; set both or neither")
    if rate is not None and burst is not None and burst < rate * BURST_SECONDS_MIN:
        least = rate * BURST_SECONDS_MIN
        raise ValueError(
            f"burst = {burst:g} is less than 10 ms of rate_per_second = {rate:g}, which loses"
            f" tokens to scheduling pauses; set burst to {least:g} or more"
        )


class Bucket(_Section):
    """A token bucket: a rate and how much of it can be saved up."""

    rate_per_second: float = Field(ge=RATE_MIN, le=RATE_MAX, description="tokens a second")
    burst: float = Field(ge=BURST_MIN, le=BURST_MAX, description="tokens")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _is_burst_wide_enough(self.rate_per_second, self.burst)
        return self


class Lane(_Section):
    """One kind of work: how many calls in flight, and a bucket if it has a rate."""

    rate_per_second: float | None = Field(
        default=None, ge=RATE_MIN, le=RATE_MAX, description="tokens a second"
    )
    burst: float | None = Field(default=None, ge=BURST_MIN, le=BURST_MAX, description="tokens")
    calls_in_flight_max: int = Field(default=16_384, ge=1, le=IN_FLIGHT_MAX, description="calls")

    @model_validator(mode="after")
    def _checked(self) -> Self:
        _is_burst_wide_enough(self.rate_per_second, self.burst)
        return self


class UnlimitedLane(_Section):
    """A lane that no bucket may refuse; only the calls in flight are bounded."""

    calls_in_flight_max: int = Field(default=16_384, ge=1, le=IN_FLIGHT_MAX, description="calls")


class Lanes(_Section):
    """The four lanes, first served first."""

    settlement: UnlimitedLane = UnlimitedLane()
    reservation: Lane = Lane(rate_per_second=50_000, burst=5000)
    read: Lane = Lane(rate_per_second=50_000, burst=5000, calls_in_flight_max=4096)
    control: UnlimitedLane = UnlimitedLane(calls_in_flight_max=64)


def _known_methods(costs: dict[str, float]) -> dict[str, float]:
    unknown = sorted(set(costs) - COST_METHODS - {PER_LINE})
    if unknown:
        known = ", ".join((PER_LINE, *sorted(COST_METHODS)))
        raise ValueError(f"names no method: {', '.join(unknown)}; use one of: {known}")
    return costs


Cost = Annotated[float, Field(ge=0, le=COST_MAX)]


class AdmissionPolicy(_Section):
    """What the policy file may say. Every key but `version` has a default."""

    version: Literal[1]
    lanes: Lanes = Lanes()
    callers: dict[CallerName, Bucket] = Field(default_factory=dict, max_length=10_000)
    callers_max: int = Field(
        default=10_000, ge=1, le=CALLERS_MAX, description="callers with a bucket"
    )
    costs: Annotated[dict[str, Cost], AfterValidator(_known_methods)] = Field(default_factory=dict)

    def all_costs(self) -> dict[str, float]:
        """Returns the price of every method and of a line, in tokens, sorted by name."""
        return dict(sorted({**COST_DEFAULTS, PER_LINE: 0.0, **self.costs}.items()))
