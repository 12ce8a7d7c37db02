"""The price file of a sale, read and checked.

Owns the shape of the document, its limits, and the sentence that names what is wrong with it. Must
not compute a price. Next: `lastunit.prices.quote`.
"""

from __future__ import annotations

import tomllib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "Catalogue",
    "CatalogueError",
    "Coupon",
    "Gift",
    "Item",
    "Reduction",
    "load",
    "parse",
    "plain",
]

FILE_BYTES_MAX: Final = 4 * 1024 * 1024
UNIT_AMOUNT_MINOR_MAX: Final = 1_000_000_000_000
"""Largest price of one unit, minor units."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
UnitAmount = Annotated[int, Field(ge=1, le=UNIT_AMOUNT_MINOR_MAX, strict=True)]
Threshold = Annotated[int, Field(ge=0, le=UNIT_AMOUNT_MINOR_MAX, strict=True)]


class CatalogueError(ValueError):
    """The price file cannot be used; the message names the field and says what is allowed."""


def _with_zone(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its zone, for example 2026-11-11T00:00:00+08:00")
    if value.microsecond:
        raise ValueError("a time is a whole second")
    return value


Instant = Annotated[datetime, AfterValidator(_with_zone)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(_Part):
    """Is a price for a limited time, from its first second up to, not including, its last."""

    from_time: Instant
    to_time: Instant
    unit_amount_minor: UnitAmount

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.from_time >= self.to_time:
            raise ValueError("from_time must be before to_time")
        return self

    def holds(self, now_ms: int) -> bool:
        """Tells whether the window is open, at milliseconds since 1970."""
        begin, end = (round(time.timestamp() * 1_000) for time in (self.from_time, self.to_time))
        return begin <= now_ms < end


class Tier(_Part):
    """Is the price of the units of one pool: a step of a ladder such as "the first 500"."""

    pool: Identifier
    unit_amount_minor: UnitAmount


class Quantity(_Part):
    """Is the price of a unit for an order of at least so many."""

    units_min: Annotated[int, Field(ge=2, le=1_000_000, strict=True)]
    unit_amount_minor: UnitAmount


class Item(_Part):
    """Is what a SKU costs.

    Attributes:
        sku: The SKU.
        unit_amount_minor: Price of a unit that nothing else applies to, minor units.
        tiers: Prices by pool; a unit from another pool costs `unit_amount_minor`.
        windows: Prices for a limited time; the lowest that is open counts, if it is lower.
        quantities: Prices by units in the order; the lowest that is reached counts, if lower.
        is_coupon_allowed: False keeps coupons off it, as is usual for goods of a flash sale.
    """

    sku: Identifier
    unit_amount_minor: UnitAmount
    tiers: Annotated[tuple[Tier, ...], Field(max_length=32)] = ()
    windows: Annotated[tuple[Window, ...], Field(max_length=32)] = ()
    quantities: Annotated[tuple[Quantity, ...], Field(max_length=32)] = ()
    is_coupon_allowed: bool = False

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        _no_twin("pool", [tier.pool for tier in self.tiers])
        return self


class Step(_Part):
    """Is one step of a full reduction: so much off from such a sum."""

    threshold_minor: UnitAmount
    reduction_minor: UnitAmount

    @model_validator(mode="after")
    def _check_sum(self) -> Self:
        if self.reduction_minor > self.threshold_minor:
            raise ValueError("reduction_minor must not be over threshold_minor")
        return self


class _Promotion(_Part):
    """Is a rule that counts some SKUs, or with none named all of them."""

    skus: Annotated[frozenset[Identifier], Field(max_length=1_000)] = frozenset()


class Reduction(_Promotion):
    """Takes an amount off the sum of some SKUs; the best step that is reached counts.

    Attributes:
        name: Shown to the buyer.
        skus: What it counts and reduces; empty for everything.
        steps: At least one.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=32)]


class Gift(_Promotion):
    """Adds units of a SKU at price 0 from a sum on; its units are held like any others.

    Attributes:
        sku: What is given; it has a pool of its own in the ledger.
        units: How many.
        threshold_minor: Sum of the counted SKUs at their item prices from which it is given.
        skus: What is counted; empty for everything.
    """

    sku: Identifier
    units: Annotated[int, Field(ge=1, le=1_000, strict=True)] = 1
    threshold_minor: Threshold = 0


