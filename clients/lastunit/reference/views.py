"""What can be looked at: reservations, availability, the audit, the life of a reservation.

Owns how state is shown. Must not change anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.reference import levels, limits
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.state import UNPAID_STATES
from lastunit.reference.words import timestamp
from lastunit.stock.v1 import availability_pb2, outcome_pb2, reservation_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Attempt, Pool, Reservation, Sku

__all__ = [
    "audit",
    "explain_reservation",
    "get_availability",
    "get_reservation",
    "list_reservations",
]

COUNTERS = tuple(field.name for field in availability_pb2.Counters.DESCRIPTOR.fields)
SKUS_SHOWN_MAX = 1000


def get_reservation(ledger: Ledger, request: Any) -> Answer:
    """Shows one reservation."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
    return done(reservation, reservation=shown(ledger, reservation))


def list_reservations(ledger: Ledger, request: Any) -> Answer:
    """Shows a page of a sale's reservations, in the order of their places."""
    sale = ledger.sales.get(request.sale_id)
    if sale is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)
    root = limits.root_of(ledger, request.person_id)
    start = int(request.page_token or 0)
    rows = sorted(sale.reservations, key=lambda each: each.number)
    page: list[Any] = []
    token = ""
    for reservation in rows:
        if reservation.number < start:
            continue
        is_kept = not root or root == limits.root_of(ledger, reservation.person_id)
        if is_kept and request.state in (0, reservation.state):
            if len(page) == request.page_size:
                token = str(reservation.number)
                break
            page.append(shown(ledger, reservation))
    return done(reservations=page, next_page_token=token)


def shown(ledger: Ledger, reservation: Reservation) -> reservation_pb2.Reservation:
    """Shows a reservation as it stands."""
    message = reservation_pb2.Reservation(
        reservation_id=reservation.reservation_id,
        sale_id=reservation.sale.sale_id,
        person_id=reservation.person_id,
        state=reservation.state,  # type: ignore[arg-type]
        release_reason=reservation.release_reason,  # type: ignore[arg-type]
        create_time=timestamp(reservation.created),
        expire_time=timestamp(reservation.expires),
        max_life_time=timestamp(reservation.max_life),
        release_requested=reservation.is_release_requested,
        retaken=reservation.is_retaken,
        merged_person_id=limits.root_of(ledger, reservation.person_id),
        create_sequence=reservation.create_sequence,
    )
    if reservation.settle_by is not None:
        message.settle_by_time.CopyFrom(timestamp(reservation.settle_by))
    for sku, pool, units in reservation.lines:
        message.lines.add(sku=sku, pool=pool, units=units)
    for part in reservation.parts:
        message.taken.add(
            line_index=part.line_index,
            sku=part.sku.name,
            pool=part.pool.name,
            units=part.units,
            returned_units=part.returned,
        )
    for attempt in reservation.attempts.values():
        message.attempts.append(shown_attempt(attempt))
    return message


def shown_attempt(attempt: Attempt) -> reservation_pb2.Attempt:
    """Shows an attempt as it stands."""
    return reservation_pb2.Attempt(
        attempt_id=attempt.attempt_id,
        state=attempt.state,  # type: ignore[arg-type]
        provider=attempt.provider,
        amount_minor=attempt.amount_minor,
        currency=attempt.currency,
        is_unregistered=attempt.is_unregistered,
        begin_time=timestamp(attempt.begun),
    )


def get_availability(ledger: Ledger, request: Any) -> Answer:
    """Shows what there is of some or all skus of a sale."""
    sale = ledger.sales.get(request.sale_id)
    if sale is None:
        return refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)
    names = list(request.skus) or sorted(sale.skus)[:SKUS_SHOWN_MAX]
    for name in names:
        if name not in sale.skus:
            return refused(outcome_pb2.OUTCOME_UNKNOWN_SKU, sku=name)
    return done(availabilities=[availability_of(sale.skus[name]) for name in names])


