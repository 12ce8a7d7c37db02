"""What the reference ledger remembers: sales, skus, pools, reservations, attempts.

Owns plain records and nothing else. Must not decide anything: the rules are in `reserving`,
`paying`, `settling`, `stock`, `sales` and `persons`. Times are whole milliseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lastunit.stock.v1 import reservation_pb2, sale_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    # In a heap: a time, then a reservation's place and first event, which together never tie.
    Entry = tuple[int, int, int, "Reservation"]

__all__ = [
    "PLACE_OF_STATE",
    "UNPAID_STATES",
    "Attempt",
    "Part",
    "Policy",
    "Pool",
    "Reservation",
    "Sale",
    "Sku",
]

# Where the units of a reservation count; a state that is not listed has none.
PLACE_OF_STATE: Final[dict[int, str]] = {
    reservation_pb2.STATE_HELD: "held",
    reservation_pb2.STATE_PAYING: "paying",
    reservation_pb2.STATE_OVERDUE: "overdue",
    reservation_pb2.STATE_CONFIRMED: "sold",
}

# A reservation that claims units and is not paid for yet.
UNPAID_STATES: Final = frozenset(
    {reservation_pb2.STATE_HELD, reservation_pb2.STATE_PAYING, reservation_pb2.STATE_OVERDUE}
)


@dataclass(slots=True)
class Policy:
    """The rules of one sale, defaults filled in; spans in milliseconds, 0 of a limit means none."""

    reservation_ttl: int = 600_000
    settle_by: int = 900_000
    retry_grace: int = 120_000
    max_life: int = 1_800_000
    units_per_person_per_sku_max: int = 0
    units_per_person_max: int = 0
    unpaid_reservations_per_person_max: int = 1
    attempts_per_reservation_max: int = 4
    low_level_percent: int = 10
    is_unverified_release_allowed: bool = False
    expiry_brake_lag: int = 60_000
    does_return_give_limit_back: bool = False
    forget_after: int = 604_800_000
    does_forget_while_open: bool = False


@dataclass(slots=True)
class Pool:
    """A named share of one sku's units; every counter is a whole number of units, 0 or more."""

    name: str
    position: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    is_offered: bool = False
    supplied: int = 0
    withdrawn: int = 0
    written_off: int = 0
    available: int = 0
    buffer: int = 0
    held: int = 0
    paying: int = 0
    overdue: int = 0
    sold: int = 0
    quarantine: int = 0
    forgotten_sold_units: int = 0

    def move(self, units: int, source: str, target: str) -> None:
        """Counts units in another place of this pool."""
        setattr(self, source, getattr(self, source) - units)
        setattr(self, target, getattr(self, target) + units)


@dataclass(slots=True, eq=False)
class Sku:
    """One sellable thing of one sale.

    Attributes:
        pools: In the order in which lines draw on them.
        level_epoch: How often it came back from nothing to sell.
        is_sellable: Whether an offered pool had an available unit after the last event.
        changed_sequence: The last event that changed a counter or a pool.
        holds: `(expire time, place, sequence, reservation)`, smallest first; some are outdated.
    """

    name: str
    sale: Sale
    pools: list[Pool] = field(default_factory=list)
    level_epoch: int = 0
    is_sellable: bool = False
    changed_sequence: int = 0
    holds: list[Entry] = field(default_factory=list)

    def pool(self, name: str) -> Pool | None:
        """Returns the pool of that name."""
        for pool in self.pools:
            if pool.name == name:
                return pool
        return None

    def offered(self) -> Iterator[Pool]:
        """Yields the pools that Reserve may draw on."""
        return (pool for pool in self.pools if pool.is_offered)


@dataclass(slots=True, eq=False)
class Sale:
    """A period in which stock is offered under one policy.

    Attributes:
        holds: `(expire time, place, sequence, reservation)`, smallest first; some are outdated.
        payments: Likewise with the time past which a payment is late.
        ended: When it ended: became CLOSED or CANCELLED, from a state that is neither.
        has_forgotten: Whether reservations of it were forgotten after it had ended.
        requests: Ids of the requests that named no reservation, each with its time.
    """

    sale_id: str
    number: int
    state: int = sale_pb2.SALE_STATE_SCHEDULED
    opens: int | None = None
    closes: int | None = None
    policy: Policy = field(default_factory=Policy)
    revision: int = 0
    skus: dict[str, Sku] = field(default_factory=dict)
    reservations: list[Reservation] = field(default_factory=list)
    holds: list[Entry] = field(default_factory=list)
    payments: list[Entry] = field(default_factory=list)
    ended: int = 0
    has_forgotten: bool = False
    requests: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Part:
    """The units that one pool gave for one line."""

    line_index: int
    sku: Sku
    pool: Pool
    units: int
    returned: int = 0
    is_from_buffer: bool = False
    limit_given_back: int = 0


@dataclass(slots=True)
class Attempt:
    """One try to pay for a reservation; the last four fields are its first answer and event."""

    attempt_id: str
    state: int
    begun: int
    provider: str = ""
    amount_minor: int | None = None
    currency: str = ""
    is_unregistered: bool = False
    settle_by: int | None = None
    did_retake: bool = False
    number: int = 0
    sequence: int = 0


@dataclass(slots=True, eq=False)
class Reservation:
    """The claim of one person on units, until a time or a payment fact ends it.

    Attributes:
        number: Its place: lists, and timers of one time, follow it.
        first_answer: Expire time and taken parts as Reserve first told them.
        transitions: Every event of it, for its explanation.
        not_after: The deadline of its request.
    """

    reservation_id: str
    number: int
    sale: Sale
    person_id: str
    lines: list[tuple[str, str, int]]
    ttl: int | None
    state: int
    parts: list[Part]
    created: int
    create_sequence: int
    expires: int
    max_life: int
    first_answer: tuple[int, Any]
    release_reason: int = 0
    settle_by: int | None = None
    is_release_requested: bool = False
    is_retaken: bool = False
    attempts: dict[str, Attempt] = field(default_factory=dict)
    transitions: list[Any] = field(default_factory=list)
    changed: int = 0
    last_sequence: int = 0
    requests: list[str] = field(default_factory=list)
    not_after: int | None = None

    def open_attempts(self) -> list[Attempt]:
        """Returns the attempts whose end is not known, oldest first."""
        is_open = reservation_pb2.ATTEMPT_STATE_OPEN
        return [attempt for attempt in self.attempts.values() if attempt.state == is_open]

    def skus(self) -> dict[str, Sku]:
        """Returns the skus that its units are of, by name."""
        return {part.sku.name: part.sku for part in self.parts}

    def counts_against_limits(self) -> bool:
        """Tells whether its units count for its person: claimed or bought."""
        return self.state in PLACE_OF_STATE or self.state == reservation_pb2.STATE_RETURNED
