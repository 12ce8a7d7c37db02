"""Writes down what is learnt about attempts; every change of an attempt goes through here.

Owns the attempts, their news, and the rows of the outbox that a change causes, all in the
caller's transaction. Must not call anybody: it gets a connection and facts, and returns rows.
Next: `lastunit.payment.outbox` tells the ledger, `lastunit.payment.reconciler` asks the provider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.payment import incidents, outbox, schema, transitions
from lastunit.payment.incidents import IncidentKind, Sighting
from lastunit.payment.provider import CreateOrder, Known
from lastunit.payment.states import OPEN_STATES, AttemptState, Decision, Effect, News, decide
from lastunit.payment.transitions import Cause, Entity, Move

if TYPE_CHECKING:
    from lastunit.payment.provider import ProviderAttempt
    from lastunit.payment.schedule import Schedule

__all__ = [
    "AttemptRow",
    "Fact",
    "NewAttempt",
    "StartResult",
    "ask_soon",
    "fact_from_provider",
    "known",
    "load",
    "open_provider",
    "order_of",
    "owe",
    "record",
    "start",
    "to_close",
]

AttemptRow = sa.Row[Any]

_OPEN_NAMES: Final = tuple(state.value for state in OPEN_STATES)

# Rows that no table of states has: the first one of an attempt, and the wish to close it.
_STARTED: Final = "STARTED"
_CLOSE_ASKED: Final = "CLOSE_ASKED"

# Statements of every step are built once: building one costs more than running it.
_LOAD: Final = sa.select(schema.attempts).where(
    schema.attempts.c.attempt_id == sa.bindparam("wanted")
)


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """Is what the order service asks for.

    Attributes:
        attempt_id: Our number at the provider; 1 to 64 bytes.
        order_id: The order it pays for.
        reservation_id: The reservation in the ledger.
        provider: Who takes the money.
        method: How.
        amount_minor: Minor units, 1 or more.
        currency: Three capitals.
        settle_by_ms: When the ledger calls it overdue, milliseconds since the epoch.
    """

    attempt_id: str
    order_id: str
    reservation_id: str
    provider: str
    method: str
    amount_minor: int
    currency: str
    settle_by_ms: int


@dataclass(frozen=True, slots=True)
class StartResult:
    """Says what became of the wish to start an attempt.

    Attributes:
        row: The attempt as it stands; None if it was refused.
        is_new: True if this call has written it down.
        conflict_field: Field that differs from the first call; empty without a conflict.
        is_too_many: True if the order has had as many attempts as it may.
        is_other_provider_open: True if money may still come by another provider.
    """

    row: AttemptRow | None
    is_new: bool = False
    conflict_field: str = ""
    is_too_many: bool = False
    is_other_provider_open: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """Is one thing learnt about an attempt.

    Attributes:
        news: What it was.
        source: Where from, such as `callback e-12` or `query`; goes into the evidence.
        provider_no: The provider's number; empty if not told.
        pay_url: Where the buyer pays; empty if not told.
        amount_minor: What was paid, minor units; used with PAID only.
        currency: In which currency.
        occurred_ms: When it happened; 0 if not told.
        state_version: The provider's version; 0 if not told.
        failure_code: The provider's code; empty if none.
        cause: Why it was learnt now, such as `timer ask`; empty: the source says it.
        actor: Who is behind it; empty: the provider.
    """

    news: News
    source: str
    provider_no: str = ""
    pay_url: str = ""
    amount_minor: int = 0
    currency: str = ""
    occurred_ms: int = 0
    state_version: int = 0
    failure_code: str = ""
    cause: str = ""
    actor: str = ""


def fact_from_provider(
    news: News, source: str, attempt: ProviderAttempt, *, cause: str = ""
) -> Fact:
    """Returns a fact with everything the provider told of the attempt."""
    return Fact(
        cause=cause,
        news=news,
        source=source,
        provider_no=attempt.provider_no,
        pay_url=attempt.pay_url,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        occurred_ms=attempt.occurred_ms,
        state_version=attempt.state_version,
        failure_code=attempt.failure_code,
    )


def order_of(row: AttemptRow) -> CreateOrder:
    """Returns what the provider is asked for; the same at every repeat."""
    return CreateOrder(
        merchant_no=row.attempt_id,
        method=row.method,
        amount_minor=row.amount_minor,
        currency=row.currency,
        expire_ms=row.settle_by_ms,
    )


def known(row: AttemptRow, *, refund_no: str = "") -> Known:
    """Returns what is known of an attempt, for a provider that cannot find it by our number."""
    return Known(row.provider_no, order_of(row) if row.amount_minor else None, refund_no)


def load(connection: sa.Connection, attempt_id: str) -> AttemptRow | None:
    """Returns an attempt, or None."""
    return connection.execute(_LOAD, {"wanted": attempt_id}).one_or_none()


def open_provider(connection: sa.Connection, order_id: str) -> str | None:
    """Returns the provider that may still take money for an order, or None."""
    query = sa.select(schema.attempts.c.provider).where(
        schema.attempts.c.order_id == order_id, schema.attempts.c.state.in_(_OPEN_NAMES)
    )
    return connection.execute(query.limit(1)).scalar_one_or_none()


def start(
    connection: sa.Connection,
    wanted: NewAttempt,
    *,
    now_ms: int,
    first_ask_ms: int,
    attempts_max: int,
    actor: str = transitions.OWN_ACTOR,
) -> StartResult:
    """Writes an attempt down as INIT, before anybody calls the provider.

    Args:
        connection: Inside a transaction.
        wanted: What is asked for.
        now_ms: The time.
        first_ask_ms: When to ask if a crash hides what the create call did.
        attempts_max: Attempts one order may have.
        actor: Who asks for it.
    """
    found = load(connection, wanted.attempt_id)
    if found is not None:
        return StartResult(found, conflict_field=_differing_field(found, wanted))
    siblings = connection.execute(
        sa.select(schema.attempts.c.provider, schema.attempts.c.state).where(
            schema.attempts.c.order_id == wanted.order_id
        )
    ).all()
    if len(siblings) >= attempts_max:
        return StartResult(None, is_too_many=True)
    if any(row.state in _OPEN_NAMES and row.provider != wanted.provider for row in siblings):
        return StartResult(None, is_other_provider_open=True)
    cause = Cause(f"call StartAttempt {wanted.attempt_id}", actor)
    _insert(connection, wanted, AttemptState.INIT, cause, now_ms=now_ms, next_ask_ms=first_ask_ms)
    return StartResult(load(connection, wanted.attempt_id), is_new=True)


def record(
    connection: sa.Connection, attempt_id: str, fact: Fact, *, now_ms: int, schedule: Schedule
) -> Decision | None:
    """Decides what a fact means and writes down everything that follows from it.

    Args:
        connection: Inside a transaction; the change and its consequences commit together.
        attempt_id: The attempt.
        fact: What was learnt.
        now_ms: The time.
        schedule: Says when to ask next while money may come.

    Returns:
        The decision; None if nobody has ever started this attempt.
    """
    row = load(connection, attempt_id)
    if row is None:
        return None
    state = AttemptState(row.state)
    news = _checked_news(row, fact)
    decision = decide(state, news)
    values: dict[str, Any] = {"state": decision.state.value}
    if decision.effect is Effect.IGNORE:
        values = {"ignored_count": row.ignored_count + 1}
    elif decision.effect is Effect.KEEP_ASKING:
        values |= _told(row, fact)
        values["next_ask_ms"] = _next_ask_ms(row, decision, news, now_ms, schedule)
    else:
        values |= _told(row, fact) | {"next_ask_ms": None}
    if news in (News.PAID, News.PAID_DIFFERENTLY) and decision.effect is not Effect.IGNORE:
        values |= {"paid_amount_minor": fact.amount_minor, "paid_currency": fact.currency}
        # A bill is compared by it, so there has to be one.
        values["occurred_ms"] = fact.occurred_ms or now_ms
    if decision.effect is Effect.SETTLE_FAILED:
        values["failure_step"] = fact.source.partition(" ")[0]
    _update(connection, attempt_id, values)
    # That it is still open is no change, and is heard too often to be kept.
    if decision.effect is not Effect.KEEP_ASKING or decision.state is not state:
        move = _move(row, news.value, state.value, decision.state.value, decision.effect.value)
        cause = Cause(fact.cause or fact.source, fact.actor or row.provider)
        transitions.write(connection, move, cause, now_ms=now_ms)
    if decision.effect is Effect.QUARANTINE:
        incidents.note(connection, _other_money(row, fact), now_ms=now_ms)
    elif news is News.REFUNDED and decision.effect is not Effect.IGNORE:
        _end_quarantine(connection, attempt_id, now_ms)
    outbox.add_settlement(connection, row, decision.effect, fact, now_ms=now_ms)
    return decision


def ask_soon(
    connection: sa.Connection,
    attempt_id: str,
    cause: Cause,
    *,
    now_ms: int,
    is_close_asked: bool,
) -> bool:
    """Puts an open attempt at the head of the asks; returns False if it is unknown.

    Args:
        connection: Inside a transaction.
        attempt_id: The attempt.
        cause: Who wants it.
        now_ms: The time.
        is_close_asked: True to close it at the provider, whatever its age.
    """
    row = load(connection, attempt_id)
    if row is None:
        return False
    if row.state not in _OPEN_NAMES:
        return True
    if is_close_asked and not row.is_close_asked:
        move = _move(row, _CLOSE_ASKED, row.state, row.state, "KEEP_ASKING")
        transitions.write(connection, move, cause, now_ms=now_ms)
    asked = row.is_close_asked or is_close_asked
    _update(connection, attempt_id, {"next_ask_ms": now_ms, "is_close_asked": asked})
    return True


def owe(connection: sa.Connection, attempt_id: str) -> AttemptRow | None:
    """Notes that the ledger owes an attempt's money back; returns the attempt, None if unknown."""
    _update(connection, attempt_id, {"is_refund_due": True})
    return load(connection, attempt_id)


