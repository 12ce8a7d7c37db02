"""Splits what goes back of an order's money over its parts, and returned units too.

Owns the arithmetic only, on rows as they are stored; every share is at most what is left of its
part, and the shares sum to the refund. Must not do I/O. Next: `lastunit.prices.money`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lastunit.prices.money import refund_of, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["NotEnoughUnitsError", "ReturnedUnits", "UnknownPartError", "left_of", "share", "worth"]


@dataclass(frozen=True, slots=True)
class ReturnedUnits:
    """Is units of one SKU that came back.

    Attributes:
        sku: The SKU.
        pool: The pool they were sold from; empty: those taken last come back first.
        units: 1 or more.
    """

    sku: str
    pool: str
    units: int


class UnknownPartError(ValueError):
    """The order has no unit of this SKU, or none from this pool.

    Attributes:
        sku: The SKU.
    """

    def __init__(self, sku: str) -> None:
        super().__init__(f"the order has no such unit of {sku}")
        self.sku = sku


class NotEnoughUnitsError(ValueError):
    """More units came back than are out.

    Attributes:
        sku: The SKU.
    """

    def __init__(self, sku: str) -> None:
        super().__init__(f"more units of {sku} came back than are out")
        self.sku = sku


def left_of(parts: Sequence[Mapping[str, Any]], shares: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Returns what is left of each part's money.

    Args:
        parts: With the fields of `OrderPart`.
        shares: Of each refund before, one for each part.
    """
    left = [int(part["amount_minor"]) for part in parts]
    for each in shares:
        left = [before - gone for before, gone in zip(left, each, strict=True)]
    return tuple(left)


def share(amount_minor: int, left: Sequence[int]) -> tuple[int, ...]:
    """Splits a refund over the parts by what is left of each, with the largest remainder.

    Args:
        amount_minor: 1 to the sum of what is left, minor units.
        left: What is left of each part.

    Raises:
        ValueError: More than is left.
    """
    if amount_minor > sum(left):
        raise ValueError(f"{amount_minor} is more than the {sum(left)} that are left")
    return split(amount_minor, left)


def worth(
    parts: Sequence[Mapping[str, Any]],
    left: Sequence[int],
    *,
    before: Iterable[ReturnedUnits],
    now: Iterable[ReturnedUnits],
) -> tuple[int, ...]:
    """Returns what units that came back give back of each part, at most what is left of it.

    However the units are grouped, all of a part give back exactly what was paid for it.

    Args:
        parts: With the fields of `OrderPart`.
        left: What is left of each part's money.
        before: What came back earlier, oldest first.
        now: What came back now.

    Raises:
        UnknownPartError: Something that the order does not have.
        NotEnoughUnitsError: More than is out.
    """
    out = [int(part["units"]) for part in parts]
    for each in before:
        _take(parts, out, each)
    shares = [0] * len(parts)
    for each in now:
        for index, units in _take(parts, out, each):
            total = int(parts[index]["units"])
            back = refund_of(
                int(parts[index]["amount_minor"]),
                units=total,
                refunded_units=total - out[index] - units,
                wanted_units=units,
            )
            shares[index] = min(shares[index] + back, left[index])
    return tuple(shares)


def _take(
    parts: Sequence[Mapping[str, Any]], out: list[int], returned: ReturnedUnits
) -> list[tuple[int, int]]:
    """Takes units off those that are out, those taken last first, as the ledger does."""
    meant = [
        index
        for index, part in enumerate(parts)
        if part["sku"] == returned.sku and returned.pool in ("", part["pool"])
    ]
    if not meant:
        raise UnknownPartError(returned.sku)
    if sum(out[index] for index in meant) < returned.units:
        raise NotEnoughUnitsError(returned.sku)
    wanted = returned.units
    taken = []
    for index in reversed(meant):
        units = min(out[index], wanted)
        if units:
            out[index] -= units
            wanted -= units
            taken.append((index, units))
    return taken
