"""Writes down refunds: what is asked for, what is learnt, and what follows from it.

Owns the rows of refunds, the bound on their sum, and their keys at the provider. Must not call
anybody. Next: `refund_states` (what an event means), `refunder` (calls the provider).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import attempts, incidents, outbox, schema, transitions
from lastunit.payment.attempts import Fact
from lastunit.payment.incidents import IncidentKind, Sighting
from lastunit.payment.refund_states import RefundEffect, RefundEvent, RefundState, decide
from lastunit.payment.states import AttemptState, News
from lastunit.payment.transitions import Cause, Entity, Move
from lastunit.service import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.payment.schedule import Schedule

__all__ = [
    "PAID_STATES",
    "NewRefund",
    "RefundNews",
    "RefundRefusal",
    "RefundResult",
    "done_minor",
    "due",
    "key",
    "load",
    "next_try_ms",
    "of_key",
    "owe",
    "record",
    "start",
    "start_of_stranger",
]

PAID_STATES: Final = frozenset({AttemptState.SUCCEEDED, AttemptState.QUARANTINED})
"""States of an attempt in which the provider has money that can go back."""

_STARTED: Final = "STARTED"
_REFUNDS: Final = schema.refunds
_DUE: Final = (
    sa.select(_REFUNDS)
    .where(_REFUNDS.c.next_try_ms <= sa.bindparam("now_ms"))
    .order_by(_REFUNDS.c.next_try_ms, _REFUNDS.c.refund_id)
    .limit(sa.bindparam("limit"))
)
_NEXT_TRY: Final = sa.select(sa.func.min(_REFUNDS.c.next_try_ms))

RefundRefusal = str
"""`UNKNOWN_ATTEMPT`, `NOT_PAID`, `OVER_PAID` or `CONFLICT`; empty for none."""


@dataclass(frozen=True, slots=True)
class NewRefund:
    """Is what somebody wants back.

    Attributes:
        request_id: Makes it one refund; one that the service makes itself has a slash in it.
        attempt_id: Whose money.
        amount_minor: Minor units of what was paid; 0: all that is left.
        reason: Why, 1 to 256 bytes.
        actor: Who asks.
    """

    request_id: str
    attempt_id: str
    amount_minor: int
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class RefundResult:
    """Says what became of the wish for a refund.

    Attributes:
        row: The refund; None if it was refused.
        is_new: True if this call has written it down.
        refusal: Why not; empty if there is a refund.
        conflict_field: Field that differs from the first call; only with CONFLICT.
    """

    row: sa.Row[Any] | None
    is_new: bool = False
    refusal: RefundRefusal = ""
    conflict_field: str = ""


@dataclass(frozen=True, slots=True)
class RefundNews:
    """Is one thing learnt about a refund.

    Attributes:
        event: What it was.
        cause: Why it was learnt now, and who is behind it.
        refund_no: The provider's number; empty if not told.
        failure_code: The provider's words for a refusal; empty otherwise.
        occurred_ms: When it happened; 0 if not told.
    """

    event: RefundEvent
    cause: Cause
    refund_no: str = ""
    failure_code: str = ""
    occurred_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Money:
    """Says where money is that goes back, and for which order it came."""

    provider: str
    currency: str
    order_id: str


def load(connection: sa.Connection, refund_id: str) -> sa.Row[Any] | None:
    """Returns a refund, or None."""
    query = sa.select(_REFUNDS).where(_REFUNDS.c.refund_id == refund_id)
    return connection.execute(query).one_or_none()


def key(row: sa.Row[Any]) -> str:
    """Returns the idempotency key of a refund at its provider.

    However often a call is repeated, the money goes back once. Only after the provider has refused
    does the next try have another key: the old one would be answered with the old refusal.
    """
    return f"{row.refund_id}.{row.refusal_count}" if row.refusal_count else str(row.refund_id)


def of_key(connection: sa.Connection, refund_key: str) -> sa.Row[Any] | None:
    """Returns the refund that has this key now, or None."""
    row = load(connection, refund_key.partition(".")[0])
    return row if row is not None and key(row) == refund_key else None


def done_minor(connection: sa.Connection, attempt: sa.Row[Any]) -> int:
    """Returns how much of an attempt's money is back, minor units."""
    is_done = _REFUNDS.c.state == RefundState.DONE.value
    return _sum(connection, is_done, attempt.attempt_id, attempt.provider)


