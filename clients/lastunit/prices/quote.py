"""What an order costs, lane by lane.

Owns the order of the lanes: item price (pool, limited time, number of units), full reduction,
coupon; in a lane only the best counts, and each later lane works on what the one before has left.
Every discount is split over the lines to the last minor unit, so that the lines' amounts sum to the
order's. Must not read a clock or hold stock: both are arguments.
Next: `lastunit.prices.money` splits, `lastunit.prices.catalogue` has the rules' shapes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from lastunit.prices.money import AMOUNT_MINOR_MAX, part_of, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lastunit.prices.catalogue import Catalogue, Coupon, Gift, Item

__all__ = ["Part", "PricedPart", "Prices", "Refusal", "RefusedError", "Total"]


# Stands for every pool that is no step of a ladder; no pool has such a name.
_NO_STEP = "?"


class Refusal(StrEnum):
    """Why an order cannot be priced."""

    UNKNOWN_PRICE = "UNKNOWN_PRICE"
    """The catalogue has no such SKU, or the sum is past any provider's limit."""
    COUPON_UNKNOWN = "COUPON_UNKNOWN"
    COUPON_NOT_USABLE = "COUPON_NOT_USABLE"
    """No SKU of the order takes this coupon, or they do not reach its sum."""


class RefusedError(ValueError):
    """The order cannot be priced.

    Attributes:
        refusal: Why.
        sku: The SKU that is meant; a coupon's own for a coupon; empty for the whole order.
    """

    def __init__(self, refusal: Refusal, sku: str = "") -> None:
        super().__init__(f"{refusal} {sku}".rstrip())
        self.refusal = refusal
        self.sku = sku


@dataclass(frozen=True, slots=True)
class Part:
    """Is units of one line that come from one pool.

    Attributes:
        line_index: The line, from 0.
        sku: Its SKU.
        units: 1 or more.
        pool: The pool; empty while it is not known, which is priced at the SKU's lowest.
    """

    line_index: int
    sku: str
    units: int
    pool: str = ""


@dataclass(frozen=True, slots=True)
class PricedPart:
    """Is what a part costs.

    Attributes:
        part: Its units.
        unit_amount_minor: Item price of one unit, minor units.
        reduction_minor: Its share of the full reduction.
        coupon_minor: Its share of the coupon.
    """

    part: Part
    unit_amount_minor: int
    reduction_minor: int = 0
    coupon_minor: int = 0

    @property
    def item_amount_minor(self) -> int:
        """Returns what its units cost before any discount on the order."""
        return self.unit_amount_minor * self.part.units

    @property
    def amount_minor(self) -> int:
        """Returns what the buyer pays for it."""
        return self.item_amount_minor - self.reduction_minor - self.coupon_minor


@dataclass(frozen=True, slots=True)
class Total:
    """Is what an order costs.

    Attributes:
        parts: Each with its share of every discount.
        gifts: What is given with it, if its stock allows.
        reduction_name: The full reduction that counted; empty for none.
        coupon_sku: The coupon's SKU, one unit of which is held; empty for none.
    """

    parts: tuple[PricedPart, ...]
    gifts: tuple[Gift, ...] = ()
    reduction_name: str = ""
    coupon_sku: str = ""

    @property
    def amount_minor(self) -> int:
        """Returns what the buyer pays, 1 or more minor units."""
        return sum(part.amount_minor for part in self.parts)


