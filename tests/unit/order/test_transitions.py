"""What is kept of every move: entity, from, to, event, cause, actor and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lastunit.client.outcomes import AttemptState, ReleaseReason, State
from lastunit.order.moves import CauseKind, Entity
from lastunit.order.states import OrderEvent, OrderState
from lastunit.stock.v1 import event_pb2, reservation_pb2

from .ledger import START_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .world import World


def events(world: World, order_id: str) -> Sequence[str]:
    """Returns the events of an order, in order."""
    return [step.event for step in world.transitions(order_id)]


async def test_the_making_of_an_order_is_its_first_transition(world: World) -> None:
    """CREATED to HELD by the buyer's call, with the account, the time and the ledger's event."""
    placed = await world.place()
    first = world.transitions(placed.order_id)[0]

    assert (first.entity, first.state_from, first.state_to, first.event) == (
        Entity.ORDER,
        OrderState.CREATED,
        OrderState.HELD,
        OrderEvent.RESERVED,
    )
    assert (first.cause_kind, first.cause, first.actor) == (
        CauseKind.CALL,
        "request-1",
        "account-1",
    )
    assert (first.number, first.ledger_sequence, first.time_ms) == (1, placed.sequence, START_MS)


async def test_a_move_names_its_cause_its_actor_its_proof_and_its_time(world: World) -> None:
    """A settlement: the attempt, the caller of the ledger, the provider's evidence, ledger time."""
    order_id = (await world.place()).order_id
    attempt_id = (await world.pay(order_id)).attempt_id
    world.ledger.settle(
        order_id,
        attempt_id,
        AttemptState.APPLIED,
        State.CONFIRMED,
        evidence="sandbox callback evt-1",
    )
    world.ledger.events[-1].caller = "payment-service"
    await world.show(order_id)
    paid = world.transitions(order_id)[-1]

    assert (paid.event, paid.cause_kind, paid.cause) == (
        OrderEvent.PAID,
        CauseKind.LEDGER,
        attempt_id,
    )
    assert (paid.actor, paid.reason) == ("payment-service", "sandbox callback evt-1")
    assert (paid.ledger_sequence, paid.time_ms) == (3, START_MS + 2)


async def test_what_nobody_asked_for_is_the_timers(world: World) -> None:
    """An expiry has the timer for cause and actor; the order says EXPIRED."""
    order_id = (await world.place()).order_id
    world.ledger.give_back(order_id, ReleaseReason.EXPIRED)
    await world.show(order_id)
    closed = world.transitions(order_id)[-1]

    assert (closed.event, closed.cause, closed.actor) == (OrderEvent.RELEASED, "timer", "timer")


async def test_late_news_on_a_cancelled_order_is_neither_an_error_nor_swallowed(
    world: World,
) -> None:
    """A failure after the cancel is a transition of its own; nothing else moves."""
    order_id = (await world.place()).order_id
    attempt_id = (await world.pay(order_id)).attempt_id
    world.ledger.settle(order_id, attempt_id, AttemptState.CANCELLED, State.RELEASED)
    ignored = {
        "attempt_id": attempt_id,
        "payment_result": reservation_pb2.PAYMENT_RESULT_FAILED,
        "attempt_state": AttemptState.CANCELLED.value,
        "evidence": "sandbox callback evt-2",
    }
    world.ledger.happen(order_id, State.RELEASED, payment_news_ignored=ignored)
    shown = await world.show(order_id)
    last = world.transitions(order_id)[-1]

    assert shown.order.state == 5
    assert (last.event, last.cause, last.reason) == (
        OrderEvent.NEWS_IGNORED,
        attempt_id,
        "sandbox callback evt-2",
    )
    assert world.core.follower.illegal_count == 0


async def test_a_failure_after_an_unverified_release_closes_the_attempt_only(world: World) -> None:
    """The operator released it without the provider's word; the word comes after all, as a no."""
    order_id = (await world.place()).order_id
    attempt_id = (await world.pay(order_id)).attempt_id
    world.ledger.give_back(order_id, ReleaseReason.UNVERIFIED)
    world.ledger.settle(order_id, attempt_id, AttemptState.FAILED, State.RELEASED)
    shown = await world.show(order_id)

    assert events(world, order_id)[-2:] == [OrderEvent.RELEASED, OrderEvent.ATTEMPT_CLOSED]
    assert shown.order.attempts[0].state == reservation_pb2.ATTEMPT_STATE_FAILED
    assert world.core.follower.illegal_count == 0


async def test_transitions_are_numbered_without_a_gap(world: World) -> None:
    """Whoever has the last number misses none and gets none twice."""
    order_id = (await world.place()).order_id
    await world.pay(order_id)
    await world.pay(order_id, "pay-2", "wallet")
    await world.cancel(order_id)
    await world.show(order_id)
    numbers = [step.number for step in world.transitions(order_id)]

    assert list(range(1, len(numbers) + 1)) == numbers
    assert len(numbers) == 4


async def test_two_who_take_the_same_events_write_each_once(world: World) -> None:
    """The loop and a reader that waits for its own write, and a second process beside both."""
    order_id = (await world.place()).order_id
    await world.pay(order_id)
    page: list[event_pb2.Event] = list(world.ledger.events)
    other = world.new_core()
    await asyncio.gather(
        world.core.follower.take(page), world.core.follower.take(page), other.follower.take(page)
    )

    assert events(world, order_id) == [OrderEvent.RESERVED, OrderEvent.PAYMENT_BEGUN]


async def test_a_reason_with_a_nul_stops_nobody(world: World) -> None:
    """The ledger lets it through, a database would not; the order goes on."""
    order_id = (await world.place()).order_id
    world.ledger.give_back(order_id, ReleaseReason.OPERATOR)
    world.ledger.events[-1].reason = "by\0hand"
    await world.show(order_id)

    assert world.transitions(order_id)[-1].reason == "by hand"
