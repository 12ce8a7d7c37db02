"""Ship, Deliver and ReturnGoods: thin, each once, and only from where the table allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.client.outcomes import Disposition
from lastunit.order.moves import Entity
from lastunit.order.states import FulfilmentEvent
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb

from .ledger import no_answer

if TYPE_CHECKING:
    from .world import World

PAID, REFUNDED = order_pb2.ORDER_STATE_PAID, order_pb2.ORDER_STATE_REFUNDED
RETURNED = order_pb2.ORDER_STATE_RETURNED
SHIPPED, DELIVERED = order_pb2.FULFILMENT_STATE_SHIPPED, order_pb2.FULFILMENT_STATE_DELIVERED
UNSHIPPED = order_pb2.FULFILMENT_STATE_UNSHIPPED
PRICE = 84_000


async def test_goods_are_shipped_and_delivered_beside_the_order(world: World) -> None:
    """The order stays PAID; the goods have states and transitions of their own."""
    order_id = await world.buy()
    shipped, delivered = await world.ship(order_id), await world.deliver(order_id)
    steps = [step for step in world.transitions(order_id) if step.entity == Entity.FULFILMENT]

    assert (shipped.fulfilment_state, delivered.fulfilment_state) == (SHIPPED, DELIVERED)
    assert (shipped.order_state, delivered.order_state) == (PAID, PAID)
    assert [(step.event, step.cause, step.actor, step.reason) for step in steps] == [
        (FulfilmentEvent.SHIP, "ship-1", "warehouse-1", "post"),
        (FulfilmentEvent.DELIVER, "deliver-1", "post-1", ""),
    ]


async def test_what_is_not_paid_is_not_shipped(world: World) -> None:
    """Held, and paid but refunded: WRONG_STATE with both states."""
    held = (await world.place("request-2", "account-2")).order_id
    refused = await world.ship(held)
    order_id = await world.buy()
    await world.refund(order_id)
    going_back = await world.ship(order_id)

    assert (refused.refusal, refused.fulfilment_state) == (pb.REFUSAL_WRONG_STATE, UNSHIPPED)
    assert going_back.refusal == pb.REFUSAL_WRONG_STATE
    assert going_back.order_state == order_pb2.ORDER_STATE_REFUND_DUE


async def test_the_same_call_again_is_the_same_and_another_is_refused(world: World) -> None:
    """A repeat is replayed, other content a conflict, a second parcel WRONG_STATE."""
    order_id = await world.buy()
    await world.ship(order_id)
    repeated = await world.ship(order_id)
    request = pb.ShipRequest(request_id="ship-1", order_id=order_id, carrier="rail", actor="w")
    conflict = await world.core.ship(request)
    second = await world.ship(order_id, "ship-2")
    early = await world.deliver((await world.place("request-2", "account-2")).order_id)

    assert (repeated.replayed, repeated.refusal) == (True, 0)
    assert (conflict.refusal, conflict.conflict_field) == (pb.REFUSAL_CONFLICT, "carrier")
    assert (second.refusal, early.refusal) == (pb.REFUSAL_WRONG_STATE, pb.REFUSAL_WRONG_STATE)


async def test_a_refund_after_shipping_leaves_the_units_where_they_are(world: World) -> None:
    """The money goes back in full; the parcel is the buyer's until it comes back."""
    order_id = await world.buy()
    await world.ship(order_id)
    await world.refund(order_id)
    await world.settle_down()
    gone = world.ledger.available
    back = await world.give_back(order_id)
    await world.settle_down()
    shown = (await world.show(order_id)).order

    assert (gone, world.ledger.available) == (9, 10)
    assert not back.HasField("refund"), "the money was back already"
    assert shown.state == REFUNDED


async def test_returned_goods_are_booked_and_paid_back(world: World) -> None:
    """Two of three units: kept apart, and their price goes back, to the last unit of money."""
    order_id = await world.buy(lines=[("phone", 3)])
    await world.ship(order_id)
    back = await world.give_back(order_id, [("phone", 2)], disposition=Disposition.QUARANTINE)
    await world.settle_down()
    shown = (await world.show(order_id)).order

    assert back.refund.amount_minor == 2 * PRICE
    assert dict(world.ledger.returned) == {("phone", Disposition.QUARANTINE): 2}
    assert (shown.state, shown.refund_minor) == (PAID, 2 * PRICE)

    await world.give_back(order_id, [("phone", 1)], "return-2")
    await world.settle_down()
    shown = (await world.show(order_id)).order

    assert (shown.state, shown.refund_minor) == (REFUNDED, 3 * PRICE)


async def test_goods_may_come_back_without_their_money(world: World) -> None:
    """Everything is back: RETURNED; a refund then leads to REFUNDED and gives no unit twice."""
    order_id = await world.buy()
    await world.ship(order_id)
    await world.give_back(order_id, does_refund=False)
    await world.settle_down()
    returned = (await world.show(order_id)).order.state
    await world.refund(order_id)
    await world.settle_down()

    assert returned == RETURNED
    assert (await world.show(order_id)).order.state == REFUNDED
    assert world.ledger.available == 10


@pytest.mark.parametrize(
    ("lines", "refusal", "sku"),
    [
        ([("case", 1)], pb.REFUSAL_UNKNOWN_SKU, "case"),
        ([("phone", 3)], pb.REFUSAL_NOT_ENOUGH_UNITS, "phone"),
        ([("phone", 1), ("phone", 2)], pb.REFUSAL_NOT_ENOUGH_UNITS, "phone"),
    ],
)
async def test_more_than_was_sold_does_not_come_back(
    world: World, lines: list[tuple[str, int]], refusal: int, sku: str
) -> None:
    """The sku is named, and nothing is written."""
    order_id = await world.buy(lines=[("phone", 2)])
    await world.ship(order_id)
    refused = await world.give_back(order_id, lines)
    await world.settle_down()

    assert (refused.refusal, refused.sku) == (refusal, sku)
    assert not world.ledger.returned
    assert not world.payments.refunds


async def test_goods_that_never_left_do_not_come_back(world: World) -> None:
    """WRONG_STATE: such an order is refunded, which gives its units back."""
    order_id = await world.buy()

    assert (await world.give_back(order_id)).refusal == pb.REFUSAL_WRONG_STATE


async def test_a_return_whose_answer_was_lost_is_booked_once(world: World) -> None:
    """The ledger acted and did not answer; the repeat has the same id."""
    order_id = await world.buy(lines=[("phone", 3)])
    await world.ship(order_id)
    await world.give_back(order_id)
    world.ledger.lost_replies.append(no_answer())
    world.ledger.errors.append(no_answer())
    await world.settle_down()

    assert dict(world.ledger.returned) == {("phone", Disposition.RESELL): 1}
    assert sum(each.amount_minor for each in world.payments.refunds.values()) == PRICE


async def test_a_return_that_the_ledger_refuses_is_said_and_pays_all_the_same(
    world: World,
) -> None:
    """The goods are here; what is wrong is the count, and somebody has to look."""
    order_id = await world.buy()
    await world.ship(order_id)
    await world.ledger.return_units(
        "by-hand",
        reservation_id=order_id,
        sku="phone",
        units=1,
        disposition=Disposition.WRITE_OFF,
    )
    await world.give_back(order_id)
    await world.settle_down()
    explained = await world.core.explain(pb.ExplainRequest(order_id=order_id))

    assert any("WRONG_STATE" in each for each in explained.missing)
    assert explained.order.state == REFUNDED
