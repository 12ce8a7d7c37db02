"""Refund: never more than was paid, each once, whatever is lost on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.client.outcomes import AttemptState, Disposition, ReleaseReason, State
from lastunit.order.states import OrderEvent
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.v1 import payment_service_pb2 as payment_pb
from lastunit.prices.catalogue import Catalogue, Coupon, Gift, Item, Reduction, Step
from lastunit.prices.quote import Prices
from lastunit.stock.v1 import outcome_pb2

from .ledger import no_answer
from .world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

PAID, REFUND_DUE = order_pb2.ORDER_STATE_PAID, order_pb2.ORDER_STATE_REFUND_DUE
REFUNDED, RETURNED = order_pb2.ORDER_STATE_REFUNDED, order_pb2.ORDER_STATE_RETURNED
PRICE = 84_000


def events(world: World, order_id: str) -> Sequence[str]:
    """Returns the events after the payment."""
    names = [step.event for step in world.transitions(order_id)]
    return names[names.index(OrderEvent.PAID) + 1 :]


async def test_a_full_refund_gives_the_money_and_then_the_units_back(world: World) -> None:
    """PAID, REFUND_DUE, REFUNDED; the unit that never left is for sale again."""
    order_id = await world.buy()
    asked = await world.refund(order_id)
    before = world.ledger.available
    await world.settle_down()
    shown = (await world.show(order_id)).order

    assert (asked.refusal, asked.order_state) == (0, REFUND_DUE)
    assert (asked.refund.amount_minor, asked.refund.is_full) == (PRICE, True)
    assert (before, world.ledger.available) == (9, 10)
    assert (shown.state, shown.refund_minor) == (REFUNDED, PRICE)
    assert shown.refunds[0].state == order_pb2.ORDER_REFUND_STATE_DONE
    assert events(world, order_id) == [
        OrderEvent.FULL_REFUND_ASKED,
        OrderEvent.FULL_REFUND_DONE,
        OrderEvent.RETURNED,
    ]


async def test_parts_are_refunded_until_nothing_is_left(world: World) -> None:
    """A part moves nothing; the part that takes the rest makes it a full refund."""
    order_id = await world.buy()
    first = await world.refund(order_id, 30_000)
    second = await world.refund(order_id, 50_000, "refund-2")
    over = await world.refund(order_id, 4_001, "refund-3")
    last = await world.refund(order_id, 4_000, "refund-3")

    assert [first.order_state, second.order_state, last.order_state] == [PAID, PAID, REFUND_DUE]
    assert [first.refundable_minor, second.refundable_minor] == [54_000, 4_000]
    assert (over.refusal, over.refundable_minor) == (pb.REFUSAL_OVER_PAID, 4_000)

    await world.settle_down()

    assert (await world.show(order_id)).order.state == REFUNDED
    assert sum(each.amount_minor for each in world.payments.refunds.values()) == PRICE
    assert world.ledger.available == 10


async def test_units_wait_until_the_last_part_of_the_money_is_back(world: World) -> None:
    """The refund that takes the rest is done first; nothing is REFUNDED before the other is."""
    order_id = await world.buy()
    world.payments.refund_state = payment_pb.REFUND_STATE_PENDING
    await world.refund(order_id, 30_000)
    await world.core.deliver_once()
    world.payments.refund_state = payment_pb.REFUND_STATE_DONE
    await world.refund(order_id, 0, "refund-2")
    await world.core.deliver_once()
    waiting = (await world.show(order_id)).order
    world.payments.refunds[f"{order_id}:r1"].state = payment_pb.REFUND_STATE_DONE
    await world.settle_down()
    done = (await world.show(order_id)).order

    assert waiting.state == REFUND_DUE
    assert waiting.refunds[1].state == order_pb2.ORDER_REFUND_STATE_GIVING_BACK
    assert done.state == REFUNDED
    assert world.ledger.available == 10


async def test_a_repeat_is_the_same_refund(world: World) -> None:
    """The same id again, also after it is done: one refund, replayed, shown as it stands."""
    order_id = await world.buy()
    first = await world.refund(order_id, 30_000)
    again = await world.refund(order_id, 30_000)
    await world.settle_down()
    later = await world.refund(order_id, 30_000)

    assert (first.replayed, again.replayed, later.replayed) == (False, True, True)
    assert first.refund.refund_id == later.refund.refund_id
    assert later.refund.state == order_pb2.ORDER_REFUND_STATE_DONE
    assert len(world.payments.refunds) == 1


async def test_the_same_id_with_another_amount_is_a_conflict(world: World) -> None:
    """The field is named, and nothing more goes back."""
    order_id = await world.buy()
    await world.refund(order_id, 30_000)
    conflict = await world.refund(order_id, 30_001)

    assert (conflict.refusal, conflict.conflict_field) == (pb.REFUSAL_CONFLICT, "amount_minor")
    assert len((await world.show(order_id)).order.refunds) == 1


async def test_an_id_of_another_method_is_a_conflict(world: World) -> None:
    """The id of a Ship is no Refund."""
    order_id = await world.buy()
    await world.ship(order_id, "same")
    conflict = await world.refund(order_id, 0, "same")

    assert conflict.refusal == pb.REFUSAL_CONFLICT


async def test_what_is_not_paid_is_not_refunded(world: World) -> None:
    """Unknown, held, closed and paying orders are refused with their state."""
    order_id = (await world.place()).order_id
    unknown = await world.refund("o-x")
    held = await world.refund(order_id)
    await world.pay(order_id)
    await world.show(order_id)
    paying = await world.refund(order_id)
    await world.cancel(order_id)
    world.ledger.give_back(order_id, ReleaseReason.CLIENT)
    await world.show(order_id)
    closed = await world.refund(order_id)

    assert unknown.refusal == pb.REFUSAL_UNKNOWN_ORDER
    assert {pb.REFUSAL_WRONG_STATE} == {held.refusal, paying.refusal, closed.refusal}
    assert [held.order_state, paying.order_state, closed.order_state] == [2, 3, 5]


async def test_an_order_that_nobody_paid_for_has_nothing_to_give_back(world: World) -> None:
    """Sold without a payment step: OVER_PAID, with 0 left."""
    order_id = (await world.place()).order_id
    world.ledger.happen(order_id, State.CONFIRMED, confirmed={})
    await world.show(order_id)
    refused = await world.refund(order_id)

    assert (refused.refusal, refused.refundable_minor) == (pb.REFUSAL_OVER_PAID, 0)


@pytest.mark.parametrize("lost", ["question", "answer", "units"])
async def test_whatever_is_lost_on_the_way_is_done_once(world: World, lost: str) -> None:
    """A call that fails, an answer that is lost, a ledger that is away, and a restart between."""
    order_id = await world.buy()
    queue = {
        "question": world.payments.refund_errors,
        "answer": world.payments.lost_refund_replies,
        "units": world.ledger.errors,
    }[lost]
    queue.extend([no_answer(), no_answer()])
    await world.refund(order_id)
    for _ in range(3):
        await world.core.deliver_once()
        world.core = world.new_core()
    await world.settle_down()
    shown = (await world.show(order_id)).order

    assert not queue
    assert (shown.state, world.ledger.available) == (REFUNDED, 10)
    assert [each.amount_minor for each in world.payments.refunds.values()] == [PRICE]


async def test_a_lost_answer_of_the_ledger_gives_no_unit_twice(world: World) -> None:
    """The units are back although the answer was lost; nothing more goes back."""
    order_id = await world.buy()
    await world.refund(order_id)
    await world.core.deliver_once()
    world.ledger.lost_replies.append(no_answer())
    await world.settle_down()

    assert world.ledger.available == 10
    assert (await world.show(order_id)).order.refunds[0].state == 3


async def test_two_processes_refund_once(world: World) -> None:
    """Both find the row due, both ask: one refund, one transition, one unit."""
    order_id = await world.buy()
    await world.refund(order_id)
    other = world.new_core()
    for core in (world.core, other, world.core, other):
        await core.deliver_once()
    await world.settle_down()

    assert world.ledger.available == 10
    assert events(world, order_id).count(OrderEvent.FULL_REFUND_DONE) == 1


async def test_a_refund_that_is_refused_stays_owed_and_says_why(world: World) -> None:
    """REFUND_DUE with the payment service's word, tried again until somebody has helped."""
    order_id = await world.buy()
    world.payments.refund_refusal = payment_pb.REFUSAL_NOT_PAID
    await world.refund(order_id)
    await world.core.deliver_once()
    owed = (await world.show(order_id)).order
    world.payments.refund_refusal = payment_pb.REFUSAL_UNSPECIFIED
    await world.settle_down()

    assert (owed.state, owed.refunds[0].last_refusal) == (REFUND_DUE, "NOT_PAID")
    assert (await world.show(order_id)).order.state == REFUNDED