def start(
    connection: sa.Connection, wanted: NewRefund, *, now_ms: int, retry_pause_ms: int
) -> RefundResult:
    """Writes a refund down as INIT, unless it is there already or would give back too much.

    A repeat of one that was given up is tried once more, if that is long enough ago; so is it when
    nothing else is left to give back.

    Args:
        connection: Inside a transaction.
        wanted: What is asked for.
        now_ms: The time; the first try is due at once.
        retry_pause_ms: How long after its last change a given-up refund is tried again at most.
    """
    found = _of_request(connection, wanted.request_id)
    if found is not None:
        field = _differing_field(found, wanted)
        if field:
            return RefundResult(None, refusal="CONFLICT", conflict_field=field)
        return RefundResult(_tried_again(connection, found, wanted, now_ms, retry_pause_ms))
    attempt = attempts.load(connection, wanted.attempt_id)
    if attempt is None or attempt.state not in PAID_STATES:
        return RefundResult(None, refusal="UNKNOWN_ATTEMPT" if attempt is None else "NOT_PAID")
    left = _left_minor(connection, attempt)
    given_up = None if left else _given_up(connection, wanted.attempt_id)
    if given_up is not None:
        return RefundResult(_tried_again(connection, given_up, wanted, now_ms, 0))
    if wanted.amount_minor > left or left == 0:
        return RefundResult(None, refusal="OVER_PAID")
    return RefundResult(_insert(connection, _money(attempt), wanted, left, now_ms), is_new=True)


def start_of_stranger(
    connection: sa.Connection, incident: sa.Row[Any], wanted: NewRefund, *, now_ms: int
) -> RefundResult:
    """Writes down that money goes back of an attempt that nobody here has started.

    Args:
        connection: Inside a transaction.
        incident: Names provider and attempt, and what was told to be paid; that bounds the sum.
        wanted: What is asked for; an amount of 0 is all that is left.
        now_ms: The time; the first try is due at once.
    """
    orphans = schema.orphans
    paid = sa.select(orphans.c.amount_minor, orphans.c.currency).where(
        orphans.c.provider == incident.provider,
        orphans.c.attempt_id == incident.attempt_id,
        orphans.c.kind == "payment.succeeded",
    )
    told = connection.execute(paid.order_by(orphans.c.orphan_id.desc()).limit(1)).one_or_none()
    if told is None:
        return RefundResult(None, refusal="NOT_PAID")
    gone = _sum(connection, sa.true(), incident.attempt_id, incident.provider)
    left = told.amount_minor - gone
    if left < max(1, wanted.amount_minor):
        return RefundResult(None, refusal="OVER_PAID")
    money = _Money(incident.provider, told.currency, incident.order_id)
    return RefundResult(_insert(connection, money, wanted, left, now_ms), is_new=True)


def owe(connection: sa.Connection, attempt_id: str, cause: Cause, *, now_ms: int) -> bool:
    """Writes down that the ledger owes an attempt's money: what is left of it goes back.

    Args:
        connection: Inside a transaction.
        attempt_id: The attempt.
        cause: The ledger's event or answer.
        now_ms: The time.

    Returns:
        False if the attempt is unknown.
    """
    attempt = attempts.owe(connection, attempt_id)
    if attempt is None:
        return False
    wanted = NewRefund(
        request_id=f"due/{attempt_id}",
        attempt_id=attempt_id,
        amount_minor=0,
        reason=f"owed by the ledger ({cause.text})",
        actor=cause.actor,
    )
    if _of_request(connection, wanted.request_id) is not None:
        return True
    left = _left_minor(connection, attempt)
    if left > 0:
        _insert(connection, _money(attempt), wanted, left, now_ms)
    elif done_minor(connection, attempt) >= _paid_minor(attempt) > 0:
        outbox.add_refunded(connection, attempt, refund_no="", now_ms=now_ms)
    return True


def due(connection: sa.Connection, now_ms: int, limit: int) -> Sequence[sa.Row[Any]]:
    """Returns refunds to carry on with now, oldest first."""
    return connection.execute(_DUE, {"now_ms": now_ms, "limit": limit}).all()


def next_try_ms(connection: sa.Connection) -> int | None:
    """Returns when the next refund is due, or None."""
    soonest: int | None = connection.execute(_NEXT_TRY).scalar_one()
    return soonest


def record(
    connection: sa.Connection,
    refund_id: str,
    news: RefundNews,
    *,
    now_ms: int,
    schedule: Schedule,
) -> RefundEffect | None:
    """Decides what an event means and writes down everything that follows from it.

    Args:
        connection: Inside a transaction; the change and its consequences commit together.
        refund_id: The refund.
        news: What was learnt.
        now_ms: The time.
        schedule: Says when to try or ask next.

    Returns:
        The effect; None if there is no such refund.
    """
    row = load(connection, refund_id)
    if row is None:
        return None
    decision = decide(RefundState(row.state), news.event)
    values = _values(row, news, decision.effect, now_ms, schedule)
    if decision.state != row.state:
        values["state"] = decision.state.value
    if values:
        _update(connection, refund_id, values | {"update_ms": now_ms})
    is_heard_often = decision.effect in (RefundEffect.CALL_AGAIN, RefundEffect.ASK_LATER)
    if not is_heard_often or decision.state != row.state:
        move = _move(row, news.event.value, row.state, decision.state.value, decision.effect)
        transitions.write(connection, move, news.cause, now_ms=now_ms)
    is_last = decision.effect is RefundEffect.TRY_LATER and values["next_try_ms"] is None
    _note_incident(connection, row, news, decision.effect, is_given_up=is_last, now_ms=now_ms)
    if decision.effect is RefundEffect.SETTLE:
        _settle_if_all_is_back(connection, row, news, now_ms=now_ms, schedule=schedule)
    return decision.effect


