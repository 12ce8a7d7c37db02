"""Turns an order into what is asked of the ledger, and what came of it into prices.

Owns how promotions become stock: a coupon is one unit of the SKU `coupon:<id>`, a gift is a line at
price 0, a step of a ladder is a pool. Coupon and gifts are lines of the same reservation, so they
go back with it. Must not call anybody. Next: `lastunit.prices.quote` has the rules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from lastunit.client.outcomes import Line
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.prices.quote import Part, Prices, Refusal, RefusedError
from lastunit.stock.v1 import reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lastunit.order.v1 import order_pb2
    from lastunit.prices.quote import PricedPart
    from lastunit.stock.v1 import availability_pb2

__all__ = ["Ask", "Priced", "Refused", "adopt", "ask", "draw", "price"]

_REFUSALS: Final[Mapping[Refusal, pb.Refusal.ValueType]] = {
    Refusal.UNKNOWN_PRICE: pb.REFUSAL_UNKNOWN_PRICE,
    Refusal.COUPON_UNKNOWN: pb.REFUSAL_COUPON_INVALID,
    Refusal.COUPON_NOT_USABLE: pb.REFUSAL_COUPON_INVALID,
}

# The most lines a reservation has.
_LINES_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Refused:
    """Is an order that cannot be asked for.

    Attributes:
        refusal: UNKNOWN_PRICE, PRICE_CHANGED or COUPON_INVALID.
        sku: The SKU that is meant; empty for the whole order.
    """

    refusal: pb.Refusal.ValueType
    sku: str = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """Is what the ledger is asked for.

    Attributes:
        lines: The buyer's lines, then gifts, then the coupon's.
        line_count: How many of them are the buyer's.
        gifts: SKUs of the gifts that are among them.
        missing_gifts: SKUs of gifts that were reached and are gone.
        coupon_id: The coupon; empty for none.
        now_ms: When it was priced, milliseconds since 1970.
    """

    lines: tuple[Line, ...]
    line_count: int
    gifts: tuple[str, ...]
    missing_gifts: tuple[str, ...]
    coupon_id: str
    now_ms: int

    def without(self, sku: str) -> Ask:
        """Returns it without a gift that the ledger has no unit of."""
        kept = [
            line
            for index, line in enumerate(self.lines)
            if index < self.line_count or line.sku != sku
        ]
        return replace(
            self,
            lines=tuple(kept),
            gifts=tuple(gift for gift in self.gifts if gift != sku),
            missing_gifts=(*self.missing_gifts, sku),
        )


@dataclass(frozen=True, slots=True)
class Priced:
    """Is what an order costs, as it is written down.

    Attributes:
        parts: Each with the fields of `OrderPart`.
        amount_minor: Their sum, minor units.
        reduction_name: The full reduction that counted; empty for none.
    """

    parts: tuple[dict[str, Any], ...]
    amount_minor: int
    reduction_name: str


def ask(
    prices: Prices, lines: Sequence[order_pb2.OrderLine], *, coupon_id: str, now_ms: int
) -> Ask | Refused:
    """Returns what to ask the ledger for, or why not.

    Args:
        prices: The rules.
        lines: The buyer's, each with the price that was accepted, or 0 for any.
        coupon_id: The coupon that the buyer names; empty for none.
        now_ms: Milliseconds since 1970.
    """
    wanted: list[Line] = []
    try:
        for index in range(len(lines)):
            line = _accepted(prices, lines, index, now_ms)
            if isinstance(line, Refused):
                return line
            wanted.append(line)
        parts = [Part(index, each.sku, each.units, each.pool) for index, each in enumerate(wanted)]
        total = prices.total(parts, now_ms=now_ms, coupon_id=coupon_id)
    except RefusedError as error:
        return Refused(_REFUSALS[error.refusal], error.sku)
    extra = [Line(gift.sku, gift.units) for gift in total.gifts]
    if total.coupon_sku:
        extra.append(Line(total.coupon_sku))
    if len(wanted) + len(extra) > _LINES_MAX:
        # Nothing of an order is dropped in silence; with fewer lines it fits.
        return Refused(pb.REFUSAL_UNKNOWN_PRICE)
    return Ask(
        lines=(*wanted, *extra),
        line_count=len(wanted),
        gifts=tuple(gift.sku for gift in total.gifts),
        missing_gifts=(),
        coupon_id=coupon_id,
        now_ms=now_ms,
    )


def price(prices: Prices, asked: Ask, taken: Iterable[reservation_pb2.Taken]) -> Priced:
    """Returns what the units cost that an ask was given.

    Args:
        prices: The rules that made the ask.
        asked: What was asked for.
        taken: From which pools it was served.
    """
    served = list(taken)
    bought = [
        Part(each.line_index, each.sku, each.units, each.pool)
        for each in served
        if each.line_index < asked.line_count
    ]
    total = prices.total(bought, now_ms=asked.now_ms, coupon_id=asked.coupon_id)
    given = [
        _shown(each.line_index, each.sku, each.pool, each.units)
        for each in served
        if each.sku in asked.gifts and each.line_index >= asked.line_count
    ]
    return Priced(
        parts=(*map(_priced, total.parts), *given),
        amount_minor=total.amount_minor,
        reduction_name=total.reduction_name,
    )


def adopt(
    prices: Prices,
    lines: Sequence[order_pb2.OrderLine],
    coupon_id: str,
    reservation: reservation_pb2.Reservation,
) -> Ask | None:
    """Returns the ask that a reservation came from, or None if it is not this order's.

    A call that crashed between ledger and database is repeated later, when other prices may be
    open; the order costs what it did when its units were taken.

    Args:
        prices: The rules.
        lines: The buyer's.
        coupon_id: The coupon that the buyer names.
        reservation: What the ledger has under the order's id.
    """
    found = ask(prices, lines, coupon_id=coupon_id, now_ms=reservation.create_time.ToMilliseconds())
    if isinstance(found, Refused):
        return None
    held = {line.sku for line in reservation.lines}
    for sku in found.gifts:
        if sku not in held:
            found = found.without(sku)
    wanted = [(line.sku, line.pool, line.units) for line in found.lines]
    has = [(line.sku, line.pool, line.units) for line in reservation.lines]
    return found if wanted == has else None


def draw(
    lines: Iterable[Line], availabilities: Iterable[availability_pb2.Availability]
) -> list[reservation_pb2.Taken]:
    """Returns which pools would serve lines at this moment; what they lack has no pool.

    Args:
        lines: What would be asked for.
        availabilities: Of their SKUs, as the ledger shows them.
    """
    left = {
        (shown.sku, pool.pool): pool.counters.available
        for shown in availabilities
        for pool in sorted(shown.pools, key=lambda pool: pool.position)
        if pool.offered
    }
    taken = []
    for index, line in enumerate(lines):
        wanted = line.units
        for (sku, pool), units in left.items():
            served = min(units, wanted) if sku == line.sku and line.pool in ("", pool) else 0
            if served:
                left[sku, pool] -= served
                wanted -= served
                taken.append(
                    reservation_pb2.Taken(line_index=index, sku=sku, pool=pool, units=served)
                )
        if wanted:
            rest = reservation_pb2.Taken(
                line_index=index, sku=line.sku, pool=line.pool, units=wanted
            )
            taken.append(rest)
    return taken


def _accepted(
    prices: Prices, lines: Sequence[order_pb2.OrderLine], index: int, now_ms: int
) -> Line | Refused:
    """Returns a line with the pool whose price the buyer accepted."""
    line = lines[index]
    if not line.unit_amount_minor:
        return Line(line.sku, line.units, line.pool)
    units = sum(each.units for each in lines if each.sku == line.sku)
    pools = prices.pools_at(
        Part(index, line.sku, line.units, line.pool),
        line.unit_amount_minor,
        units=units,
        now_ms=now_ms,
    )
    if not pools or line.currency not in ("", prices.catalogue.currency):
        return Refused(pb.REFUSAL_PRICE_CHANGED, line.sku)
    return Line(line.sku, line.units, line.pool or pools[0])


def _priced(priced: PricedPart) -> dict[str, Any]:
    part = priced.part
    return _shown(part.line_index, part.sku, part.pool, part.units) | {
        "unit_amount_minor": priced.unit_amount_minor,
        "reduction_minor": priced.reduction_minor,
        "coupon_minor": priced.coupon_minor,
        "amount_minor": priced.amount_minor,
    }


def _shown(line_index: int, sku: str, pool: str, units: int) -> dict[str, Any]:
    return {
        "line_index": line_index,
        "sku": sku,
        "pool": pool,
        "units": units,
        "unit_amount_minor": 0,
        "reduction_minor": 0,
        "coupon_minor": 0,
        "amount_minor": 0,
    }
