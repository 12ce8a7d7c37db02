"""Confirm, Release, Extend, Return, ReleaseUnverified: the moves that need no payment news.

Owns rows 4, 5, 7, 14, 15 and 22 of the reservation's life. Must not look at what providers say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.reference import levels, paying
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.words import millis, optional_value
from lastunit.stock.v1 import outcome_pb2, reservation_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Part, Reservation

__all__ = ["confirm", "extend", "release", "release_unverified", "request_release", "return_units"]

HELD = reservation_pb2.STATE_HELD
IN_PAYMENT = (reservation_pb2.STATE_PAYING, reservation_pb2.STATE_OVERDUE)


def confirm(ledger: Ledger, request: Any) -> Answer:
    """Sells without a payment step."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    if reservation.state != HELD:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)
    if ledger.sale_state(reservation.sale) in paying.ENDED_SALES:
        return refused(outcome_pb2.OUTCOME_SALE_CLOSED, reservation)
    ledger.enter(reservation, reservation_pb2.STATE_CONFIRMED)
    ledger.record("confirmed", reservation, state_from=HELD)
    return done(reservation)


def release(ledger: Ledger, request: Any) -> Answer:
    """Gives units back, or asks for it while a payment is open."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    if reservation.state == HELD:
        give_back(ledger, reservation, request.release_reason)
        return done(reservation)
    if reservation.state in IN_PAYMENT:
        request_release(ledger, reservation, request.release_reason)
        return done(reservation, release_requested=True)
    return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)


def give_back(ledger: Ledger, reservation: Reservation, reason: int) -> None:
    """Ends a claim: its units are available again."""
    state_from = reservation.state
    reservation.release_reason = reason
    ledger.enter(reservation, reservation_pb2.STATE_RELEASED)
    ledger.record("released", reservation, state_from=state_from, release_reason=reason)


def request_release(ledger: Ledger, reservation: Reservation, reason: int) -> None:
    """Notes the wish and asks the provider, once, to close what is open; the units stay."""
    was_asked = reservation.is_release_requested
    reservation.is_release_requested = True
    ledger.touch(reservation)
    ledger.record(
        "release_requested", reservation, state_from=reservation.state, release_reason=reason
    )
    for attempt in () if was_asked else reservation.open_attempts():
        ledger.record("cancel_at_provider_requested", reservation, attempt_id=attempt.attempt_id)


def extend(ledger: Ledger, request: Any) -> Answer:
    """Prolongs a hold, counted from now, and never shortens it."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    extension = millis(request.extension)
    until = ledger.now + extension
    if reservation.state != HELD:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)
    if until > reservation.max_life:
        return refused(outcome_pb2.OUTCOME_TOO_LATE, reservation, limit="max_life")
    if ledger.sale_state(reservation.sale) in paying.ENDED_SALES:
        return refused(outcome_pb2.OUTCOME_SALE_CLOSED, reservation)
    reservation.expires = max(reservation.expires, until)
    ledger.touch(reservation)
    ledger.watch_hold(reservation)
    ledger.record(
        "extended",
        reservation,
        state_from=HELD,
        extension=extension,
        expire_time=reservation.expires,
    )
    return done(reservation, expire_time=reservation.expires)


def return_units(ledger: Ledger, request: Any) -> Answer:
    """Books goods that came back: sold units, those taken last first."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    policy_gives_back = reservation.sale.policy.does_return_give_limit_back
    asked = optional_value(request, "give_limit_back")
    refusal = refuse_return(reservation, request, asked=asked, policy_gives_back=policy_gives_back)
    if refusal:
        return refusal
    does_give_back = policy_gives_back if asked is None else asked
    taken = []
    for part, units in parts_to_return(reservation, request):
        part.returned += units
        part.limit_given_back += units if does_give_back else 0
        part.pool.move(units, "sold", PLACE_OF_DISPOSITION[request.disposition])
        taken.append((part.line_index, part.sku.name, part.pool.name, units, part.is_from_buffer))
    ledger.touch(reservation)
    if all(part.returned == part.units for part in reservation.parts):
        reservation.state = reservation_pb2.STATE_RETURNED
    ledger.record(
        "returned",
        reservation,
        state_from=reservation_pb2.STATE_CONFIRMED,
        sku=request.sku,
        pool=request.pool,
        units=request.units,
        disposition=request.disposition,
        give_limit_back=asked,
        taken=tuple(taken),
        state=reservation.state,
        is_limit_given_back=does_give_back,
    )
    return done(reservation, returned_units=request.units)


PLACE_OF_DISPOSITION = {
    reservation_pb2.DISPOSITION_RESELL: "available",
    reservation_pb2.DISPOSITION_QUARANTINE: "quarantine",
    reservation_pb2.DISPOSITION_WRITE_OFF: "written_off",
}


def refuse_return(
    reservation: Reservation, request: Any, *, asked: bool | None, policy_gives_back: bool
) -> Answer | None:
    """Refuses what was not sold here, or more than is left of it."""
    sku = reservation.sale.skus.get(request.sku)
    if sku is None or request.sku not in {line[0] for line in reservation.lines}:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_SKU, reservation, sku=request.sku)
    drawn_on = {part.pool.name for part in reservation.parts if part.sku is sku}
    if request.pool and request.pool not in drawn_on:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_POOL, reservation, **levels.named(sku))
    if reservation.state != reservation_pb2.STATE_CONFIRMED:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)
    if asked and not policy_gives_back:
        limit = "does_return_give_limit_back"
        told = levels.named(sku)
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, reservation, limit=limit, **told)
    if sum(units for _, units in parts_to_return(reservation, request)) < request.units:
        return refused(outcome_pb2.OUTCOME_NOT_ENOUGH_UNITS, reservation, **levels.named(sku))
    return None


def parts_to_return(reservation: Reservation, request: Any) -> list[tuple[Part, int]]:
    """Returns which parts give how many units back, those taken last first."""
    missing = request.units
    found = []
    for part in reversed(reservation.parts):
        is_meant = part.sku.name == request.sku and request.pool in ("", part.pool.name)
        units = min(missing, part.units - part.returned)
        if is_meant and units:
            found.append((part, units))
            missing -= units
    return found


def release_unverified(ledger: Ledger, request: Any) -> Answer:
    """Gives units back without the provider's word, if the sale's policy allows it."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    if reservation.state != reservation_pb2.STATE_OVERDUE:
        return refused(outcome_pb2.OUTCOME_WRONG_STATE, reservation)
    if not reservation.sale.policy.is_unverified_release_allowed:
        return refused(
            outcome_pb2.OUTCOME_NOT_ALLOWED, reservation, limit="is_unverified_release_allowed"
        )
    give_back(ledger, reservation, reservation_pb2.RELEASE_REASON_UNVERIFIED)
    for attempt in reservation.open_attempts():
        ledger.record("cancel_at_provider_requested", reservation, attempt_id=attempt.attempt_id)
    return done(reservation)
