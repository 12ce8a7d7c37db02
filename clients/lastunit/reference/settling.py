"""SettlePayment and RecordRefund: what the provider says, which is the truth.

Owns rows 9 to 12, 16 to 18, 21 and 23 of the reservation's life. Must not look at limits or sale
times: money is never refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.reference import pools, reserving
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.state import Attempt
from lastunit.reference.words import optional_millis
from lastunit.stock.v1 import outcome_pb2, reservation_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Part, Reservation

__all__ = ["record_refund", "settle_payment"]

OPEN: Final = reservation_pb2.ATTEMPT_STATE_OPEN
FAILED: Final = reservation_pb2.ATTEMPT_STATE_FAILED
CANCELLED: Final = reservation_pb2.ATTEMPT_STATE_CANCELLED
APPLIED: Final = reservation_pb2.ATTEMPT_STATE_APPLIED
REFUND_DUE: Final = reservation_pb2.ATTEMPT_STATE_REFUND_DUE
REFUNDED: Final = reservation_pb2.ATTEMPT_STATE_REFUNDED

# Later news counts only if it has a higher rank.
RANK_OF_STATE: Final[dict[int, int]] = {
    OPEN: 0,
    FAILED: 1,
    CANCELLED: 1,
    APPLIED: 2,
    REFUND_DUE: 2,
    REFUNDED: 3,
}
SUCCEEDED: Final = reservation_pb2.PAYMENT_RESULT_SUCCEEDED
RANK_OF_NEWS: Final = {
    SUCCEEDED: 2,
    reservation_pb2.PAYMENT_RESULT_FAILED: 1,
    reservation_pb2.PAYMENT_RESULT_CANCELLED: 1,
}
IN_PAYMENT: Final = (reservation_pb2.STATE_PAYING, reservation_pb2.STATE_OVERDUE)


def settle_payment(ledger: Ledger, request: Any) -> Answer:
    """Records what the provider said of an attempt."""
    if is_of_another(ledger, request):
        return refused(outcome_pb2.OUTCOME_CONFLICT, conflict_field="reservation_id")
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    is_success = request.payment_result == SUCCEEDED
    attempt = reservation.attempts.get(request.attempt_id)
    if attempt is None and not is_success:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_ATTEMPT, reservation)
    if attempt is not None and RANK_OF_NEWS[request.payment_result] <= RANK_OF_STATE[attempt.state]:
        return ignore(ledger, request, reservation, attempt)
    note_lag(ledger, request)
    if is_success:
        return succeed(ledger, request, reservation, attempt)
    return fail(ledger, request, reservation, reservation.attempts[request.attempt_id])


def is_of_another(ledger: Ledger, request: Any) -> bool:
    """Tells whether the attempt belongs to another reservation than the one named."""
    owner = ledger.attempts.get(request.attempt_id)
    return owner is not None and owner.reservation_id != request.reservation_id


def note_lag(ledger: Ledger, request: Any) -> None:
    """Notes how late the news is: the automatic brake on expiry looks at it."""
    occurred = optional_millis(request, "occurred_time")
    if occurred is not None:
        ledger.last_lag = (ledger.now - occurred, ledger.now)


def news_of(request: Any) -> dict[str, Any]:
    """Returns what each event about news keeps of it."""
    return {
        "attempt_id": request.attempt_id,
        "payment_result": request.payment_result,
        "occurred_time": optional_millis(request, "occurred_time"),
        "evidence": request.evidence,
    }


def ignore(ledger: Ledger, request: Any, reservation: Reservation, attempt: Attempt) -> Answer:
    """Notes news of no higher rank than what is known; nothing changes."""
    ledger.record(
        "payment_news_ignored",
        reservation,
        state_from=reservation.state,
        attempt_state=attempt.state,
        **news_of(request),
    )
    is_due = attempt.state == REFUND_DUE
    return done(reservation, attempt_state=attempt.state, ignored=True, refund_due=is_due)


def succeed(
    ledger: Ledger, request: Any, reservation: Reservation, attempt: Attempt | None
) -> Answer:
    """Honours a success: the units are sold, taken again, or the money is owed back."""
    is_unregistered = attempt is None
    if attempt is None:
        attempt = Attempt(request.attempt_id, OPEN, ledger.now, is_unregistered=True)
        reservation.attempts[attempt.attempt_id] = attempt
        ledger.attempts[attempt.attempt_id] = reservation
    state_from = reservation.state
    parts: list[Part] | None = None
    attempt.state = APPLIED
    if state_from in (reservation_pb2.STATE_HELD, *IN_PAYMENT):
        ledger.enter(reservation, reservation_pb2.STATE_CONFIRMED)
    elif state_from == reservation_pb2.STATE_RELEASED:
        parts = parts_for_late_money(ledger, reservation)
        if parts is None:
            attempt.state = REFUND_DUE
            reservation.state = reservation_pb2.STATE_REFUND_DUE
        else:
            ledger.take_again(reservation, parts, reservation_pb2.STATE_CONFIRMED)
    else:
        attempt.state = REFUND_DUE
    is_due = attempt.state == REFUND_DUE
    if reservation.state != state_from:
        ledger.touch(reservation)
    ledger.record(
        "payment_settled",
        reservation,
        state_from=state_from,
        attempt_state=attempt.state,
        state=reservation.state,
        retaken=parts is not None,
        unregistered_attempt=is_unregistered,
        taken=reserving.taken_of(parts or []),
        **news_of(request),
    )
    if is_due:
        ledger.record("refund_became_due", reservation, attempt_id=attempt.attempt_id)
    if not is_due:
        for other in reservation.open_attempts():
            ledger.record("cancel_at_provider_requested", reservation, attempt_id=other.attempt_id)
    return done(
        reservation,
        attempt_state=attempt.state,
        retaken=parts is not None,
        refund_due=is_due,
        unregistered_attempt=is_unregistered,
    )


def parts_for_late_money(ledger: Ledger, reservation: Reservation) -> list[Part] | None:
    """Finds units for money that came after the release: the buffer first, then what is free."""
    sale = reservation.sale
    if ledger.sale_state(sale) == sale_pb2.SALE_STATE_ARCHIVED:
        return None
    return pools.draw_late(sale, reservation.lines)


def fail(ledger: Ledger, request: Any, reservation: Reservation, attempt: Attempt) -> Answer:
    """Closes an attempt; the last one decides what becomes of the units."""
    state_from = reservation.state
    is_failure = request.payment_result == reservation_pb2.PAYMENT_RESULT_FAILED
    attempt.state = FAILED if is_failure else CANCELLED
    is_over = state_from in IN_PAYMENT and not reservation.open_attempts()
    expires = None
    if is_over and may_try_again(ledger, reservation):
        grace = ledger.now + reservation.sale.policy.retry_grace
        expires = min(max(reservation.expires, grace), reservation.max_life)
        reservation.expires = expires
        ledger.enter(reservation, reservation_pb2.STATE_HELD)
        ledger.watch_hold(reservation)
    elif is_over:
        reservation.release_reason = reservation_pb2.RELEASE_REASON_PAYMENT_FAILED
        ledger.enter(reservation, reservation_pb2.STATE_RELEASED)
    if reservation.state != state_from:
        ledger.touch(reservation)
    ledger.record(
        "payment_settled",
        reservation,
        state_from=state_from,
        attempt_state=attempt.state,
        state=reservation.state,
        expire_time=expires,
        **news_of(request),
    )
    return done(reservation, attempt_state=attempt.state, expire_time=expires)


def may_try_again(ledger: Ledger, reservation: Reservation) -> bool:
    """Tells whether the buyer keeps the units for another try after the last failure."""
    return (
        reservation.state == reservation_pb2.STATE_PAYING
        and ledger.now < reservation.max_life
        and not reservation.is_release_requested
        and ledger.sale_state(reservation.sale) != sale_pb2.SALE_STATE_CANCELLED
    )


def record_refund(ledger: Ledger, request: Any) -> Answer:
    """Records that owed money went back to the buyer."""
    if is_of_another(ledger, request):
        return refused(outcome_pb2.OUTCOME_CONFLICT, conflict_field="reservation_id")
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    attempt = reservation.attempts.get(request.attempt_id)
    if attempt is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_ATTEMPT, reservation)
    if attempt.state != REFUND_DUE:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)
    state_from = reservation.state
    attempt.state = REFUNDED
    is_owed = any(other.state == REFUND_DUE for other in reservation.attempts.values())
    if state_from == reservation_pb2.STATE_REFUND_DUE and not is_owed:
        reservation.state = reservation_pb2.STATE_REFUNDED
        ledger.touch(reservation)
    ledger.record(
        "refund_recorded",
        reservation,
        state_from=state_from,
        attempt_id=attempt.attempt_id,
        state=reservation.state,
        evidence=request.evidence,
    )
    return done(reservation)
