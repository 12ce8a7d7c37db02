"""What ledger time does by itself: open and close sales, end holds, notice late payments.

Owns the order of what is due. Must not end a claim that has an open payment.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from lastunit.reference import forgetting, persons, returning, sales
from lastunit.reference.state import UNPAID_STATES
from lastunit.stock.v1 import reservation_pb2, sale_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Reservation, Sale

    Due = tuple[int, int, int, int, Callable[[], bool]]

__all__ = ["become_overdue", "expire", "move_sale_by_time", "run_due"]

HELD: Final = reservation_pb2.STATE_HELD
PAYING: Final = reservation_pb2.STATE_PAYING

# Later than any time of the contract, which ends with the year 9999.
FORGETS_LAST: Final = 1 << 62


def run_due(ledger: Ledger, until: int) -> None:
    """Does everything that is due by a time, each at its own time and in their order."""
    while True:
        due = [step for sale in ledger.sales.values() for step in due_of(ledger, sale, until)]
        # What is late already is due now, in the order of its own times.
        first = min(due, key=lambda step: (max(step[0], ledger.now), *step[1:4]), default=None)
        if first is None or first[0] > until:
            ledger.now = max(ledger.now, until)
            return
        at, _, _, _, act = first
        ledger.now = max(ledger.now, at)
        did = act()
        assert did, "what is due can be done"


def due_of(ledger: Ledger, sale: Sale, until: int) -> Iterator[Due]:
    """Yields the earliest step of each kind: when, its own time, kind and number, what to do."""
    at = time_of_sale_move(sale)
    if at is not None:
        kind = 0 if sale.state == sale_pb2.SALE_STATE_SCHEDULED else 1
        yield at, at, kind, sale.number, lambda: move_sale_by_time(ledger, sale)
    is_cancelled = sale.state == sale_pb2.SALE_STATE_CANCELLED
    if is_cancelled:
        claim = next(claims_of_cancelled(sale), None)
        if claim is not None:
            yield ledger.now, ledger.now, 2, claim.number, lambda: end_of_cancelled(ledger, claim)
    hold = earliest(sale.holds, HELD)
    braked = persons.braked_until(ledger, sale)
    if hold is not None and braked is not None and not is_cancelled:
        yield max(hold.expires, braked), hold.expires, 4, hold.number, lambda: expire(ledger, hold)
    late = earliest(sale.payments, PAYING)
    if late is not None and late.settle_by is not None:
        yield late.settle_by, late.settle_by, 3, late.number, lambda: become_overdue(ledger, late)
    yield from step_to_forget(ledger, sale, until)


def step_to_forget(ledger: Ledger, sale: Sale, until: int) -> Iterator[Due]:
    """Yields when something of a sale is forgotten next."""
    at = forgetting.earliest(sale, until)
    if at is not None:
        # After everything else that is due, however late it is itself.
        yield at, FORGETS_LAST, 5, sale.number, lambda: forgetting.forget(ledger, sale)


def earliest(heap: list[tuple[int, int, int, Reservation]], state: int) -> Reservation | None:
    """Returns the reservation whose time comes first, and forgets outdated entries."""
    while heap:
        at, _, _, reservation = heap[0]
        time = reservation.expires if state == HELD else reservation.settle_by
        if reservation.state == state and time == at:
            return reservation
        heapq.heappop(heap)
    return None


def time_of_sale_move(sale: Sale) -> int | None:
    """Returns when ledger time moves a sale; None if it never does."""
    if sale.state == sale_pb2.SALE_STATE_SCHEDULED:
        return sale.opens
    return sale.closes if sale.state in (sales.OPEN, sales.PAUSED) else None


def move_sale_by_time(ledger: Ledger, sale: Sale) -> bool:
    """Opens or closes a sale whose time has come; tells whether it had."""
    at = time_of_sale_move(sale)
    if at is None or at > ledger.now:
        return False
    state_from = sale.state
    target = sales.OPEN if state_from == sales.SCHEDULED else sales.CLOSED
    sales.move_sale(ledger, sale, target, state_from)
    return True


def expire(ledger: Ledger, reservation: Reservation) -> bool:
    """Gives the units of a hold back whose time is over; tells whether it might."""
    is_due = reservation.state == HELD and reservation.expires <= ledger.now
    if not is_due or persons.is_braked(ledger, reservation.sale):
        return False
    returning.give_back(ledger, reservation, reservation_pb2.RELEASE_REASON_EXPIRED)
    return True


def become_overdue(ledger: Ledger, reservation: Reservation) -> bool:
    """Marks a payment as late, and keeps its units; tells whether it was late."""
    settle_by = reservation.settle_by
    if reservation.state != PAYING or settle_by is None or settle_by > ledger.now:
        return False
    ledger.enter(reservation, reservation_pb2.STATE_OVERDUE)
    ledger.record("became_overdue", reservation, state_from=PAYING)
    for attempt in reservation.open_attempts():
        ledger.record("ask_provider_requested", reservation, attempt_id=attempt.attempt_id)
    return True


def claims_of_cancelled(sale: Sale) -> Iterator[Reservation]:
    """Yields the claims that the cancelling of their sale has not reached yet, by place."""
    for reservation in sorted(sale.reservations, key=lambda each: each.number):
        if reservation.state in UNPAID_STATES and not reservation.is_release_requested:
            yield reservation


def end_of_cancelled(ledger: Ledger, reservation: Reservation) -> bool:
    """Releases a hold of a cancelled sale, or asks for it while a payment is open."""
    reason = reservation_pb2.RELEASE_REASON_SALE_CANCELLED
    if reservation.state == HELD:
        returning.give_back(ledger, reservation, reason)
    else:
        returning.request_release(ledger, reservation, reason)
    return True
