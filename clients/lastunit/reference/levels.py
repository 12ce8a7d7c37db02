"""What buyers are told of a sku: its level, and how often it came back.

Owns the level, its epoch and the time at which held units may come back. Must not change units.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

from lastunit.stock.v1 import availability_pb2, reservation_pb2

if TYPE_CHECKING:
    from lastunit.reference.state import Pool, Sku

__all__ = ["earliest_expiry", "level_of", "named", "note_change", "told"]


def level_of(sku: Sku) -> int:
    """Returns what buyers are told of a sku, over its offered pools."""
    available = supplied = held = in_payment = 0
    for pool in sku.pools:
        if pool.is_offered:
            available += pool.available
            supplied += pool.supplied - pool.withdrawn - pool.written_off
            held += pool.held
            in_payment += units_in_payment(pool)
    if available:
        is_low = available * 100 <= supplied * sku.sale.policy.low_level_percent
        return availability_pb2.LEVEL_LOW if is_low else availability_pb2.LEVEL_OPEN
    if held:
        return availability_pb2.LEVEL_HELD_OUT
    return availability_pb2.LEVEL_PAYING_OUT if in_payment else availability_pb2.LEVEL_GONE


def units_in_payment(pool: Pool) -> int:
    """Returns the units that come back if their payment fails."""
    return pool.paying + pool.overdue


def earliest_expiry(sku: Sku) -> int | None:
    """Returns the earliest time at which a held unit may come back; None if none is held."""
    while sku.holds:
        expires, _, _, reservation = sku.holds[0]
        if reservation.state == reservation_pb2.STATE_HELD and reservation.expires == expires:
            return expires
        heapq.heappop(sku.holds)
    return None


def note_change(sku: Sku, sequence: int) -> None:
    """Notes that an event changed the sku; a return from nothing to sell begins a new epoch."""
    sku.changed_sequence = sequence
    is_sellable = any(pool.is_offered and pool.available for pool in sku.pools)
    if is_sellable and not sku.is_sellable:
        sku.level_epoch += 1
    sku.is_sellable = is_sellable


def named(sku: Sku) -> dict[str, Any]:
    """Returns what a result says of the sku that refused."""
    return {"sku": sku.name, "level": level_of(sku), "level_epoch": sku.level_epoch}


def told(sku: Sku, now: int) -> dict[str, Any]:
    """Returns what a result says of a sku that has too few units: also when some may come back."""
    expiry = earliest_expiry(sku)
    return named(sku) | {"come_back_time": None if expiry is None else max(expiry, now)}