@dataclass(frozen=True)
class Prices:
    """Prices orders by a catalogue.

    Attributes:
        catalogue: The rules.
    """

    catalogue: Catalogue
    _items: Mapping[str, Item] = field(init=False, repr=False)
    _coupons: Mapping[str, Coupon] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Builds the indexes."""
        items = {item.sku: item for item in self.catalogue.items}
        coupons = {coupon.coupon_id: coupon for coupon in self.catalogue.coupons}
        object.__setattr__(self, "_items", items)
        object.__setattr__(self, "_coupons", coupons)

    def total(self, parts: Sequence[Part], *, now_ms: int, coupon_id: str = "") -> Total:
        """Returns what an order costs.

        Which gifts and whether the coupon count is decided by item prices alone, and a part without
        a pool has its lowest: what is promised before the units are held is kept after.

        Args:
            parts: 1 or more.
            now_ms: Milliseconds since 1970: decides which limited-time prices are open.
            coupon_id: The coupon that the buyer names; empty for none.

        Raises:
            RefusedError: A SKU has no price, or the coupon cannot be used.
        """
        priced = self._item_prices(parts, now_ms)
        if sum(part.units * self._dearest(part) for part in parts) > AMOUNT_MINOR_MAX:
            # No provider takes such a sum; somebody has typed too many zeros.
            raise RefusedError(Refusal.UNKNOWN_PRICE)
        coupon = self._coupon(coupon_id, priced) if coupon_id else None
        gifts = tuple(gift for gift in self.catalogue.gifts if _reached(priced, gift))
        name, reduced = self._reduce(priced)
        if coupon is not None:
            reduced = self._use_coupon(reduced, coupon)
        return Total(reduced, gifts, name, "" if coupon is None else coupon.sku)

    def unit_amount_minor(self, part: Part, *, units: int, now_ms: int) -> int:
        """Returns the item price of a unit: the best of pool, limited time and number of units.

        Args:
            part: The pool may be unknown.
            units: Units of the SKU in the whole order.
            now_ms: Milliseconds since 1970.

        Raises:
            RefusedError: The SKU has no price.
        """
        item = self._items.get(part.sku)
        if item is None:
            if not self.catalogue.default_unit_amount_minor:
                raise RefusedError(Refusal.UNKNOWN_PRICE, part.sku)
            return self.catalogue.default_unit_amount_minor
        by_pool = {tier.pool: tier.unit_amount_minor for tier in item.tiers}
        if part.pool:
            base = by_pool.get(part.pool, item.unit_amount_minor)
        else:
            base = min([item.unit_amount_minor, *by_pool.values()])
        offers = [window.unit_amount_minor for window in item.windows if window.holds(now_ms)]
        offers += [each.unit_amount_minor for each in item.quantities if units >= each.units_min]
        return min([base, *offers])

    def pools_at(self, part: Part, accepted_minor: int, *, units: int, now_ms: int) -> list[str]:
        """Returns the pools whose units cost what the buyer accepted; "" stands for any pool.

        Args:
            part: With the pool that the buyer names, or none.
            accepted_minor: What the buyer accepted for a unit, minor units.
            units: Units of the SKU in the whole order.
            now_ms: Milliseconds since 1970.

        Raises:
            RefusedError: The SKU has no price.
        """
        item = self._items.get(part.sku)
        by_pool = [] if part.pool or item is None else [tier.pool for tier in item.tiers]

        def costs(pool: str) -> int:
            return self.unit_amount_minor(replace(part, pool=pool), units=units, now_ms=now_ms)

        fitting = [pool for pool in by_pool if costs(pool) == accepted_minor]
        # Where all steps cost the same, as under a lower limited-time price, any pool serves.
        if len(fitting) == len(by_pool) and costs(part.pool or _NO_STEP) == accepted_minor:
            return [part.pool]
        return fitting

    def _dearest(self, part: Part) -> int:
        """Returns the most that a unit can cost: what a bound allows before it must allow after."""
        item = self._items.get(part.sku)
        if item is None:
            return self.catalogue.default_unit_amount_minor
        return max([item.unit_amount_minor, *(tier.unit_amount_minor for tier in item.tiers)])

    def _item_prices(self, parts: Sequence[Part], now_ms: int) -> tuple[PricedPart, ...]:
        units: Counter[str] = Counter()
        for part in parts:
            units[part.sku] += part.units
        return tuple(
            PricedPart(part, self.unit_amount_minor(part, units=units[part.sku], now_ms=now_ms))
            for part in parts
        )

    def _coupon(self, coupon_id: str, priced: Iterable[PricedPart]) -> Coupon:
        coupon = self._coupons.get(coupon_id)
        if coupon is None:
            raise RefusedError(Refusal.COUPON_UNKNOWN, f"coupon:{coupon_id}")
        counted = [part for part in priced if self._takes(coupon, part)]
        is_reached = sum(part.item_amount_minor for part in counted) >= coupon.threshold_minor
        if not counted or not is_reached:
            raise RefusedError(Refusal.COUPON_NOT_USABLE, coupon.sku)
        return coupon

    def _takes(self, coupon: Coupon, priced: PricedPart) -> bool:
        item = self._items.get(priced.part.sku)
        is_allowed = item is not None and item.is_coupon_allowed
        return is_allowed and _counts(priced, coupon.skus)

    def _reduce(self, priced: tuple[PricedPart, ...]) -> tuple[str, tuple[PricedPart, ...]]:
        best, name, skus = 0, "", frozenset[str]()
        for reduction in self.catalogue.reductions:
            amount = _sum_of(priced, reduction.skus)
            reached = [s.reduction_minor for s in reduction.steps if amount >= s.threshold_minor]
            if max(reached, default=0) > best:
                best, name, skus = max(reached), reduction.name, reduction.skus
        best = min(best, _spare(priced))
        if best <= 0:
            return "", priced
        weights = [part.item_amount_minor if _counts(part, skus) else 0 for part in priced]
        shares = split(best, weights)
        return name, tuple(
            replace(part, reduction_minor=share) for part, share in zip(priced, shares, strict=True)
        )

    def _use_coupon(self, priced: tuple[PricedPart, ...], coupon: Coupon) -> tuple[PricedPart, ...]:
        weights = [part.amount_minor if self._takes(coupon, part) else 0 for part in priced]
        base = sum(weights)
        amount = coupon.reduction_minor or part_of(base, coupon.per_mille)
        if coupon.cap_minor:
            amount = min(amount, coupon.cap_minor)
        shares = split(min(amount, base, _spare(priced)), weights)
        return tuple(
            replace(part, coupon_minor=share) for part, share in zip(priced, shares, strict=True)
        )


def _spare(priced: Iterable[PricedPart]) -> int:
    """Returns the most that may come off: nothing can be paid with an amount of 0."""
    return sum(part.amount_minor for part in priced) - 1


def _counts(priced: PricedPart, skus: frozenset[str]) -> bool:
    return not skus or priced.part.sku in skus


def _sum_of(priced: Iterable[PricedPart], skus: frozenset[str]) -> int:
    return sum(part.item_amount_minor for part in priced if _counts(part, skus))


def _reached(priced: tuple[PricedPart, ...], gift: Gift) -> bool:
    is_counted = any(_counts(part, gift.skus) for part in priced)
    return is_counted and _sum_of(priced, gift.skus) >= gift.threshold_minor
