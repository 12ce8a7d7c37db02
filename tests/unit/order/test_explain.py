"""Explain: one call tells what happened to an order, wherever it happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.order.explain_text import explanation_text
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.v1 import payment_service_pb2 as payment_pb

from .ledger import START_MS, no_answer

if TYPE_CHECKING:
    from .world import World

Entity = order_pb2.TransitionEntity


def tell(world: World, count: int) -> None:
    """Gives the payment service moves to explain, a millisecond apart."""
    for each in range(count):
        move = payment_pb.Transition(
            attempt_id="a-1",
            refund_id="r-1" if each % 2 else "",
            entity="refund" if each % 2 else "attempt",
            event=f"EVENT_{each}",
            cause="callback evt-1",
            actor="sandbox",
        )
        move.time.FromMilliseconds(START_MS + each)
        world.payments.transitions.append(move)


async def explain(world: World, order_id: str) -> pb.ExplainResponse:
    """Explains an order."""
    return await world.core.explain(pb.ExplainRequest(order_id=order_id))


async def test_everything_that_moved_is_told_by_time(world: World) -> None:
    """Order, goods, reservation, attempt and refund, sorted, and the price it was sold at."""
    order_id = await world.buy()
    await world.ship(order_id)
    tell(world, 5)
    explained = await explain(world, order_id)
    times = [move.time.ToMilliseconds() for move in explained.transitions]

    assert sorted(times) == times
    assert {move.entity for move in explained.transitions} == {
        Entity.TRANSITION_ENTITY_ORDER,
        Entity.TRANSITION_ENTITY_FULFILMENT,
        Entity.TRANSITION_ENTITY_RESERVATION,
        Entity.TRANSITION_ENTITY_ATTEMPT,
        Entity.TRANSITION_ENTITY_REFUND,
    }
    assert sum(move.event.startswith("EVENT_") for move in explained.transitions) == 5
    assert all(move.time.ToMilliseconds() and move.event for move in explained.transitions)
    assert explained.order.parts[0].amount_minor == 84_000
    assert not explained.missing


async def test_who_does_not_answer_keeps_nobody_from_the_rest(world: World) -> None:
    """The order's own moves are told, and what is missing is said."""
    order_id = await world.buy()
    world.payments.list_error = no_answer()
    world.ledger.admin.error = no_answer()
    explained = await explain(world, order_id)

    assert {move.entity for move in explained.transitions} == {Entity.TRANSITION_ENTITY_ORDER}
    assert len(explained.missing) == 2


async def test_a_journal_that_begins_later_is_said(world: World) -> None:
    """The first moves of the reservation were removed with old segments."""
    order_id = await world.buy()
    world.ledger.admin.is_complete = False

    assert "begins with event 1" in (await explain(world, order_id)).missing[0]


async def test_a_page_of_text_says_what_the_message_does(world: World) -> None:
    """Where it stands, the price, and a line a move with cause, actor and why; what is missing."""
    order_id = await world.buy()
    await world.ship(order_id)
    await world.refund(order_id, 4_000)
    world.payments.list_error = no_answer()
    text = explanation_text(await explain(world, order_id))
    lines = text.splitlines()
    moves = lines[lines.index("") + 1 :]

    assert f"order    {order_id}, sale flash" in lines
    assert "stands   PAID, SHIPPED" in lines
    assert "part     1 x phone of main, 84000 each, off 0, paid 84000, back 4000" in lines
    assert "refund   4000 ASKED, by desk-1: buyer asked" in lines
    shipped = next(line for line in moves if " SHIP " in line)
    assert shipped.startswith("2023-11-14 22:13:20.000  fulfilment ")
    columns = " ".join(shipped.split()[3:])
    assert columns == "SHIP UNSHIPPED > SHIPPED CALL ship-1 warehouse-1 post"
    assert lines[-1].startswith("missing: attempts and refunds")


async def test_an_unknown_order_is_refused(world: World) -> None:
    """UNKNOWN_ORDER, and nobody else is asked."""
    assert (await explain(world, "o-x")).refusal == pb.REFUSAL_UNKNOWN_ORDER
