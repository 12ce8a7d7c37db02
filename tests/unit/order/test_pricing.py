"""Prices, coupons and gifts of an order: what is held, what is written, what heals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastunit.client.outcomes import ReleaseReason
from lastunit.errors import UnavailableError
from lastunit.order.ids import order_id_of
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.prices.catalogue import parse
from lastunit.prices.quote import Prices
from lastunit.stock.v1 import outcome_pb2

from .ledger import START_MS, no_answer
from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "currency": "CNY",
    "items": [
        {
            "sku": "phone",
            "unit_amount_minor": 1_000,
            "is_coupon_allowed": True,
            "tiers": [
                {"pool": "first", "unit_amount_minor": 900},
                {"pool": "second", "unit_amount_minor": 950},
            ],
            "windows": [
                {
                    "from_time": "2023-11-14T00:00:00Z",
                    # One second after the start of the world.
                    "to_time": "2023-11-14T22:13:21Z",
                    "unit_amount_minor": 800,
                }
            ],
        }
    ],
    "gifts": [{"sku": "strap", "threshold_minor": 700}],
    "coupons": [{"coupon_id": "TEN", "reduction_minor": 10}],
}


@pytest.fixture
def world() -> Iterator[World]:
    """An order service with the prices of this file."""
    world = World(units=10)
    world.prices = Prices(parse(DOCUMENT, "test"))
    world.core = world.new_core()
    world.ledger.now_ms = world.clock.now_ms
    yield world
    world.close()


async def test_coupon_and_gift_are_held_with_the_order_and_priced(world: World) -> None:
    """One reservation of three lines; the parts say who pays what."""
    placed = await world.place(coupon_id="TEN")
    shown = (await world.show(placed.order_id)).order

    assert (placed.amount_minor, shown.coupon_id) == (790, "TEN")
    assert world.ledger.available == 7
    assert [(p.sku, p.unit_amount_minor, p.coupon_minor, p.amount_minor) for p in shown.parts] == [
        ("phone", 800, 10, 790),
        ("strap", 0, 0, 0),
    ]
    assert [(line.sku, line.unit_amount_minor) for line in shown.lines] == [("phone", 800)]


async def test_a_gift_that_is_gone_keeps_nobody_from_buying(world: World) -> None:
    """The order goes on without it and says so; so does its repeat."""
    world.ledger.gone.add("strap")
    first = await world.place()
    world.ledger.gone.clear()
    again = await world.place()

    assert first.outcome == outcome_pb2.OUTCOME_OK
    assert list(first.missing_gifts) == list(again.missing_gifts) == ["strap"]
    assert again.order_id == first.order_id
    assert world.ledger.available == 9


async def test_a_coupon_that_is_used_up_is_named(world: World) -> None:
    """SOLD_OUT of the coupon's SKU, and nothing is held."""
    world.ledger.gone.add("coupon:TEN")
    refused = await world.place(coupon_id="TEN")

    assert (refused.outcome, refused.sku) == (outcome_pb2.OUTCOME_SOLD_OUT, "coupon:TEN")
    assert world.ledger.available == 10


async def test_a_coupon_that_is_not_known_is_refused(world: World) -> None:
    """COUPON_INVALID, before the ledger is asked."""
    refused = await world.place(coupon_id="NONE")

    assert (refused.refusal, refused.sku) == (pb.REFUSAL_COUPON_INVALID, "coupon:NONE")
    assert not world.ledger.calls


async def test_the_step_whose_price_was_accepted_is_asked_for(world: World) -> None:
    """After the limited-time price 950 is the second pool's; 800 is nobody's any more."""
    world.clock.advance_to(START_MS + 60_000)
    request = pb.PlaceOrderRequest(request_id="r", account_id="account-1", sale_id="flash")
    request.lines.add(sku="phone", units=1, unit_amount_minor=950, currency="CNY")
    placed = await world.core.place_order(request)
    request.request_id, request.lines[0].unit_amount_minor = "s", 800
    refused = await world.core.place_order(request)

    assert placed.amount_minor == 950
    [part, _gift] = (await world.show(placed.order_id)).order.parts
    assert part.pool == "second"
    assert (refused.refusal, refused.sku) == (pb.REFUSAL_PRICE_CHANGED, "phone")


@pytest.mark.parametrize("is_gift_gone", [False, True])
async def test_a_crash_before_the_row_is_healed_at_the_price_of_then(
    world: World, *, is_gift_gone: bool
) -> None:
    """The limited-time price is over when the call is repeated; the units were taken in it."""
    world.ledger.gone |= {"strap"} if is_gift_gone else set()
    world.runner.fail_next = True
    with pytest.raises(UnavailableError):
        await world.place(coupon_id="TEN")
    world.clock.advance_to(START_MS + 60_000)
    world.ledger.gone.clear()
    healed = await world.place(coupon_id="TEN")
    other = await world.place("request-2", "account-2", coupon_id="TEN")

    assert (healed.amount_minor, healed.replayed) == (790, True)
    assert list(healed.missing_gifts) == (["strap"] if is_gift_gone else [])
    assert other.amount_minor == 990
    assert healed.sequence == 1
    shown = (await world.show(healed.order_id)).order
    assert shown.state == order_pb2.ORDER_STATE_HELD


async def test_a_lost_reply_is_priced_as_it_was(world: World) -> None:
    """Held in the ledger, the reply lost, repeated in another price."""
    world.ledger.lost_replies.append(no_answer())
    with pytest.raises(UnavailableError):
        await world.place()
    world.clock.advance_to(START_MS + 60_000)

    assert (await world.place()).amount_minor == 800


async def test_another_order_under_the_same_id_stays_a_conflict(world: World) -> None:
    """Also before the row is written, and with another coupon after it."""
    world.runner.fail_next = True
    with pytest.raises(UnavailableError):
        await world.place()
    two = await world.place(lines=[("phone", 2)])
    await world.place()
    coupon = await world.place(coupon_id="TEN")

    assert (two.outcome, two.conflict_field) == (outcome_pb2.OUTCOME_CONFLICT, "lines")
    assert (coupon.refusal, coupon.conflict_field) == (pb.REFUSAL_CONFLICT, "coupon_id")


async def test_what_was_taken_goes_back_whole(world: World) -> None:
    """A lapsed order gives back its unit, its gift and its coupon."""
    await world.place(coupon_id="TEN")
    world.ledger.give_back(order_id_of("request-1"), ReleaseReason.EXPIRED)

    assert world.ledger.available == 10


async def test_a_quote_equals_the_order_that_follows(world: World) -> None:
    """The same parts, nothing held by it."""
    request = pb.QuoteRequest(sale_id="flash", coupon_id="TEN")
    request.lines.add(sku="phone", units=2)
    quote = await world.core.quote(request)
    before = world.ledger.available
    placed = await world.place(lines=[("phone", 2)], coupon_id="TEN")
    shown = (await world.show(placed.order_id)).order

    assert before == 10
    assert (quote.amount_minor, quote.currency) == (placed.amount_minor, "CNY")
    assert list(quote.parts) == list(shown.parts)


async def test_a_quote_refuses_as_the_order_would(world: World) -> None:
    """A coupon that does not exist."""
    request = pb.QuoteRequest(sale_id="flash", coupon_id="NONE")
    request.lines.add(sku="phone", units=1)

    assert (await world.core.quote(request)).refusal == pb.REFUSAL_COUPON_INVALID