async def test_a_late_success_never_reopens_a_refunded_order(world: World) -> None:
    """A second payment after the refund is owed back by itself; the order stays REFUNDED."""
    order_id = await world.buy()
    second = f"{order_id}:9"
    await world.refund(order_id)
    await world.settle_down()
    world.ledger.settle(order_id, second, AttemptState.REFUND_DUE, State.RETURNED)
    shown = (await world.show(order_id)).order

    refused = await world.pay(order_id, "pay-9")

    assert shown.state == REFUNDED
    assert world.core.follower.illegal_count == 0
    assert refused.outcome == outcome_pb2.OUTCOME_WRONG_STATE
    assert len(world.payments.started) == 1


async def test_a_comparison_leaves_what_was_asked_back_as_it_is(world: World) -> None:
    """The ledger counts the money as well spent; a comparison does not undo the refund."""
    order_id = await world.buy()
    await world.refund(order_id)
    await world.core.follower.compare(order_id)
    world.ledger.happen(order_id, State.CONFIRMED, became_overdue={})
    shown = (await world.show(order_id)).order

    assert shown.state == REFUND_DUE
    assert world.core.follower.divergent_count == 0


async def test_refunds_of_an_order_have_a_bound(world: World) -> None:
    """The 65th is TOO_MANY; a repeat of an earlier one is still answered."""
    order_id = await world.buy()
    for each in range(64):
        assert (await world.refund(order_id, 1, f"refund-{each}")).refusal == 0
    refused = await world.refund(order_id, 1, "refund-64")
    repeated = await world.refund(order_id, 1, "refund-63")

    assert (refused.refusal, repeated.replayed) == (pb.REFUSAL_TOO_MANY, True)


