"""Carries out what a human decides about incidents.

Owns which decision is allowed for which kind, and what follows from it, in one transaction. Must
not call a provider: a refund is written down and `refunder` carries it out.
Next: `lastunit.payment.incidents`, `lastunit.payment.refunds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.payment import attempts, incidents, refunds
from lastunit.payment.attempts import Fact
from lastunit.payment.incidents import IncidentKind, IncidentState, Resolution, Resolving
from lastunit.payment.refund_states import RefundEvent
from lastunit.payment.refunds import NewRefund, RefundNews
from lastunit.payment.states import AttemptState, News
from lastunit.payment.transitions import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from lastunit.payment.schedule import Schedule

__all__ = ["ALLOWED", "ResolveResult", "resolve"]

_K = IncidentKind
_WAITING_MONEY: Final = frozenset({Resolution.REFUND, Resolution.REFUNDED_ELSEWHERE})

ALLOWED: Final[Mapping[IncidentKind, frozenset[Resolution]]] = dict.fromkeys(
    _K, frozenset({Resolution.NOTE})
) | {
    # A note alone would leave the unit waiting for ever.
    _K.AMOUNT_DIFFERS: _WAITING_MONEY,
    _K.CURRENCY_DIFFERS: _WAITING_MONEY,
    _K.UNKNOWN_ATTEMPT: frozenset({Resolution.NOTE, Resolution.REFUND}),
    _K.REFUND_GIVEN_UP: frozenset(Resolution),
}
"""What may be decided; anything else is refused."""


@dataclass(frozen=True, slots=True)
class ResolveResult:
    """Says what became of a decision.

    Attributes:
        row: The incident as it stands; None if there is none.
        refusal: `UNKNOWN_INCIDENT`, `CONFLICT`, `ALREADY_RESOLVED`, `NOT_ALLOWED`, `NOT_PAID` or
            `OVER_PAID`; empty if it was carried out, now or before.
        conflict_field: Field that differs from the first call; only with CONFLICT.
        is_replayed: True if it was carried out before.
    """

    row: sa.Row[Any] | None
    refusal: str = ""
    conflict_field: str = ""
    is_replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Case:
    """Is one decision in its transaction."""

    connection: sa.Connection
    row: sa.Row[Any]
    resolving: Resolving
    now_ms: int
    schedule: Schedule

    @property
    def cause(self) -> Cause:
        return Cause(f"call ResolveIncident {self.resolving.request_id}", self.resolving.actor)

    def record_refund(self, news: RefundNews) -> None:
        refunds.record(
            self.connection,
            self.row.refund_key,
            news,
            now_ms=self.now_ms,
            schedule=self.schedule,
        )


def resolve(
    connection: sa.Connection, resolving: Resolving, *, now_ms: int, schedule: Schedule
) -> ResolveResult:
    """Carries a decision out, once for each request.

    Args:
        connection: Inside a transaction.
        resolving: The decision.
        now_ms: The time.
        schedule: Says when an attempt is asked for next, if it still is.
    """
    before = incidents.by_request(connection, resolving.request_id)
    if before is not None:
        field = _differing_field(before, resolving)
        refusal = "CONFLICT" if field else ""
        return ResolveResult(before, refusal, field, is_replayed=not field)
    row = incidents.load(connection, resolving.incident_id)
    if row is None:
        return ResolveResult(None, "UNKNOWN_INCIDENT")
    if row.state == IncidentState.RESOLVED:
        return ResolveResult(row, "ALREADY_RESOLVED")
    if resolving.resolution not in ALLOWED[IncidentKind(row.kind)]:
        return ResolveResult(row, "NOT_ALLOWED")
    refund_id, refusal = _carry_out(_Case(connection, row, resolving, now_ms, schedule))
    if refusal:
        return ResolveResult(row, refusal)
    incidents.resolve(connection, resolving, refund_id=refund_id, now_ms=now_ms)
    return ResolveResult(incidents.load(connection, resolving.incident_id))


def _carry_out(case: _Case) -> tuple[str, str]:
    """Returns the refund that follows, if one does, and why not, if it may not."""
    match case.resolving.resolution:
        case Resolution.NOTE:
            return "", ""
        case Resolution.REFUND:
            return _give_back(case)
        case Resolution.REFUNDED_ELSEWHERE:
            _believe(case)
            return "", ""


def _give_back(case: _Case) -> tuple[str, str]:
    row = case.row
    if row.kind == _K.REFUND_GIVEN_UP:
        case.record_refund(RefundNews(RefundEvent.TRY_AGAIN, case.cause))
        return str(row.refund_key), ""
    wanted = NewRefund(
        request_id=f"incident/{case.resolving.request_id}",
        attempt_id=row.attempt_id,
        amount_minor=0,
        reason=case.resolving.reason,
        actor=case.resolving.actor,
    )
    if row.kind == _K.UNKNOWN_ATTEMPT:
        attempt = attempts.load(case.connection, row.attempt_id)
        if attempt is not None and attempt.provider == row.provider:
            # It was started since: its money may have bought a unit, and is refunded as such.
            return "", "NOT_ALLOWED"
        result = refunds.start_of_stranger(case.connection, row, wanted, now_ms=case.now_ms)
    else:
        result = refunds.start(case.connection, wanted, now_ms=case.now_ms, retry_pause_ms=0)
    return (str(result.row.refund_id) if result.row is not None else ""), result.refusal


def _believe(case: _Case) -> None:
    """Takes a named person's word that the money is back by another way."""
    if case.row.kind == _K.REFUND_GIVEN_UP:
        case.record_refund(RefundNews(RefundEvent.DONE, case.cause, refund_no="elsewhere"))
        return
    attempt = attempts.load(case.connection, case.row.attempt_id)
    if attempt is not None and attempt.state == AttemptState.QUARANTINED:
        fact = Fact(
            News.REFUNDED, "refund elsewhere", cause=case.cause.text, actor=case.cause.actor
        )
        attempts.record(
            case.connection,
            case.row.attempt_id,
            fact,
            now_ms=case.now_ms,
            schedule=case.schedule,
        )


def _differing_field(row: sa.Row[Any], resolving: Resolving) -> str:
    pairs = (
        ("incident_id", row.incident_id, resolving.incident_id),
        ("resolution", row.resolution, resolving.resolution.value),
        ("actor", row.actor, resolving.actor),
        ("reason", row.reason, resolving.reason),
    )
    return next((name for name, first, now in pairs if first != now), "")
