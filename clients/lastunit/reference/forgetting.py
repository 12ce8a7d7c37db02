"""What is dropped long after it ended: reservations, their attempts and requests.

Owns when something may be forgotten, and the step that forgets it. Must not drop a claim, an open
payment or owed money. Sold units stay sold.
"""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any, Final

from lastunit.stock.v1 import reservation_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Reservation, Sale

__all__ = ["earliest", "forget"]

AT_ONCE_MAX: Final = 128
# A request's end is remembered as 32 bits of milliseconds after it.
NOT_AFTER_KEPT_MAX: Final = (1 << 32) - 1
ENDED: Final = frozenset(
    {
        reservation_pb2.STATE_CONFIRMED,
        reservation_pb2.STATE_RELEASED,
        reservation_pb2.STATE_REFUNDED,
        reservation_pb2.STATE_RETURNED,
    }
)
UNSETTLED: Final = frozenset(
    {reservation_pb2.ATTEMPT_STATE_OPEN, reservation_pb2.ATTEMPT_STATE_REFUND_DUE}
)
ENDED_SALES: Final = frozenset(
    {
        sale_pb2.SALE_STATE_CLOSED,
        sale_pb2.SALE_STATE_CANCELLED,
        sale_pb2.SALE_STATE_ARCHIVED,
    }
)


def has_ended(reservation: Reservation) -> bool:
    """Tells whether nothing can come of a reservation any more but a return or late news."""
    attempts = reservation.attempts.values()
    return reservation.state in ENDED and all(each.state not in UNSETTLED for each in attempts)


def time_of(sale: Sale, reservation: Reservation) -> int | None:
    """Returns from when a reservation may be forgotten; None if it may not."""
    if not has_ended(reservation):
        return None
    forgets = reservation.changed + sale.policy.forget_after
    if sale.policy.does_forget_while_open:
        # A late copy of its request may still come: its sale may not have forgotten while it was
        # open when it was made, and then any end was taken.
        return max(forgets, last_copy(reservation))
    if sale.state not in ENDED_SALES:
        return None
    return max(forgets, sale.ended + sale.policy.forget_after)


def last_copy(reservation: Reservation) -> int:
    """Returns until when a copy of its request is taken, at most about 50 days after it."""
    if reservation.not_after is None:
        return reservation.created
    return min(reservation.not_after, reservation.created + NOT_AFTER_KEPT_MAX)


def in_order(sale: Sale) -> list[tuple[int, Reservation]]:
    """Returns what ended with when it may be forgotten: one waits for all that ended before it."""
    times = ((time_of(sale, each), each) for each in sale.reservations)
    ended = [(at, each) for at, each in times if at is not None]
    return sorted(ended, key=lambda pair: pair[1].last_sequence)


def time_of_request(sale: Sale, made: int) -> int:
    """Returns from when a request of an archived sale may be forgotten."""
    return max(made, sale.ended) + sale.policy.forget_after


def earliest(sale: Sale, until: int) -> int | None:
    """Returns the earliest time, not after `until`, at which something may be forgotten."""
    is_rolling = sale.policy.does_forget_while_open
    if not is_rolling and sale.state not in ENDED_SALES:
        return None
    if not is_rolling and sale.ended + sale.policy.forget_after > until:
        return None
    times = [at for at, _ in in_order(sale)[:1]]
    if sale.state == sale_pb2.SALE_STATE_ARCHIVED and sale.requests:
        times += [time_of_request(sale, made) for _, made in sale.requests]
    return min(times, default=None)


def forget(ledger: Ledger, sale: Sale) -> bool:
    """Forgets what may be by now, so much at once; tells whether there was anything."""
    due = itertools.takewhile(lambda pair: pair[0] <= ledger.now, in_order(sale))
    gone = [each for _, each in itertools.islice(due, AT_ONCE_MAX)]
    requests: list[str] = []
    if sale.state == sale_pb2.SALE_STATE_ARCHIVED:
        old = [pair for pair in sale.requests if time_of_request(sale, pair[1]) <= ledger.now]
        sale.requests = [pair for pair in sale.requests if pair not in old[:AT_ONCE_MAX]]
        requests = [name for name, _ in old[:AT_ONCE_MAX]]
    if not gone and not requests:
        return False
    drop(ledger, sale, gone, requests)
    sale.has_forgotten = sale.has_forgotten or not sale.policy.does_forget_while_open
    ledger.record(
        "history_forgotten",
        sale=sale,
        reservation_ids=[reservation.reservation_id for reservation in gone],
        request_ids=requests,
    )
    return True


def drop(ledger: Ledger, sale: Sale, gone: list[Reservation], requests: list[str]) -> None:
    """Takes reservations and requests out of everything that knows them."""
    names: set[Any] = {reservation.reservation_id for reservation in gone}
    for reservation in gone:
        for part in reservation.parts:
            if reservation.state == reservation_pb2.STATE_CONFIRMED:
                part.pool.forgotten_sold_units += part.units - part.returned
        del ledger.reservations[reservation.reservation_id]
        for attempt_id in reservation.attempts:
            del ledger.attempts[attempt_id]
        ledger.drop_from_person(reservation)
        heapq.heappush(ledger.free_places, reservation.number)
        for request_id in reservation.requests:
            del ledger.remembered[request_id]
    sale.reservations = [each for each in sale.reservations if each.reservation_id not in names]
    for request_id in requests:
        del ledger.remembered[request_id]