def availability_of(sku: Sku) -> availability_pb2.Availability:
    """Shows one sku: what buyers are told, and where its units stand."""
    expiry = levels.earliest_expiry(sku)
    message = availability_pb2.Availability(
        sale_id=sku.sale.sale_id,
        sku=sku.name,
        level=levels.level_of(sku),  # type: ignore[arg-type]
        level_epoch=sku.level_epoch,
        counters=availability_pb2.Counters(
            **{name: sum(getattr(pool, name) for pool in sku.pools) for name in COUNTERS}
        ),
        earliest_expire_time=None if expiry is None else timestamp(expiry),
        changed_sequence=sku.changed_sequence,
    )
    for pool in sku.pools:
        message.pools.add(
            pool=pool.name,
            labels=pool.labels,
            offered=pool.is_offered,
            counters=counters_of(pool),
            position=pool.position,
        )
    return message


def counters_of(pool: Pool) -> availability_pb2.Counters:
    """Shows where a pool's units stand."""
    return availability_pb2.Counters(**{name: getattr(pool, name) for name in COUNTERS})


def audit(ledger: Ledger, request: Any) -> Answer:  # noqa: ARG001 - every rule takes a request
    """Counts everything again from the reservations and shows where all units stand."""
    findings = ledger.check()
    pools = [
        admin_pb2.AuditPool(
            sale_id=sale.sale_id,
            sku=sku.name,
            pool=pool.name,
            counters=counters_of(pool),
            forgotten_sold_units=pool.forgotten_sold_units,
        )
        for _, sale in sorted(ledger.sales.items())
        for _, sku in sorted(sale.skus.items())
        for pool in sku.pools
    ]
    counts: dict[int, int] = {}
    for reservation in ledger.reservations.values():
        counts[reservation.state] = counts.get(reservation.state, 0) + 1
    return done(
        holds=not findings,
        findings=[
            admin_pb2.AuditFinding(invariant=name, subject=subject, message=message)
            for name, subject, message in findings
        ],
        pools=pools,
        reservation_counts=[
            admin_pb2.AuditCount(state=state, count=count)  # type: ignore[arg-type]
            for state, count in sorted(counts.items())
        ],
        oldest=[shown_oldest(each) for each in oldest_of(ledger)],
        late_held_count=sum(
            each.state == reservation_pb2.STATE_HELD and each.expires <= ledger.last_event_time
            for each in ledger.reservations.values()
        ),
    )


def due_time_of(reservation: Reservation) -> int | None:
    """Returns when a reservation should move on by itself or by the provider's word."""
    if reservation.state == reservation_pb2.STATE_HELD:
        return reservation.expires
    in_payment = (reservation_pb2.STATE_PAYING, reservation_pb2.STATE_OVERDUE)
    return reservation.settle_by if reservation.state in in_payment else None


def oldest_of(ledger: Ledger) -> list[Reservation]:
    """Returns the reservation of each unfinished state whose time is or was first."""
    found = []
    for state in (*sorted(UNPAID_STATES), reservation_pb2.STATE_REFUND_DUE):
        there = [each for each in ledger.reservations.values() if each.state == state]
        there.sort(key=lambda each: (due_time_of(each) or each.created, each.number))
        found += there[:1]
    return found


def shown_oldest(reservation: Reservation) -> admin_pb2.AuditOldest:
    """Shows a reservation that has waited longest."""
    due = due_time_of(reservation)
    return admin_pb2.AuditOldest(
        state=reservation.state,  # type: ignore[arg-type]
        reservation_id=reservation.reservation_id,
        create_time=timestamp(reservation.created),
        due_time=None if due is None else timestamp(due),
    )


def explain_reservation(ledger: Ledger, request: Any) -> Answer:
    """Shows every move in the life of a reservation."""
    reservation = ledger.reservations.get(request.reservation_id)
    if reservation is None:
        refusal = refused(outcome_pb2.OUTCOME_UNKNOWN_RESERVATION)
        refusal.fields["first_sequence"] = 1
        return refusal
    moves = reservation.transitions
    transitions = [
        admin_pb2.Transition(
            sequence=sequence,
            time=timestamp(time),
            event="".join(word.capitalize() for word in event.split("_")),
            state_from=state_from,
            state_to=state_to,
            cause=cause,
            actor=actor,
            reason=reason,
        )
        for sequence, time, event, state_from, state_to, cause, actor, reason in moves
    ]
    return done(transitions=transitions, first_sequence=1, is_complete=True)