# --- inside --------------------------------------------------------------------------------


def _of_request(connection: sa.Connection, request_id: str) -> sa.Row[Any] | None:
    query = sa.select(_REFUNDS).where(_REFUNDS.c.request_id == request_id)
    return connection.execute(query).one_or_none()


def _left_minor(connection: sa.Connection, attempt: sa.Row[Any]) -> int:
    # A refused refund counts as well: it may be tried again at any time.
    return _paid_minor(attempt) - _sum(connection, sa.true(), attempt.attempt_id, attempt.provider)


def _money(attempt: sa.Row[Any]) -> _Money:
    currency = attempt.paid_currency or attempt.currency
    return _Money(attempt.provider, currency, attempt.order_id)


def _insert(
    connection: sa.Connection, money: _Money, wanted: NewRefund, left: int, now_ms: int
) -> sa.Row[Any]:
    refund_id = _refund_id(wanted)
    connection.execute(
        sa.insert(_REFUNDS),
        {
            "refund_id": refund_id,
            "request_id": wanted.request_id,
            "attempt_id": wanted.attempt_id,
            "order_id": money.order_id,
            "provider": money.provider,
            "amount_minor": wanted.amount_minor or left,
            "asked_minor": wanted.amount_minor,
            "currency": money.currency,
            "reason": wanted.reason,
            "actor": wanted.actor,
            "state": RefundState.INIT.value,
            "create_ms": now_ms,
            "update_ms": now_ms,
            "next_try_ms": now_ms,
        },
    )
    row = load(connection, refund_id)
    if row is None:
        raise AssertionError(f"refund {refund_id} was written and is gone")
    move = _move(row, _STARTED, "", row.state, "")
    cause = Cause(f"call RefundAttempt {wanted.request_id}", wanted.actor)
    transitions.write(connection, move, cause, now_ms=now_ms)
    return row


def _refund_id(wanted: NewRefund) -> str:
    """Returns an id that follows from the request, so that a repeat can only be the same refund."""
    digest = hashlib.sha256(f"{wanted.attempt_id} {wanted.request_id}".encode())
    return f"r-{digest.hexdigest()[:24]}"


def _differing_field(row: sa.Row[Any], wanted: NewRefund) -> str:
    pairs = (
        ("attempt_id", row.attempt_id, wanted.attempt_id),
        ("amount_minor", row.asked_minor, wanted.amount_minor),
        ("reason", row.reason, wanted.reason),
    )
    return next((name for name, first, now in pairs if first != now), "")


def _given_up(connection: sa.Connection, attempt_id: str) -> sa.Row[Any] | None:
    query = sa.select(_REFUNDS).where(
        _REFUNDS.c.attempt_id == attempt_id,
        _REFUNDS.c.state == RefundState.FAILED.value,
        _REFUNDS.c.next_try_ms.is_(None),
    )
    return connection.execute(query.order_by(_REFUNDS.c.create_ms).limit(1)).one_or_none()


def _tried_again(
    connection: sa.Connection, row: sa.Row[Any], wanted: NewRefund, now_ms: int, pause_ms: int
) -> sa.Row[Any]:
    """Lets a given-up refund be tried once more; returns it as it then stands."""
    is_given_up = row.state == RefundState.FAILED and row.next_try_ms is None
    if not is_given_up or now_ms - row.update_ms < pause_ms:
        return row
    _update(connection, row.refund_id, {"next_try_ms": now_ms, "update_ms": now_ms})
    move = _move(row, RefundEvent.TRY_AGAIN.value, row.state, row.state, RefundEffect.CALL_NOW)
    cause = Cause(f"call RefundAttempt {wanted.request_id}", wanted.actor)
    transitions.write(connection, move, cause, now_ms=now_ms)
    return load(connection, row.refund_id) or row