def shop() -> World:
    """Phones and cases, with a sticker as a gift, a full reduction and a coupon."""
    world = World(20)
    world.prices = Prices(
        Catalogue(
            version=1,
            currency="CNY",
            items=(
                Item(sku="phone", unit_amount_minor=1_000, is_coupon_allowed=True),
                Item(sku="case", unit_amount_minor=333),
            ),
            reductions=(
                Reduction(name="autumn", steps=(Step(threshold_minor=1_000, reduction_minor=100),)),
            ),
            gifts=(Gift(sku="sticker", threshold_minor=1_000),),
            coupons=(Coupon(coupon_id="ten", reduction_minor=10),),
        )
    )
    world.core = world.new_core()
    return world


async def test_coupon_and_gift_go_back_with_a_full_refund() -> None:
    """Everything that was taken is given back: goods, gift and the coupon's unit."""
    world = shop()
    before = world.ledger.available
    order_id = await world.buy(lines=[("phone", 2), ("case", 1)], coupon_id="ten")
    taken = before - world.ledger.available
    await world.refund(order_id)
    await world.settle_down()

    assert taken == 5
    assert world.ledger.available == before
    assert dict(world.ledger.returned) == {
        ("phone", Disposition.RESELL): 2,
        ("case", Disposition.RESELL): 1,
        ("sticker", Disposition.RESELL): 1,
        ("coupon:ten", Disposition.RESELL): 1,
    }


async def test_a_part_is_split_over_the_lines_to_the_last_unit_of_money() -> None:
    """The parts' shares sum to the refund, and never exceed what is left of a part."""
    world = shop()
    order_id = await world.buy(lines=[("phone", 1), ("case", 1)])
    await world.refund(order_id, 500)
    shown = (await world.show(order_id)).order

    assert sum(part.refund_minor for part in shown.parts) == 500
    assert [part.sku for part in shown.parts if part.refund_minor] == ["phone", "case"]
    assert all(part.refund_minor <= part.amount_minor for part in shown.parts)
