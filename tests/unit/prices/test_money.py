"""Splits and refunds never lose or invent a minor unit."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastunit.prices.money import AMOUNT_MINOR_MAX, part_of, refund_of, split

amounts = st.integers(0, AMOUNT_MINOR_MAX)
weights = st.lists(st.integers(0, 10**12), min_size=1, max_size=32)


@given(amounts, weights)
def test_parts_sum_to_the_amount_and_are_within_one_of_their_share(
    amount: int, weights: list[int]
) -> None:
    """Largest remainder: each part is its exact share rounded down or up."""
    if sum(weights) == 0:
        weights[0] = 1
    parts = split(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        share = Fraction(amount * weight, sum(weights))
        assert share - 1 < part < share + 1


def test_a_split_serves_the_largest_remainder_first() -> None:
    """100 over three equal lines: the first gets the odd unit; 2:1:1 of 10 is 5, 3, 2."""
    assert split(100, [1, 1, 1]) == (34, 33, 33)
    assert split(10, [2, 1, 1]) == (5, 3, 2)
    assert split(0, [0, 0]) == (0, 0)


@pytest.mark.parametrize(("amount", "weights"), [(1, [0, 0]), (-1, [1]), (1, [2, -1])])
def test_what_cannot_be_split_is_refused(amount: int, weights: list[int]) -> None:
    """An amount that nobody can take, and negative numbers, raise."""
    with pytest.raises(ValueError, match=r"cannot be split|must be 0 or more"):
        split(amount, weights)


@given(amounts, st.integers(0, 1_000))
def test_a_part_is_rounded_half_up(amount: int, per_mille: int) -> None:
    """Checked against fractions."""
    exact = Fraction(amount * per_mille, 1_000)
    assert part_of(amount, per_mille) == (exact + Fraction(1, 2)).__floor__()


def test_a_part_out_of_range_is_refused() -> None:
    """More than all, or of less than nothing."""
    for amount, per_mille in [(10, 1_001), (-1, 10), (10, -1)]:
        with pytest.raises(ValueError, match="no part of an amount"):
            part_of(amount, per_mille)


@given(amounts, st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_refunds_in_any_groups_give_back_exactly_what_was_paid(
    paid: int, groups: list[int]
) -> None:
    """Never more than paid on the way, and all of it at the end."""
    units = sum(groups)
    refunded = 0
    given_back = 0
    for group in groups:
        given_back += refund_of(paid, units=units, refunded_units=refunded, wanted_units=group)
        refunded += group
        assert given_back <= paid
    assert given_back == paid


@pytest.mark.parametrize(("refunded", "wanted"), [(3, 1), (0, 4), (2, 2), (0, 0), (-1, 1)])
def test_more_units_than_are_left_cannot_be_refunded(refunded: int, wanted: int) -> None:
    """Of three units."""
    with pytest.raises(ValueError, match="cannot be refunded"):
        refund_of(100, units=3, refunded_units=refunded, wanted_units=wanted)