def _values(
    row: sa.Row[Any], news: RefundNews, effect: RefundEffect, now_ms: int, schedule: Schedule
) -> dict[str, Any]:
    """Returns what an event changes beside the state."""
    told = {"refund_no": news.refund_no} if news.refund_no else {}
    match effect:
        case RefundEffect.SETTLE:
            done = {"done_ms": news.occurred_ms or now_ms, "next_try_ms": None}
            return told | done | {"failure_code": ""}
        case RefundEffect.ASK_LATER:
            asks = row.ask_count + 1
            again_ms = schedule.refund_ask_ms(ask_count=asks, now_ms=now_ms)
            return told | {"ask_count": asks, "silence_count": 0, "next_try_ms": again_ms}
        case RefundEffect.TRY_LATER:
            refusals = row.refusal_count + 1
            again = schedule.refund_again_ms(refusal_count=refusals, now_ms=now_ms)
            # The refused one has ended: the next try is another refund at the provider.
            fresh = {"refund_no": "", "ask_count": 0, "silence_count": 0}
            code = {"failure_code": news.failure_code, "refusal_count": refusals}
            return fresh | code | {"next_try_ms": again}
        case RefundEffect.CALL_AGAIN:
            silence = row.silence_count + 1
            again_ms = schedule.retry_ms(try_count=silence, now_ms=now_ms)
            return {"silence_count": silence, "next_try_ms": again_ms}
        case RefundEffect.CALL_NOW:
            return {"next_try_ms": now_ms}
        case RefundEffect.ALARM | RefundEffect.IGNORE:
            return {}


def _note_incident(
    connection: sa.Connection,
    row: sa.Row[Any],
    news: RefundNews,
    effect: RefundEffect,
    *,
    is_given_up: bool,
    now_ms: int,
) -> None:
    """Tells a human of what the service cannot mend, and takes it back when it mends itself."""
    if effect is RefundEffect.SETTLE and row.refusal_count:
        incidents.end(
            connection,
            IncidentKind.REFUND_GIVEN_UP,
            attempt_id=row.attempt_id,
            refund_key=row.refund_id,
            reason="the refund is done",
            now_ms=now_ms,
        )
    elif is_given_up or effect is RefundEffect.ALARM:
        kind = IncidentKind.REFUND_GIVEN_UP if is_given_up else IncidentKind.REFUND_SENT_BACK
        sighting = Sighting(
            kind,
            provider=row.provider,
            attempt_id=row.attempt_id,
            what=f"refund refused: {news.failure_code}" if is_given_up else "refund sent back",
            # A retry that is refused again is news, also if it was resolved before.
            source=f"{news.cause.text} (refusal {row.refusal_count + 1})",
            refund_key=row.refund_id,
            order_id=row.order_id,
            expected_minor=row.amount_minor,
            expected_currency=row.currency,
        )
        incidents.note(connection, sighting, now_ms=now_ms, is_news=True)


def _settle_if_all_is_back(
    connection: sa.Connection,
    row: sa.Row[Any],
    news: RefundNews,
    *,
    now_ms: int,
    schedule: Schedule,
) -> None:
    attempt = attempts.load(connection, row.attempt_id)
    # The number of a stranger may be that of an attempt of ours at another provider.
    if attempt is None or attempt.provider != row.provider:
        return
    if done_minor(connection, attempt) < _paid_minor(attempt):
        return
    if attempt.state == AttemptState.QUARANTINED:
        # Wrong money has bought nothing; once it is back the unit need not wait for it.
        fact = Fact(News.REFUNDED, "refund after quarantine", cause=f"refund {row.refund_id}")
        attempts.record(connection, row.attempt_id, fact, now_ms=now_ms, schedule=schedule)
    elif attempt.is_refund_due:
        refund_no = news.refund_no or row.refund_no
        outbox.add_refunded(connection, attempt, refund_no=refund_no, now_ms=now_ms)


def _paid_minor(attempt: sa.Row[Any]) -> int:
    # The ledger may owe money of which it has heard and we have not; then what was asked for.
    return int(attempt.paid_amount_minor or attempt.amount_minor)


def _sum(
    connection: sa.Connection, which: sa.ColumnElement[bool], attempt_id: str, provider: str
) -> int:
    total = sql.total(_REFUNDS.c.amount_minor)
    query = sa.select(total).where(
        _REFUNDS.c.attempt_id == attempt_id, _REFUNDS.c.provider == provider, which
    )
    return int(connection.execute(query).scalar_one())


def _update(connection: sa.Connection, refund_id: str, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(_REFUNDS).where(_REFUNDS.c.refund_id == refund_id).values(**values)
    )


def _move(row: sa.Row[Any], event: str, state_from: str, state_to: str, effect: str) -> Move:
    return Move(
        Entity.REFUND,
        row.refund_id,
        event,
        state_from,
        state_to,
        effect,
        attempt_id=row.attempt_id,
        order_id=row.order_id,
    )
