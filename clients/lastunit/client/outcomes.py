"""What the ledger answers, as plain Python types.

Owns the enumerations and the frozen reply that every typed call returns. Must not do I/O. The
values equal those of `lastunit.stock.v1`; a test holds them against the descriptors.
Next: `lastunit.client.aio`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from lastunit.stock.v1 import outcome_pb2, place_pb2

__all__ = [
    "AttemptState",
    "Disposition",
    "Durability",
    "Level",
    "Line",
    "Outcome",
    "PaymentResult",
    "ReleaseReason",
    "Reply",
    "SaleState",
    "State",
]


class _WireEnum(enum.IntEnum):
    """Reads a number that a newer server knows and we do not as UNSPECIFIED."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls(0) if isinstance(value, int) else None


class Outcome(_WireEnum):
    """The ledger's answer to one command, by falling precedence after OK."""

    UNSPECIFIED = 0
    OK = 1
    CONFLICT = 2
    UNKNOWN_SALE = 3
    UNKNOWN_SKU = 4
    UNKNOWN_POOL = 5
    UNKNOWN_RESERVATION = 6
    UNKNOWN_ATTEMPT = 7
    TOO_LATE = 8
    SALE_NOT_OPEN = 9
    SALE_CLOSED = 10
    WRONG_STATE = 11
    NOT_ALLOWED = 12
    TOO_MANY_ATTEMPTS = 13
    COUNTER_MISMATCH = 14
    NOT_ENOUGH_UNITS = 15
    LIMIT_REACHED = 16
    SOLD_OUT = 17


class State(_WireEnum):
    """Where a reservation stands."""

    UNSPECIFIED = 0
    HELD = 1
    PAYING = 2
    OVERDUE = 3
    CONFIRMED = 4
    RELEASED = 5
    REFUND_DUE = 6
    REFUNDED = 7
    RETURNED = 8


class ReleaseReason(_WireEnum):
    """Why a reservation gave its units back."""

    UNSPECIFIED = 0
    CLIENT = 1
    EXPIRED = 2
    PAYMENT_FAILED = 3
    SALE_CANCELLED = 4
    OPERATOR = 5
    UNVERIFIED = 6


class AttemptState(_WireEnum):
    """Where one try to pay stands."""

    UNSPECIFIED = 0
    OPEN = 1
    SUCCEEDED = 2
    FAILED = 3
    CANCELLED = 4
    APPLIED = 5
    REFUND_DUE = 6
    REFUNDED = 7


class PaymentResult(_WireEnum):
    """What the provider says happened to an attempt."""

    UNSPECIFIED = 0
    SUCCEEDED = 1
    FAILED = 2
    CANCELLED = 3


class Disposition(_WireEnum):
    """Where returned units go."""

    UNSPECIFIED = 0
    RESELL = 1
    QUARANTINE = 2
    WRITE_OFF = 3


class SaleState(_WireEnum):
    """Where a sale stands."""

    UNSPECIFIED = 0
    SCHEDULED = 1
    OPEN = 2
    PAUSED = 3
    CLOSED = 4
    CANCELLED = 5
    ARCHIVED = 6


class Level(_WireEnum):
    """What buyers are told of a SKU; only GONE means never."""

    UNSPECIFIED = 0
    OPEN = 1
    LOW = 2
    HELD_OUT = 3
    PAYING_OUT = 4
    GONE = 5


class Durability(_WireEnum):
    """What a durable sequence survives: the machine, the process or nothing."""

    UNSPECIFIED = 0
    FLUSHED = 1
    WRITTEN = 2
    MEMORY = 3


@dataclass(frozen=True, slots=True)
class Line:
    """Asks for units of one SKU.

    Attributes:
        sku: What to draw from.
        units: Whole units, 1 to 1,000,000.
        pool: Draw from this pool only; empty: from the sale's pools in their order.
    """

    sku: str
    units: int = 1
    pool: str = ""


class _Response(Protocol):
    """Is what every response of the ledger has."""

    @property
    def place(self) -> place_pb2.Place: ...
    @property
    def result(self) -> outcome_pb2.Result: ...


ResponseT = TypeVar("ResponseT", bound=_Response)
ResponseT_co = TypeVar("ResponseT_co", bound=_Response, covariant=True)


@dataclass(frozen=True, slots=True)
class Reply(Generic[ResponseT_co]):
    """The ledger's answer: good or bad news, but never an error.

    Attributes:
        response: The whole message as it came, such as `ReserveResponse` with its `taken`.
    """

    response: ResponseT_co

    @property
    def outcome(self) -> Outcome:
        """The answer itself."""
        return Outcome(self.response.result.outcome)

    @property
    def is_ok(self) -> bool:
        """True if the command took effect, now or the first time its id came."""
        return self.outcome is Outcome.OK

    @property
    def is_replayed(self) -> bool:
        """True if this id had come before and this is the first answer again."""
        return self.response.result.replayed

    @property
    def conflict_field(self) -> str:
        """The field that differs from the first use of the id; empty without a conflict."""
        return self.response.result.conflict_field

    @property
    def state(self) -> State:
        """State of the reservation, as left by success and as found by a refusal."""
        return State(self.response.result.state)

    @property
    def level(self) -> Level:
        """Level of the SKU that refused, or that was taken from."""
        return Level(self.response.result.level)

    @property
    def sequence(self) -> int:
        """Position of this command's last event; 0 if it changed nothing."""
        return self.response.place.sequence

    @property
    def as_of_sequence(self) -> int:
        """Position of the state that this reply shows."""
        return self.response.place.as_of_sequence

    @property
    def come_back_ms(self) -> int | None:
        """When it makes sense to ask again, milliseconds since the epoch; None: not told."""
        result = self.response.result
        if not result.HasField("come_back_time"):
            return None
        return result.come_back_time.ToMilliseconds()
