"""Random lives after the sale, with lost calls and restarts: money and units end as they must."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lastunit.client.outcomes import Disposition
from lastunit.order.v1 import order_pb2

from .ledger import no_answer
from .test_refund import shop

if TYPE_CHECKING:
    from .world import World

SEEDS = [*range(8), *map(int, os.environ.get("LASTUNIT_TEST_SEED", "").split())]
ORDERS = 3


def lose_something(world: World, chance: random.Random) -> None:
    """Lets the next calls fail, before or after they acted."""
    queues = (
        world.ledger.errors,
        world.ledger.lost_replies,
        world.payments.refund_errors,
        world.payments.lost_refund_replies,
    )
    chance.choice(queues).append(no_answer())


async def live(world: World, order_id: str, chance: random.Random, step: int) -> None:
    """Does one thing to an order, which may well be refused."""
    match chance.randrange(6):
        case 0:
            await world.refund(order_id, chance.randint(1, 900), f"refund-{step}")
        case 1:
            await world.refund(order_id, 0, f"refund-{step}")
        case 2:
            await world.ship(order_id, f"ship-{step}")
        case 3:
            lines = [(chance.choice(["phone", "case"]), chance.randint(1, 2))]
            does_refund = chance.random() < 0.7
            await world.give_back(order_id, lines, f"return-{step}", does_refund=does_refund)
        case 4:
            await world.core.deliver_once(1)
        case _:
            world.core = world.new_core()


@pytest.mark.parametrize("seed", SEEDS)
async def test_refunds_never_exceed_paid_and_what_goes_back_mirrors_what_was_taken(
    seed: int,
) -> None:
    """At most what was paid and taken; all of it where an order that never left was refunded.

    Gift and coupon are among what was taken.
    """
    chance = random.Random(seed)
    world = shop()
    before = world.ledger.available
    orders = [
        await world.buy(f"request-{each}", f"account-{each}", [("phone", 2), ("case", 1)], "ten")
        for each in range(ORDERS)
    ]
    for step in range(30):
        if chance.random() < 0.3:
            lose_something(world, chance)
        await live(world, chance.choice(orders), chance, step)
    await world.settle_down()

    back_by_order = Counter[str]()
    for refund in world.payments.refunds.values():
        back_by_order[refund.attempt_id.partition(":")[0]] += refund.amount_minor
    for order_id in orders:
        shown = (await world.show(order_id)).order
        taken = world.ledger.taken(order_id)
        returned = world.ledger.returned_of(order_id)
        is_all = shown.state == order_pb2.ORDER_STATE_REFUNDED

        assert back_by_order[order_id] == shown.refund_minor <= shown.amount_minor, f"seed {seed}"
        assert is_all == (shown.refund_minor == shown.amount_minor), f"seed {seed}"
        assert sum(part.refund_minor for part in shown.parts) == shown.refund_minor
        assert all(part.refund_minor <= part.amount_minor for part in shown.parts)
        assert returned <= taken, f"seed {seed}"
        if is_all and shown.fulfilment_state == order_pb2.FULFILMENT_STATE_UNSHIPPED:
            assert (
                returned == taken == Counter({"phone": 2, "case": 1, "sticker": 1, "coupon:ten": 1})
            ), f"seed {seed}"
        assert {order_pb2.ORDER_REFUND_STATE_DONE} >= {each.state for each in shown.refunds}
    resold = sum(
        units for (_, way), units in world.ledger.returned.items() if way is Disposition.RESELL
    )
    assert world.ledger.available == before - 5 * ORDERS + resold, f"seed {seed}"
