"""Checks every invariant by counting again from the reservations.

Owns the audit of the model. Must not change anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastunit.reference.state import PLACE_OF_STATE
from lastunit.stock.v1 import reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastunit.reference.ledger import Ledger
    from lastunit.reference.state import Pool, Reservation

__all__ = ["findings_of"]

Finding = tuple[str, str, str]
PLACES: Final = ("held", "paying", "overdue", "sold")
COUNTERS: Final = ("available", "buffer", *PLACES, "quarantine")


def findings_of(ledger: Ledger) -> list[Finding]:
    """Returns invariant, subject and message of everything that does not hold."""
    return [*stock_findings(ledger), *claim_findings(ledger)]


def stock_findings(ledger: Ledger) -> Iterator[Finding]:
    """Conservation and agreement, pool by pool."""
    counted: dict[tuple[int, str], int] = {}
    for reservation in ledger.reservations.values():
        place = PLACE_OF_STATE.get(reservation.state)
        for part in reservation.parts if place else ():
            key = (id(part.pool), place or "")
            counted[key] = counted.get(key, 0) + part.units - part.returned
    for sale in ledger.sales.values():
        for sku in sale.skus.values():
            for pool in sku.pools:
                subject = f"{sale.sale_id}/{sku.name}/{pool.name}"
                counted[id(pool), "sold"] = (
                    counted.get((id(pool), "sold"), 0) + pool.forgotten_sold_units
                )
                claims = {name: counted.get((id(pool), name), 0) for name in PLACES}
                yield from pool_findings(pool, subject, claims)


def pool_findings(pool: Pool, subject: str, claims: dict[str, int]) -> Iterator[Finding]:
    """One pool against what its claims say."""
    there = sum(getattr(pool, name) for name in COUNTERS)
    net = pool.supplied - pool.withdrawn - pool.written_off
    if net != there:
        yield "conservation", subject, f"{net} units supplied net, {there} counted"
    for name in COUNTERS:
        if getattr(pool, name) < 0:
            yield "conservation", subject, f"{name} is {getattr(pool, name)}"
    for name, claimed in claims.items():
        if getattr(pool, name) != claimed:
            yield "agreement", subject, f"{name} is {getattr(pool, name)}, claims say {claimed}"


def claim_findings(ledger: Ledger) -> Iterator[Finding]:
    """Money and lines, reservation by reservation."""
    for reservation in ledger.reservations.values():
        yield from money_findings(reservation)
        if reservation.state in PLACE_OF_STATE:
            asked = sum(units for _, _, units in reservation.lines)
            drawn = sum(part.units for part in reservation.parts)
            if asked != drawn:
                message = f"{asked} units asked for, {drawn} drawn"
                yield "all_or_nothing", reservation.reservation_id, message


def money_findings(reservation: Reservation) -> Iterator[Finding]:
    """An open payment has its units; money is applied once, owed or given back."""
    states = [attempt.state for attempt in reservation.attempts.values()]
    applied = states.count(reservation_pb2.ATTEMPT_STATE_APPLIED)
    sold = (reservation_pb2.STATE_CONFIRMED, reservation_pb2.STATE_RETURNED)
    if applied > 1 or (applied and reservation.state not in sold):
        yield "no_lost_money", reservation.reservation_id, f"{applied} attempts are applied"
    in_payment = (reservation_pb2.STATE_PAYING, reservation_pb2.STATE_OVERDUE)
    if reservation.state in in_payment and not reservation.open_attempts():
        yield "no_lost_money", reservation.reservation_id, "in payment without an open attempt"