def to_close(
    connection: sa.Connection,
    attempt_id: str,
    *,
    reservation_id: str,
    provider: str,
    cause: Cause,
    now_ms: int,
) -> None:
    """Writes down an attempt that the ledger knows and nobody has started, to be closed.

    Its number is barred at the provider, so that a start that comes late can take no money; only
    the provider's word on that lets the unit go back.
    """
    barred = NewAttempt(
        attempt_id=attempt_id,
        order_id=reservation_id,
        reservation_id=reservation_id,
        provider=provider,
        method="",
        amount_minor=0,
        currency="",
        settle_by_ms=now_ms,
    )
    _insert(connection, barred, AttemptState.UNKNOWN, cause, now_ms=now_ms, next_ask_ms=now_ms)
    _update(connection, attempt_id, {"is_close_asked": True})


def _insert(
    connection: sa.Connection,
    wanted: NewAttempt,
    state: AttemptState,
    cause: Cause,
    *,
    now_ms: int,
    next_ask_ms: int,
) -> None:
    transitions.write(
        connection, _move(wanted, _STARTED, "", state.value, ""), cause, now_ms=now_ms
    )
    connection.execute(
        sa.insert(schema.attempts),
        {
            "attempt_id": wanted.attempt_id,
            "order_id": wanted.order_id,
            "reservation_id": wanted.reservation_id,
            "provider": wanted.provider,
            "method": wanted.method,
            "amount_minor": wanted.amount_minor,
            "currency": wanted.currency,
            "state": state.value,
            "start_ms": now_ms,
            "settle_by_ms": wanted.settle_by_ms,
            "next_ask_ms": next_ask_ms,
        },
    )


