"""What units cost.

Owns the price list and the sum of an order. Must not know stock or persons: a price is the same
for everybody here. Next: `lastunit.order.core`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lastunit.order.v1 import order_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lastunit.order.v1 import order_pb2

__all__ = ["PriceList", "Quote"]

UNIT_AMOUNT_MINOR_MAX: Final = 1_000_000_000_000
ORDER_AMOUNT_MINOR_MAX: Final = 1_000_000_000_000_000

_CURRENCY_PATTERN: Final = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quote:
    """Is what an order costs, or why that cannot be said.

    Attributes:
        amount_minor: Sum of all lines, minor units; 0 if refused.
        unit_amounts_minor: Price of a unit of each line, in their order.
        refusal: UNSPECIFIED, UNKNOWN_PRICE or PRICE_CHANGED.
        sku: The SKU that was refused; empty otherwise.
    """

    amount_minor: int
    unit_amounts_minor: tuple[int, ...]
    refusal: pb.Refusal.ValueType = pb.REFUSAL_UNSPECIFIED
    sku: str = ""


@dataclass(frozen=True, slots=True)
class PriceList:
    """Knows the price of each SKU, in one currency.

    Attributes:
        currency: ISO 4217, three capitals.
        default_minor: Price of a SKU that is not listed, minor units; 0: such a SKU is not sold.
        by_sku: Price of a unit by SKU, minor units, 1 to 1e12.
    """

    currency: str = "CNY"
    default_minor: int = 0
    by_sku: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks every price."""
        if not _CURRENCY_PATTERN.fullmatch(self.currency):
            raise ValueError(f"currency is {self.currency!r}; it must be three capitals")
        if not 0 <= self.default_minor <= UNIT_AMOUNT_MINOR_MAX:
            raise ValueError(
                f"the default price is {self.default_minor}; it must be 0 to "
                f"{UNIT_AMOUNT_MINOR_MAX} minor units"
            )
        for sku, price in self.by_sku.items():
            if not 1 <= price <= UNIT_AMOUNT_MINOR_MAX:
                raise ValueError(
                    f"the price of {sku} is {price}; it must be 1 to {UNIT_AMOUNT_MINOR_MAX} "
                    f"minor units"
                )

    def quote(self, lines: Iterable[order_pb2.OrderLine]) -> Quote:
        """Returns what lines cost.

        Args:
            lines: Each with the price the buyer accepted, or 0 for any.
        """
        amount_minor = 0
        unit_amounts: list[int] = []
        for line in lines:
            price = self.by_sku.get(line.sku, self.default_minor)
            if price == 0:
                return Quote(0, (), pb.REFUSAL_UNKNOWN_PRICE, line.sku)
            if line.unit_amount_minor and (
                line.unit_amount_minor != price or line.currency not in ("", self.currency)
            ):
                return Quote(0, (), pb.REFUSAL_PRICE_CHANGED, line.sku)
            amount_minor += price * line.units
            unit_amounts.append(price)
        if amount_minor > ORDER_AMOUNT_MINOR_MAX:
            # No provider takes such a sum; somebody has typed too many zeros.
            return Quote(0, (), pb.REFUSAL_UNKNOWN_PRICE)
        return Quote(amount_minor, tuple(unit_amounts))
