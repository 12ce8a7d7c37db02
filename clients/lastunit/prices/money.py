"""Whole minor units, split without losing one.

Owns the only arithmetic on money: no floats, no remainder that disappears. Must not know goods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AMOUNT_MINOR_MAX", "part_of", "refund_of", "split"]

AMOUNT_MINOR_MAX: Final = 1_000_000_000_000_000
"""Largest sum of an order, minor units: no provider takes such a payment."""

_MILLE: Final = 1_000


def split(amount_minor: int, weights: Sequence[int]) -> tuple[int, ...]:
    """Splits an amount by weight with the largest remainder; the parts sum to it exactly.

    Each part is its exact share rounded down, or one more; equal remainders are served in order.
    With all weights 0 there is nobody to give it to, so the amount must be 0 too.

    Args:
        amount_minor: What is split, 0 or more minor units.
        weights: One for each part, each 0 or more.

    Raises:
        ValueError: Something is negative, or an amount meets no weight.
    """
    total = sum(weights)
    if amount_minor < 0 or any(weight < 0 for weight in weights):
        raise ValueError("an amount and its weights must be 0 or more")
    if total == 0:
        if amount_minor:
            raise ValueError(f"{amount_minor} cannot be split: all weights are 0")
        return (0,) * len(weights)
    parts = [amount_minor * weight // total for weight in weights]
    remainders = [amount_minor * weight % total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in by_remainder[: amount_minor - sum(parts)]:
        parts[index] += 1
    return tuple(parts)


def part_of(amount_minor: int, per_mille: int) -> int:
    """Returns so many thousandths of an amount, rounded half up.

    Args:
        amount_minor: 0 or more minor units.
        per_mille: 0 to 1,000.

    Raises:
        ValueError: One is out of its range.
    """
    if amount_minor < 0 or not 0 <= per_mille <= _MILLE:
        raise ValueError(f"{per_mille} thousandths of {amount_minor} is no part of an amount")
    return (amount_minor * per_mille * 2 + _MILLE) // (2 * _MILLE)


def refund_of(paid_minor: int, *, units: int, refunded_units: int, wanted_units: int) -> int:
    """Returns what some units of a line give back, after others were given back before.

    However the units are grouped, all of them together give back exactly what was paid.

    Args:
        paid_minor: What the whole line cost, discounts taken off, minor units.
        units: Units of the line, 1 or more.
        refunded_units: Units that were refunded before.
        wanted_units: Units to refund now.

    Raises:
        ValueError: More units than the line has left, or none.
    """
    left = units - refunded_units
    if paid_minor < 0 or refunded_units < 0 or not 1 <= wanted_units <= left:
        raise ValueError(f"{wanted_units} units cannot be refunded: {left} of {units} are left")

    def up_to(count: int) -> int:
        return paid_minor * count // units

    return up_to(refunded_units + wanted_units) - up_to(refunded_units)
