"""Prices, coupons and gifts over the real ledger: they are stock, and go where the order goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.prices.catalogue import parse
from lastunit.prices.quote import Prices
from lastunit.stock.v1 import outcome_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .system import System

    Make = Callable[..., Awaitable[System]]

PRICES = Prices(
    parse(
        {
            "version": 1,
            "currency": "CNY",
            "items": [
                {
                    "sku": "phone",
                    "unit_amount_minor": 1_000,
                    "is_coupon_allowed": True,
                    "tiers": [
                        {"pool": "early", "unit_amount_minor": 900},
                        {"pool": "main", "unit_amount_minor": 950},
                    ],
                }
            ],
            "reductions": [
                {
                    "name": "three",
                    "steps": [{"threshold_minor": 2_700, "reduction_minor": 100}],
                }
            ],
            "gifts": [{"sku": "strap", "threshold_minor": 900}],
            "coupons": [{"coupon_id": "TENTH", "per_mille": 100}],
        },
        "test",
    )
)


async def with_prices(system: Make) -> System:
    """Makes a sale of two early phones and three others, one strap and one coupon."""
    shop = await system(units=3)
    shop.prices = PRICES
    shop.restart()
    await shop.supply("phone", "early", 2, position=0)
    await shop.supply("strap", "gifts", 1)
    await shop.supply("coupon:TENTH", "all", 1)
    return shop


async def test_a_ladder_is_paid_by_the_steps_that_were_got(system: Make) -> None:
    """Two early ones and one of the next pool, reduced, with coupon and gift; as was quoted."""
    shop = await with_prices(system)
    asked = pb.QuoteRequest(sale_id=shop.sale_id, coupon_id="TENTH")
    asked.lines.add(sku="phone", units=3)
    quote = await shop.orders.quote(asked)
    placed = await shop.place("ada", units=3, coupon_id="TENTH")
    paid = await shop.pay(placed.order_id)
    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(2_000)
    order = await shop.order(placed.order_id)

    # 2 x 900 + 950 = 2,750; less 100 is 2,650; less a tenth, rounded half up, is 2,385.
    assert quote.amount_minor == placed.amount_minor == order.amount_minor == 2_385
    assert await shop.state(placed.order_id) == "PAID"
    assert list(quote.parts) == list(order.parts)
    assert [(part.sku, part.pool, part.units) for part in order.parts] == [
        ("phone", "early", 2),
        ("phone", "main", 1),
        ("strap", "gifts", 1),
    ]
    assert sum(part.amount_minor for part in order.parts) == order.amount_minor
    assert order.reduction_name == "three"
    sold = await shop.client.get_availability(shop.sale_id)
    counts = {each.sku: each.counters.sold for each in sold.response.availabilities}
    assert counts == {"phone": 3, "strap": 1, "coupon:TENTH": 1}
    assert (await shop.client.admin.audit()).response.holds


async def test_the_last_coupon_is_used_once_and_comes_back(system: Make) -> None:
    """A second buyer is told that it is used up; after a cancel the third one has it."""
    shop = await with_prices(system)
    first = await shop.place("ada", coupon_id="TENTH")
    second = await shop.place("bob", coupon_id="TENTH")
    await shop.cancel(first.order_id)
    third = await shop.place("eve", coupon_id="TENTH")

    assert (first.amount_minor, third.amount_minor) == (810, 810)
    assert (second.outcome, second.sku) == (outcome_pb2.OUTCOME_SOLD_OUT, "coupon:TENTH")
    await shop.audit()


async def test_a_gift_that_is_gone_is_told_and_not_waited_for(system: Make) -> None:
    """The second buyer pays the same and is told what is missing; so is the repeat."""
    shop = await with_prices(system)
    first = await shop.place("ada")
    second = await shop.place("bob")
    again = await shop.place("bob")

    assert (list(first.missing_gifts), first.amount_minor) == ([], 900)
    assert (list(second.missing_gifts), second.amount_minor) == (["strap"], 900)
    again.replayed = False
    assert again == second
    await shop.audit()