def _move(
    attempt: AttemptRow | NewAttempt, event: str, state_from: str, state_to: str, effect: str
) -> Move:
    return Move(
        Entity.ATTEMPT,
        attempt.attempt_id,
        event,
        state_from,
        state_to,
        effect,
        attempt_id=attempt.attempt_id,
        order_id=attempt.order_id,
    )


def _update(connection: sa.Connection, attempt_id: str, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(schema.attempts)
        .where(schema.attempts.c.attempt_id == attempt_id)
        .values(**values)
    )


def _differing_field(row: AttemptRow, wanted: NewAttempt) -> str:
    if row.amount_minor == 0:
        # Closed before it was started: there is nothing to compare, and nothing to start.
        return ""
    for name in ("order_id", "reservation_id", "provider", "method", "amount_minor", "currency"):
        if getattr(row, name) != getattr(wanted, name):
            return name
    return ""


def _checked_news(row: AttemptRow, fact: Fact) -> News:
    is_as_asked = (fact.amount_minor, fact.currency) == (row.amount_minor, row.currency)
    return News.PAID_DIFFERENTLY if fact.news is News.PAID and not is_as_asked else fact.news


def _other_money(row: AttemptRow, fact: Fact) -> Sighting:
    is_currency = fact.currency != row.currency
    kind = IncidentKind.CURRENCY_DIFFERS if is_currency else IncidentKind.AMOUNT_DIFFERS
    return Sighting(
        kind,
        provider=row.provider,
        attempt_id=row.attempt_id,
        what="payment.succeeded",
        source=fact.source,
        order_id=row.order_id,
        expected_minor=row.amount_minor,
        expected_currency=row.currency,
        found_minor=fact.amount_minor,
        found_currency=fact.currency,
    )


def _end_quarantine(connection: sa.Connection, attempt_id: str, now_ms: int) -> None:
    for kind in (IncidentKind.AMOUNT_DIFFERS, IncidentKind.CURRENCY_DIFFERS):
        incidents.end(
            connection,
            kind,
            attempt_id=attempt_id,
            refund_key="",
            reason="all of the money is back",
            now_ms=now_ms,
        )


def _told(row: AttemptRow, fact: Fact) -> dict[str, Any]:
    """Returns what is new of the provider's side; nothing told never erases what is known."""
    told = {
        "provider_no": fact.provider_no or row.provider_no,
        "pay_url": fact.pay_url or row.pay_url,
        "occurred_ms": fact.occurred_ms or row.occurred_ms,
        "provider_version": max(fact.state_version, row.provider_version),
        "failure_code": fact.failure_code or row.failure_code,
    }
    return {name: value for name, value in told.items() if value != getattr(row, name)}


def _next_ask_ms(
    row: AttemptRow, decision: Decision, news: News, now_ms: int, schedule: Schedule
) -> int:
    if news is News.CLOSE_REFUSED:
        return schedule.close_again_ms(start_ms=row.start_ms, now_ms=now_ms)
    if row.is_close_asked and news is News.CREATED:
        # The buyer cancelled while the create call was under way.
        return now_ms
    return schedule.next_ask_ms(
        start_ms=row.start_ms,
        settle_by_ms=row.settle_by_ms,
        now_ms=now_ms,
        is_created=decision.state is AttemptState.OPEN,
    )
