"""Keeps what a human has to look at: money that is not as the books say.

Owns the kinds, the rows, and that the same thing seen again is one row. Must not move money or
call anybody: `lastunit.payment.desk` carries out what a human decides.
Next: `lastunit.payment.attempts`, `inbox` and `bill` open them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import schema
from lastunit.payment.transitions import OWN_ACTOR

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "SEVERITIES",
    "IncidentKind",
    "IncidentState",
    "Resolution",
    "Resolving",
    "Severity",
    "Sighting",
    "by_request",
    "end",
    "load",
    "note",
    "open_counts",
    "resolve",
]

# What a row says of itself; a provider's words may be long.
_DETAIL_CHARACTERS_MAX: Final = 512


class IncidentKind(StrEnum):
    """What is wrong."""

    AMOUNT_DIFFERS = "AMOUNT_DIFFERS"
    """A buyer paid another amount than asked for; the unit waits."""
    CURRENCY_DIFFERS = "CURRENCY_DIFFERS"
    """A buyer paid in another currency than asked for; the unit waits."""
    UNKNOWN_ATTEMPT = "UNKNOWN_ATTEMPT"
    """Signed news, or a line of a bill, of an attempt that nobody started."""
    UNKNOWN_REFUND = "UNKNOWN_REFUND"
    """News, or a line of a bill, of a refund that nobody asked for."""
    UNREADABLE_CALLBACK = "UNREADABLE_CALLBACK"
    """A signed callback that cannot be read."""
    OWED_UNKNOWN = "OWED_UNKNOWN"
    """The ledger owes money of an attempt that this service does not know."""
    REFUND_DIFFERS = "REFUND_DIFFERS"
    """A refund of another amount or currency than asked for."""
    REFUND_GIVEN_UP = "REFUND_GIVEN_UP"
    """The provider refused a refund so often that it is not tried any more."""
    REFUND_SENT_BACK = "REFUND_SENT_BACK"
    """A refund that was done came to nothing after all."""
    PAID_UNHEARD = "PAID_UNHEARD"
    """The bill has a payment that was not paid in the books; it is settled from the bill."""
    REFUND_UNHEARD = "REFUND_UNHEARD"
    """The bill has a refund that was not done in the books; it is done now."""
    PAID_DIFFERS = "PAID_DIFFERS"
    """The bill has another amount or currency for a payment than the books."""
    BILLED_TWICE = "BILLED_TWICE"
    """One bill has two lines for the same payment or refund."""
    MISSING_AT_PROVIDER = "MISSING_AT_PROVIDER"
    """The books have a payment that the bill has not: units may be sold for no money."""
    REFUND_MISSING_AT_PROVIDER = "REFUND_MISSING_AT_PROVIDER"
    """The books have a refund that the bill has not: a buyer may wait for the money."""


class Severity(StrEnum):
    """How soon somebody has to look."""

    NOW = "NOW"
    TODAY = "TODAY"


_K = IncidentKind
SEVERITIES: Final[Mapping[IncidentKind, Severity]] = dict.fromkeys(_K, Severity.TODAY) | {
    _K.MISSING_AT_PROVIDER: Severity.NOW,
    _K.OWED_UNKNOWN: Severity.NOW,
    _K.REFUND_SENT_BACK: Severity.NOW,
}


class IncidentState(StrEnum):
    """Whether somebody has dealt with it."""

    OPEN = "OPEN"
    RESOLVED = "RESOLVED"


class Resolution(StrEnum):
    """How it was dealt with."""

    NOTE = "NOTE"
    """Looked into; the service has nothing to do."""
    REFUND = "REFUND"
    """The money goes back at the provider."""
    REFUNDED_ELSEWHERE = "REFUNDED_ELSEWHERE"
    """The money went back by another way, as the named person vouches; a waiting unit is freed."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """Is one look at something wrong.

    Attributes:
        kind: What is wrong.
        provider: Whose money it is; `ledger` if the ledger told.
        attempt_id: The attempt, as whoever told names it; empty if that is unknown.
        what: What was told: a callback's type, a line of a bill.
        source: Where: `callback e-12`, `bill 2026-11-22`.
        refund_key: The refund, as whoever told names it; empty if there is none.
        order_id: The order; empty if unknown.
        expected_minor: What the books say, minor units; 0 if nothing.
        expected_currency: In which currency.
        found_minor: What was told, minor units; 0 if nothing.
        found_currency: In which currency.
    """

    kind: IncidentKind
    provider: str
    attempt_id: str
    what: str
    source: str
    refund_key: str = ""
    order_id: str = ""
    expected_minor: int = 0
    expected_currency: str = ""
    found_minor: int = 0
    found_currency: str = ""

    @property
    def incident_id(self) -> str:
        """The same for the same thing, however often it is seen."""
        # An event that cannot be read has nothing else to be told apart by.
        is_nameless = not self.attempt_id and not self.refund_key
        parts = (self.kind, self.provider, self.attempt_id, self.refund_key)
        text = " ".join((*parts, self.source) if is_nameless else parts)
        return f"i-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class Resolving:
    """Is somebody's decision.

    Attributes:
        request_id: Makes it one decision.
        incident_id: Which incident.
        resolution: What it is.
        actor: Whose.
        reason: Why.
    """

    request_id: str
    incident_id: str
    resolution: Resolution
    actor: str
    reason: str


def note(
    connection: sa.Connection, sighting: Sighting, *, now_ms: int, is_news: bool = False
) -> bool:
    """Writes down what was seen: a new row, or one more look at a known one.

    A resolved one is open again if something else is told of it than what was resolved.

    Args:
        connection: Inside a transaction.
        sighting: What was seen.
        now_ms: The time.
        is_news: True if a resolved one is to be looked at again, whatever is told of it.

    Returns:
        True if it was not known.
    """
    row = load(connection, sighting.incident_id)
    told = {
        "what": sighting.what[:_DETAIL_CHARACTERS_MAX],
        "found_minor": sighting.found_minor,
        "found_currency": sighting.found_currency,
        "expected_minor": sighting.expected_minor,
        "expected_currency": sighting.expected_currency,
    }
    seen = {"last_source": sighting.source[:_DETAIL_CHARACTERS_MAX], "last_seen_ms": now_ms}
    if row is None:
        first = {
            "incident_id": sighting.incident_id,
            "kind": sighting.kind.value,
            "provider": sighting.provider,
            "attempt_id": sighting.attempt_id,
            "refund_key": sighting.refund_key,
            "order_id": sighting.order_id,
            "state": IncidentState.OPEN.value,
            "first_seen_ms": now_ms,
            "seen_count": 1,
        }
        connection.execute(sa.insert(schema.incidents), first | told | seen)
        return True
    is_same = all(getattr(row, name) == value for name, value in told.items())
    values: dict[str, Any] = seen | {"seen_count": row.seen_count + 1}
    if is_news or not is_same:
        values |= told | {"state": IncidentState.OPEN.value}
    _update(connection, sighting.incident_id, values)
    return False


def load(connection: sa.Connection, incident_id: str) -> sa.Row[Any] | None:
    """Returns an incident, or None."""
    query = sa.select(schema.incidents).where(schema.incidents.c.incident_id == incident_id)
    return connection.execute(query).one_or_none()


def by_request(connection: sa.Connection, request_id: str) -> sa.Row[Any] | None:
    """Returns the incident that a request has resolved, or None."""
    query = sa.select(schema.incidents).where(schema.incidents.c.request_id == request_id)
    return connection.execute(query).one_or_none()


def resolve(
    connection: sa.Connection, resolving: Resolving, *, refund_id: str, now_ms: int
) -> None:
    """Writes down a decision.

    Args:
        connection: Inside the transaction in which it is carried out.
        resolving: The decision.
        refund_id: The refund that follows from it; empty if none does.
        now_ms: The time.
    """
    values = {
        "state": IncidentState.RESOLVED.value,
        "request_id": resolving.request_id,
        "resolution": resolving.resolution.value,
        "actor": resolving.actor,
        "reason": resolving.reason,
        "refund_id": refund_id,
        "resolve_ms": now_ms,
    }
    _update(connection, resolving.incident_id, values)


def end(
    connection: sa.Connection,
    kind: IncidentKind,
    *,
    attempt_id: str,
    refund_key: str,
    reason: str,
    now_ms: int,
) -> None:
    """Resolves an incident that has ended by itself, if it is open.

    Args:
        connection: Inside the transaction in which it ends.
        kind: The kind.
        attempt_id: The attempt.
        refund_key: The refund; empty if it is of none.
        reason: How it ended.
        now_ms: The time.
    """
    table = schema.incidents
    connection.execute(
        sa.update(table)
        .where(
            table.c.kind == kind.value,
            table.c.attempt_id == attempt_id,
            table.c.refund_key == refund_key,
            table.c.state == IncidentState.OPEN.value,
        )
        .values(
            state=IncidentState.RESOLVED.value,
            resolution=Resolution.NOTE.value,
            actor=OWN_ACTOR,
            reason=reason,
            resolve_ms=now_ms,
        )
    )


def open_counts(connection: sa.Connection) -> dict[str, int]:
    """Returns how many are open of each kind; kinds without one are 0."""
    table = schema.incidents
    query = (
        sa.select(table.c.kind, sa.func.count())
        .where(table.c.state == IncidentState.OPEN.value)
        .group_by(table.c.kind)
    )
    counts = dict.fromkeys((kind.value for kind in IncidentKind), 0)
    return counts | {row[0]: int(row[1]) for row in connection.execute(query)}


def _update(connection: sa.Connection, incident_id: str, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(schema.incidents)
        .where(schema.incidents.c.incident_id == incident_id)
        .values(**values)
    )
