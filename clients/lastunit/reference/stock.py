"""What operators do to units and pools.

Owns PutPool, SupplyStock, WithdrawStock, AdjustStock, MoveStock and PourBuffer. Must not look at
reservations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.reference import levels
from lastunit.reference.answers import Answer, done, refused
from lastunit.reference.state import Pool, Sale, Sku
from lastunit.stock.v1 import outcome_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.ledger import Ledger

__all__ = [
    "adjust_stock",
    "move_stock",
    "pour_buffer",
    "put_pool",
    "supply_stock",
    "withdraw_stock",
]

COUNTER_MAX: Final = 1_000_000_000_000
POOLS_PER_SKU_MAX: Final = 64
SKUS_PER_SALE_MAX: Final = 1_000


def find_sale(ledger: Ledger, request: Any) -> tuple[Sale | None, Answer | None]:
    """Finds the sale, or says that there is none."""
    sale = ledger.sales.get(request.sale_id)
    return sale, None if sale else refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)


def refuse_archived(ledger: Ledger, sale: Sale, sku: Sku | None = None) -> Answer | None:
    """Refuses when the sale's books are closed."""
    if ledger.sale_state(sale) == sale_pb2.SALE_STATE_ARCHIVED:
        told = levels.named(sku) if sku else {}
        return refused(outcome_pb2.OUTCOME_SALE_CLOSED, **told)
    return None


def put_pool(ledger: Ledger, request: Any) -> Answer:
    """Makes a pool or changes it; its units stay."""
    sale, refusal = find_sale(ledger, request)
    if sale is None:
        return refusal or refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)
    refusal = refuse_archived(ledger, sale) or refuse_too_many(sale, request)
    if refusal:
        return refusal
    sku = sale.skus.setdefault(request.sku, Sku(request.sku, sale))
    pool = sku.pool(request.pool)
    if pool is None:
        pool = Pool(request.pool)
        sku.pools.append(pool)
    pool.position = request.position
    pool.labels = dict(request.labels)
    pool.is_offered = request.is_offered
    sku.pools.sort(key=lambda each: (each.position, each.name))
    ledger.changed[sku] = None
    ledger.record(
        "pool_defined",
        sale=sale,
        sku=sku.name,
        pool=pool.name,
        position=pool.position,
        labels=pool.labels,
        is_offered=pool.is_offered,
    )
    return done()


def refuse_too_many(sale: Sale, request: Any) -> Answer | None:
    """Refuses one sku or one pool too many."""
    sku = sale.skus.get(request.sku)
    if sku is None and len(sale.skus) >= SKUS_PER_SALE_MAX:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="skus_per_sale_max")
    if sku and sku.pool(request.pool) is None and len(sku.pools) >= POOLS_PER_SKU_MAX:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="pools_per_sku_max")
    return None


def find_pools(
    ledger: Ledger, request: Any, *names: str
) -> tuple[Sku | None, list[Pool], Answer | None]:
    """Finds the sku and the named pools, or says which is unknown or that the books are closed."""
    sale = ledger.sales.get(request.sale_id)
    if sale is None:
        return None, [], refused(outcome_pb2.OUTCOME_UNKNOWN_SALE)
    sku = sale.skus.get(request.sku)
    if sku is None:
        return None, [], refused(outcome_pb2.OUTCOME_UNKNOWN_SKU, sku=request.sku)
    found = [sku.pool(name) for name in names]
    pools = [pool for pool in found if pool is not None]
    if len(pools) < len(names):
        return None, [], refused(outcome_pb2.OUTCOME_UNKNOWN_POOL, **levels.named(sku))
    return sku, pools, refuse_archived(ledger, sale, sku)


def refuse_too_high(sku: Sku, *counters: int) -> Answer | None:
    """Refuses what would take a counter past its bound."""
    if max(counters) > COUNTER_MAX:
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="counter_units", **levels.named(sku))
    return None


def note(ledger: Ledger, event: str, sku: Sku, **fields: Any) -> Answer:
    """Records a change of a sku's units and answers."""
    ledger.changed[sku] = None
    ledger.record(event, sale=sku.sale, sku=sku.name, **fields)
    return done()


