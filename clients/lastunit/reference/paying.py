"""BeginPayment: an attempt to pay opens, and no clock ends the claim from here.

Owns rows 3, 8, 19 and 20 of the reservation's life. Must not look at what providers say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.reference import levels, pools, reserving
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.state import Attempt
from lastunit.reference.words import optional_value
from lastunit.stock.v1 import outcome_pb2, reservation_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Reservation

__all__ = ["begin_payment"]

ENDED_SALES = (sale_pb2.SALE_STATE_CANCELLED, sale_pb2.SALE_STATE_ARCHIVED)


def begin_payment(ledger: Ledger, request: Any) -> Answer:
    """Opens an attempt to pay."""
    owner = ledger.attempts.get(request.attempt_id)
    if owner is not None:
        is_repeat = not owner.attempts[request.attempt_id].is_unregistered
        if is_repeat or owner.reservation_id != request.reservation_id:
            return repeat(ledger, request, owner)
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    is_expired = (
        reservation.state == reservation_pb2.STATE_RELEASED
        and reservation.release_reason == reservation_pb2.RELEASE_REASON_EXPIRED
    )
    refusal = (
        refuse_by_state(reservation, is_expired=is_expired)
        or refuse_by_life(ledger, reservation, is_expired=is_expired)
        or refuse_by_attempts(reservation)
    )
    if is_expired:
        refusal = refusal or refuse_retake(ledger, reservation)
        if refusal:
            return reserving.name_sku(refusal, reservation.sale, reservation.lines)
        return retake(ledger, request, reservation)
    return refusal or open_attempt(ledger, request, reservation)


def repeat(ledger: Ledger, request: Any, owner: Reservation) -> Answer:
    """Gives the first answer again, or names the field that differs."""
    if owner.reservation_id != request.reservation_id:
        return refused(outcome_pb2.OUTCOME_CONFLICT, conflict_field="reservation_id")
    attempt = owner.attempts[request.attempt_id]
    differing = (
        ("provider", request.provider == attempt.provider),
        ("amount_minor", optional_value(request, "amount_minor") == attempt.amount_minor),
        ("currency", request.currency == attempt.currency),
    )
    for field, is_equal in differing:
        if not is_equal:
            return refused(outcome_pb2.OUTCOME_CONFLICT, owner, conflict_field=field)
    return ledger.again(
        attempt.sequence,
        owner,
        settle_by_time=attempt.settle_by,
        retaken=attempt.did_retake,
        attempt_count=attempt.number,
    )


def refuse_by_life(ledger: Ledger, reservation: Reservation, *, is_expired: bool) -> Answer | None:
    """Refuses an expired one past its longest life, and what its sale gives no more."""
    if is_expired and ledger.now >= reservation.max_life:
        return refused(outcome_pb2.OUTCOME_TOO_LATE, reservation)
    if is_expired:
        return refuse_by_sale(ledger, reservation)
    if ledger.sale_state(reservation.sale) in ENDED_SALES:
        return refused(outcome_pb2.OUTCOME_SALE_CLOSED, reservation)
    return None


def refuse_by_sale(ledger: Ledger, reservation: Reservation) -> Answer | None:
    """Refuses to take units again from a sale that is not open, or from a hidden pool."""
    sale = reservation.sale
    answer = reserving.refuse_by_sale(ledger, sale) or reserving.refuse_not_offered(
        sale, reservation.lines
    )
    if answer:
        answer.reservation = reservation
    return answer


def refuse_by_state(reservation: Reservation, *, is_expired: bool) -> Answer | None:
    """Refuses in a state that can't be paid for."""
    payable = (reservation_pb2.STATE_HELD, reservation_pb2.STATE_PAYING)
    if reservation.state not in payable and not is_expired:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)
    return None


def refuse_by_attempts(reservation: Reservation) -> Answer | None:
    """Refuses one attempt too many, and any while a release waits."""
    if reservation.is_release_requested:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, reservation, limit="release_requested")
    if len(reservation.attempts) >= reservation.sale.policy.attempts_per_reservation_max:
        return refused(
            outcome_pb2.OUTCOME_TOO_MANY_ATTEMPTS,
            reservation,
            limit="attempts_per_reservation_max",
        )
    return None


def refuse_retake(ledger: Ledger, reservation: Reservation) -> Answer | None:
    """Refuses what would take the person past a limit by now."""
    answer = reserving.refuse_by_limit(
        ledger, reservation.sale, reservation.person_id, reservation.lines
    )
    if answer:
        answer.reservation = reservation
    return answer


def retake(ledger: Ledger, request: Any, reservation: Reservation) -> Answer:
    """Takes units again that the clock gave back, if there are enough."""
    sale = reservation.sale
    parts, lacking = pools.draw(sale, reservation.lines)
    if lacking:
        return refused(
            outcome_pb2.OUTCOME_SOLD_OUT, reservation, **levels.told(lacking, ledger.now)
        )
    return open_attempt(ledger, request, reservation, parts)


def open_attempt(
    ledger: Ledger, request: Any, reservation: Reservation, parts: list[Any] | None = None
) -> Answer:
    """Opens the attempt: held (or available) becomes paying."""
    state_from = reservation.state
    now = ledger.now
    settle_by = now + reservation.sale.policy.settle_by
    attempt = Attempt(
        attempt_id=request.attempt_id,
        state=reservation_pb2.ATTEMPT_STATE_OPEN,
        begun=now,
        provider=request.provider,
        amount_minor=optional_value(request, "amount_minor"),
        currency=request.currency,
        settle_by=settle_by,
        did_retake=parts is not None,
        number=len(reservation.attempts) + 1,
        sequence=ledger.sequence + 1,
    )
    reservation.attempts[attempt.attempt_id] = attempt
    ledger.attempts[attempt.attempt_id] = reservation
    if parts is None:
        ledger.enter(reservation, reservation_pb2.STATE_PAYING)
    else:
        ledger.take_again(reservation, parts, reservation_pb2.STATE_PAYING)
    reservation.settle_by = settle_by
    ledger.touch(reservation)
    ledger.watch_payment(reservation)
    ledger.record(
        "payment_begun",
        reservation,
        state_from=state_from,
        attempt_id=attempt.attempt_id,
        provider=attempt.provider,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        settle_by_time=settle_by,
        retaken=parts is not None,
        taken=reserving.taken_of(parts or []),
        attempt_count=attempt.number,
    )
    return done(
        reservation,
        settle_by_time=settle_by,
        retaken=parts is not None,
        attempt_count=attempt.number,
    )
