"""Clocks, late news and repeats: none of them undoes what money has done.

The table of every abnormal case and its tests: docs/internals/abnormal-payments.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.client.outcomes import AttemptState, ReleaseReason, State
from lastunit.order.states import OrderEvent
from lastunit.order.v1 import order_pb2
from lastunit.stock.v1 import reservation_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from .world import World

PAID, CLOSED = order_pb2.ORDER_STATE_PAID, order_pb2.ORDER_STATE_CLOSED
REFUNDED, REFUND_DUE = order_pb2.ORDER_STATE_REFUNDED, order_pb2.ORDER_STATE_REFUND_DUE


def expiry(world: World, order_id: str) -> None:
    """Lets the notice of an expiry come, although the reservation is sold."""
    reason = ReleaseReason.EXPIRED.value
    world.ledger.happen(order_id, State.CONFIRMED, released={"release_reason": reason})


def timeout(world: World, order_id: str) -> None:
    """Lets the timeout of a payment come, although it has settled."""
    world.ledger.happen(order_id, State.CONFIRMED, became_overdue={})


def failure(world: World, order_id: str) -> None:
    """Lets the failure of the last attempt come as if it had ended the order."""
    settled = {"attempt_id": f"{order_id}:1", "attempt_state": 3, "state": State.RELEASED.value}
    world.ledger.happen(order_id, State.CONFIRMED, payment_settled=settled)


@pytest.mark.parametrize("notice", [expiry, timeout, failure])
async def test_no_late_notice_closes_a_paid_order(
    world: World, notice: Callable[[World, str], None]
) -> None:
    """Expiry, timeout and failure have no place in PAID: counted, compared, without effect."""
    order_id = await world.buy()
    notice(world, order_id)
    shown = (await world.show(order_id)).order

    assert shown.state == PAID
    assert world.core.follower.illegal_count == 1


@pytest.mark.parametrize("notice", [expiry, timeout, failure])
async def test_no_late_notice_undoes_a_refund(
    world: World, notice: Callable[[World, str], None]
) -> None:
    """The same for an order whose money is on its way back."""
    order_id = await world.buy()
    await world.refund(order_id)
    notice(world, order_id)
    owed = (await world.show(order_id)).order.state
    await world.settle_down()

    assert owed == REFUND_DUE
    assert (await world.show(order_id)).order.state == REFUNDED


async def test_a_timeout_that_overtakes_the_payment_leaves_it_paid(world: World) -> None:
    """Overdue, then paid, in one page: PAID, and not overdue any more."""
    order_id = (await world.place()).order_id
    attempt_id = (await world.pay(order_id)).attempt_id
    world.ledger.happen(order_id, State.OVERDUE, became_overdue={})
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
    shown = (await world.show(order_id)).order

    assert (shown.state, shown.is_overdue) == (PAID, False)


async def test_a_page_that_comes_again_changes_nothing(world: World) -> None:
    """Every event of the life once more, from the first: no move, no count, no comparison."""
    order_id = await world.buy()
    steps = len(world.transitions(order_id))
    await world.core.follower.take(world.ledger.events)
    await world.new_core().follower.take(world.ledger.events)

    assert steps == len(world.transitions(order_id))
    assert world.core.follower.illegal_count == 0


async def test_a_success_after_the_money_went_back_never_reopens_the_order(world: World) -> None:
    """Late money without a unit, refunded; then the same success once more."""
    order_id = (await world.place()).order_id
    attempt_id = (await world.pay(order_id)).attempt_id
    world.ledger.settle(order_id, attempt_id, AttemptState.CANCELLED, State.RELEASED)
    world.ledger.settle(order_id, attempt_id, AttemptState.REFUND_DUE, State.REFUND_DUE)
    refund = {"attempt_id": attempt_id, "state": State.REFUNDED.value}
    world.ledger.happen(order_id, State.REFUNDED, refund_recorded=refund)
    again = {
        "attempt_id": attempt_id,
        "payment_result": reservation_pb2.PAYMENT_RESULT_SUCCEEDED,
        "attempt_state": AttemptState.REFUNDED.value,
    }
    world.ledger.happen(order_id, State.REFUNDED, payment_news_ignored=again)
    applied = {"attempt_id": attempt_id, "attempt_state": 5, "state": State.CONFIRMED.value}
    world.ledger.happen(order_id, State.REFUNDED, payment_settled=applied)
    shown = (await world.show(order_id)).order

    assert shown.state == REFUNDED
    # The first is news of lower rank and noted; the second has no place and is counted.
    assert world.core.follower.illegal_count == 1


async def test_a_failure_that_comes_after_the_success_is_noted_only(world: World) -> None:
    """Reordered callbacks: the order stays PAID, and the news is in its history."""
    order_id = await world.buy()
    ignored = {"attempt_id": f"{order_id}:1", "attempt_state": AttemptState.APPLIED.value}
    world.ledger.happen(order_id, State.CONFIRMED, payment_news_ignored=ignored)
    shown = (await world.show(order_id)).order

    assert shown.state == PAID
    assert world.transitions(order_id)[-1].event == OrderEvent.NEWS_IGNORED


async def test_a_cancel_that_loses_against_the_payment_is_paid(world: World) -> None:
    """Cancel asked, then paid before the provider closed: PAID, and the units are the buyer's."""
    order_id = (await world.place()).order_id
    attempt_id = (await world.pay(order_id)).attempt_id
    await world.cancel(order_id)
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
    shown = (await world.show(order_id)).order
    cancelled = await world.cancel(order_id, "cancel-2")

    assert shown.state == PAID
    assert cancelled.order_state == PAID
    assert world.ledger.available == 9