def supply_stock(ledger: Ledger, request: Any) -> Answer:
    """Adds units to what is available or to the buffer."""
    sku, pools, refusal = find_pools(ledger, request, request.pool)
    if refusal or sku is None:
        return refusal or refused(outcome_pb2.OUTCOME_UNKNOWN_SKU)
    [pool] = pools
    place = "buffer" if request.is_buffer else "available"
    units = request.units
    refusal = refuse_too_high(sku, pool.supplied + units, getattr(pool, place) + units)
    if refusal:
        return refusal
    pool.supplied += units
    setattr(pool, place, getattr(pool, place) + units)
    return note(
        ledger, "stock_supplied", sku, pool=pool.name, units=units, is_buffer=request.is_buffer
    )


def withdraw_stock(ledger: Ledger, request: Any) -> Answer:
    """Takes units out of what is available or of the buffer."""
    sku, pools, refusal = find_pools(ledger, request, request.pool)
    if refusal or sku is None:
        return refusal or refused(outcome_pb2.OUTCOME_UNKNOWN_SKU)
    [pool] = pools
    place = "buffer" if request.is_buffer else "available"
    if request.units > getattr(pool, place):
        return refused(outcome_pb2.OUTCOME_NOT_ENOUGH_UNITS, **levels.named(sku))
    pool.move(request.units, place, "withdrawn")
    return note(
        ledger,
        "stock_withdrawn",
        sku,
        pool=pool.name,
        units=request.units,
        is_buffer=request.is_buffer,
    )


def adjust_stock(ledger: Ledger, request: Any) -> Answer:
    """Sets the available units, if they are what the caller believes."""
    sku, pools, refusal = find_pools(ledger, request, request.pool)
    if refusal or sku is None:
        return refusal or refused(outcome_pb2.OUTCOME_UNKNOWN_SKU)
    [pool] = pools
    more = request.available - request.expected_available
    refusal = refuse_too_high(sku, pool.supplied + more)
    if refusal:
        return refusal
    if pool.available != request.expected_available:
        return refused(outcome_pb2.OUTCOME_COUNTER_MISMATCH, **levels.named(sku))
    pool.available = request.available
    pool.supplied += max(more, 0)
    pool.written_off += max(-more, 0)
    return note(
        ledger,
        "stock_adjusted",
        sku,
        pool=pool.name,
        expected_available=request.expected_available,
        available=request.available,
    )


def move_stock(ledger: Ledger, request: Any) -> Answer:
    """Moves available units: withdrawn from one pool, supplied to the other."""
    sku, pools, refusal = find_pools(ledger, request, request.source_pool, request.target_pool)
    if refusal or sku is None:
        return refusal or refused(outcome_pb2.OUTCOME_UNKNOWN_SKU)
    source, target = pools
    units = request.units
    if source is target:
        told = levels.named(sku)
        return refused(outcome_pb2.OUTCOME_NOT_ALLOWED, limit="target_pool", **told)
    refusal = refuse_too_high(sku, target.supplied + units)
    if refusal:
        return refusal
    if units > source.available:
        return refused(outcome_pb2.OUTCOME_NOT_ENOUGH_UNITS, **levels.named(sku))
    source.move(units, "available", "withdrawn")
    target.supplied += units
    target.available += units
    return note(
        ledger,
        "stock_moved",
        sku,
        source_pool=source.name,
        target_pool=target.name,
        units=units,
    )


def pour_buffer(ledger: Ledger, request: Any) -> Answer:
    """Offers units of the buffer."""
    sku, pools, refusal = find_pools(ledger, request, request.pool)
    if refusal or sku is None:
        return refusal or refused(outcome_pb2.OUTCOME_UNKNOWN_SKU)
    [pool] = pools
    if request.units > pool.buffer:
        return refused(outcome_pb2.OUTCOME_NOT_ENOUGH_UNITS, **levels.named(sku))
    pool.move(request.units, "buffer", "available")
    return note(ledger, "buffer_poured", sku, pool=pool.name, units=request.units)