class Coupon(_Promotion):
    """Takes an amount or a part off; one unit of its stock is held with the order.

    Attributes:
        coupon_id: Its stock is the SKU `coupon:<coupon_id>`.
        reduction_minor: A fixed amount, minor units; this or `per_mille`.
        per_mille: Thousandths of the sum, 1 to 1,000.
        cap_minor: Most that `per_mille` takes off; 0 for no bound.
        threshold_minor: Sum of the counted SKUs at their item prices from which it can be used.
        skus: What it counts and reduces; empty for all that allow coupons.
    """

    coupon_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,57}$")]
    reduction_minor: Annotated[int, Field(ge=0, le=UNIT_AMOUNT_MINOR_MAX, strict=True)] = 0
    per_mille: Annotated[int, Field(ge=0, le=1_000, strict=True)] = 0
    cap_minor: Threshold = 0
    threshold_minor: Threshold = 0

    @property
    def sku(self) -> str:
        """Returns the SKU of its stock."""
        return f"coupon:{self.coupon_id}"

    @model_validator(mode="after")
    def _check_kind(self) -> Self:
        if (self.reduction_minor > 0) == (self.per_mille > 0):
            raise ValueError("give reduction_minor or per_mille, one of them")
        if self.cap_minor and not self.per_mille:
            raise ValueError("cap_minor goes with per_mille")
        return self


class Catalogue(_Part):
    """Is everything that decides what an order costs, in one currency.

    Attributes:
        version: Of the document's shape; 1.
        currency: ISO 4217, three capitals.
        default_unit_amount_minor: Price of a unit of every SKU that is not listed, minor units;
            0: such a SKU is not sold.
        items: At most 10,000 SKUs.
        reductions: At most 100; the best counts.
        gifts: At most 32; all that are reached are given.
        coupons: At most 10,000; an order uses the one that its buyer names.
    """

    version: Annotated[int, Field(ge=1, le=1, strict=True)]
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    default_unit_amount_minor: Threshold = 0
    items: Annotated[tuple[Item, ...], Field(max_length=10_000)] = ()
    reductions: Annotated[tuple[Reduction, ...], Field(max_length=100)] = ()
    gifts: Annotated[tuple[Gift, ...], Field(max_length=32)] = ()
    coupons: Annotated[tuple[Coupon, ...], Field(max_length=10_000)] = ()

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        skus = [item.sku for item in self.items]
        _no_twin("sku", [*skus, *(gift.sku for gift in self.gifts)])
        _no_twin("coupon_id", [coupon.coupon_id for coupon in self.coupons])
        _no_twin("name", [reduction.name for reduction in self.reductions])
        known = set(skus)
        promotions: tuple[_Promotion, ...] = (*self.reductions, *self.gifts, *self.coupons)
        for part in promotions:
            unknown = sorted(part.skus - known)
            if unknown:
                raise ValueError(f"{unknown[0]} is counted by a promotion and is no item")
        return self


def _no_twin(field: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{field} {name} is there twice")
        seen.add(name)


def plain(
    *, currency: str = "CNY", default_minor: int = 0, by_sku: Mapping[str, int] | None = None
) -> Catalogue:
    """Makes a catalogue of prices alone.

    Args:
        currency: ISO 4217, three capitals.
        default_minor: Price of a unit of every other SKU, minor units; 0: it is not sold.
        by_sku: Price of a unit by SKU, minor units, 1 to 1e12.

    Raises:
        CatalogueError: One is out of its range; says which.
    """
    items = [{"sku": sku, "unit_amount_minor": price} for sku, price in (by_sku or {}).items()]
    document = {
        "version": 1,
        "currency": currency,
        "default_unit_amount_minor": default_minor,
        "items": items,
    }
    return parse(document, "the list of prices")


def load(file: Path) -> Catalogue:
    """Reads a price file.

    Args:
        file: TOML, at most 4 MiB.

    Raises:
        CatalogueError: It cannot be read, is no TOML, or a field is wrong; says which and why.
    """
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise CatalogueError(f"{file} is over {FILE_BYTES_MAX} bytes")
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CatalogueError(f"{file} cannot be read as a price file: {error}") from error
    return parse(document, str(file))


def parse(document: object, source: str) -> Catalogue:
    """Checks a document that was read already.

    Args:
        document: Tables and lists, as TOML gives them.
        source: Named in the error.

    Raises:
        CatalogueError: A field is wrong; says which and why.
    """
    try:
        return Catalogue.model_validate(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        places = [".".join(map(str, each["loc"])) or "the file" for each in found[:5]]
        lines = [f"{place}: {each['msg']}" for place, each in zip(places, found, strict=False)]
        raise CatalogueError(f"{source} cannot be used: {'; '.join(lines)}") from error
