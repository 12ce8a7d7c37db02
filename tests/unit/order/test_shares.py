"""Shares of a refund: they sum to it, and no part gives back more than was paid for it."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from lastunit.order import shares
from lastunit.order.shares import NotEnoughUnitsError, ReturnedUnits, UnknownPartError

# One more can be given, to look into a failure again.
SEEDS = [*range(40), *map(int, os.environ.get("LASTUNIT_TEST_SEED", "").split())]


def an_order(chance: random.Random) -> list[dict[str, Any]]:
    """Returns the parts of an order as they are stored, gifts at 0 among them."""
    return [
        {
            "sku": f"sku-{chance.randrange(3)}",
            "pool": f"pool-{chance.randrange(2)}",
            "units": chance.randint(1, 7),
            "amount_minor": chance.choice([0, 1, chance.randint(1, 50), chance.randint(1, 10**9)]),
        }
        for _ in range(chance.randint(1, 6))
    ]


def total(parts: list[dict[str, Any]]) -> int:
    """Returns what was paid."""
    return sum(part["amount_minor"] for part in parts)


@pytest.mark.parametrize("seed", SEEDS)
def test_parts_of_the_money_sum_to_what_was_paid(seed: int) -> None:
    """Any sums in any order, then the rest: every share within its part, nothing left over."""
    chance = random.Random(seed)
    parts = an_order(chance)
    done: list[tuple[int, ...]] = []
    while left := sum(shares.left_of(parts, done)):
        amount = min(left, chance.choice([1, chance.randint(1, left), left]))
        if len(done) > 30:
            amount = left
        split = shares.share(amount, shares.left_of(parts, done))
        done.append(split)

        assert sum(split) == amount, f"seed {seed}"
        assert min(shares.left_of(parts, done)) >= 0, f"seed {seed}"
    assert sum(map(sum, done)) == total(parts), f"seed {seed}"
    with pytest.raises(ValueError, match="more than"):
        shares.share(1, shares.left_of(parts, done))


@pytest.mark.parametrize("seed", SEEDS)
def test_returned_units_are_worth_exactly_what_was_paid(seed: int) -> None:
    """However they are grouped and whichever pool is named, all units give back all the money."""
    chance = random.Random(seed)
    parts = an_order(chance)
    units = [
        ReturnedUnits(part["sku"], part["pool"], 1) for part in parts for _ in range(part["units"])
    ]
    chance.shuffle(units)
    before: list[ReturnedUnits] = []
    done: list[tuple[int, ...]] = []
    while units:
        count = chance.randint(1, len(units))
        now, units = units[:count], units[count:]
        left = shares.left_of(parts, done)
        done.append(shares.worth(parts, left, before=before, now=now))
        before += now

        assert min(shares.left_of(parts, done)) >= 0, f"seed {seed}"
    assert sum(map(sum, done)) == total(parts), f"seed {seed}"
    with pytest.raises(NotEnoughUnitsError):
        shares.worth(parts, (0,) * len(parts), before=before, now=before[:1])


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_and_units_mixed_never_exceed_what_was_paid(seed: int) -> None:
    """A sum here, a unit there: what is left of a part bounds both."""
    chance = random.Random(seed)
    parts = an_order(chance)
    before: list[ReturnedUnits] = []
    done: list[tuple[int, ...]] = []
    for _ in range(12):
        left = shares.left_of(parts, done)
        part = chance.choice(parts)
        pool = chance.choice(["", part["pool"]])
        if chance.random() < 0.5 and sum(left):
            done.append(shares.share(chance.randint(1, sum(left)), left))
            continue
        now = [ReturnedUnits(part["sku"], pool, chance.randint(1, 3))]
        try:
            done.append(shares.worth(parts, left, before=before, now=now))
        except NotEnoughUnitsError:
            continue
        before += now

        assert min(shares.left_of(parts, done)) >= 0, f"seed {seed}"


def test_what_the_order_does_not_have_is_named() -> None:
    """Another SKU, or another pool of it."""
    parts = [{"sku": "phone", "pool": "main", "units": 1, "amount_minor": 5}]
    for returned in (ReturnedUnits("case", "", 1), ReturnedUnits("phone", "early", 1)):
        with pytest.raises(UnknownPartError) as error:
            shares.worth(parts, (5,), before=(), now=[returned])

        assert error.value.sku == returned.sku


def test_units_taken_last_come_back_first() -> None:
    """As the ledger does it, so that money and units are of the same pool."""
    parts = [
        {"sku": "phone", "pool": "early", "units": 1, "amount_minor": 900},
        {"sku": "phone", "pool": "main", "units": 1, "amount_minor": 950},
    ]
    first = ReturnedUnits("phone", "", 1)

    assert shares.worth(parts, (900, 950), before=(), now=[first]) == (0, 950)
    assert shares.worth(parts, (900, 0), before=[first], now=[first]) == (900, 0)
