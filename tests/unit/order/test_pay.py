"""Pay, Cancel and what the ledger's events make of an order."""

from __future__ import annotations

from typing import Any

import pytest

from lastunit.client.outcomes import AttemptState, Outcome, ReleaseReason, State
from lastunit.errors import RolledBackError, UnavailableError
from lastunit.order.settings import OrderSettings
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.v1 import payment_service_pb2
from lastunit.stock.v1 import outcome_pb2, reservation_pb2

from .ledger import START_MS, no_answer
from .world import World

PAYING = order_pb2.ORDER_STATE_PAYING
PAID = order_pb2.ORDER_STATE_PAID
CLOSED = order_pb2.ORDER_STATE_CLOSED
HELD = order_pb2.ORDER_STATE_HELD
REFUND_DUE = order_pb2.ORDER_STATE_REFUND_DUE


async def placed_and_paying(world: World) -> tuple[str, str]:
    """Returns an order that is paying, and its attempt."""
    order_id = (await world.place()).order_id
    return order_id, (await world.pay(order_id)).attempt_id


async def test_pay_tells_the_ledger_before_the_provider(world: World) -> None:
    """The attempt is begun, then started, and the buyer gets the pay page."""
    order_id = (await world.place()).order_id
    paid = await world.pay(order_id)
    shown = await world.show(order_id)

    assert (outcome_pb2.OUTCOME_OK, f"{order_id}:1") == (paid.outcome, paid.attempt_id)
    assert paid.pay_url.endswith(paid.attempt_id)
    assert shown.order.state == PAYING
    assert paid.settle_by_time.ToMilliseconds() == START_MS + 900_000


async def test_a_repeated_pay_is_the_same_attempt(world: World) -> None:
    """The same id gets the same number; another id the next one; another method a conflict."""
    order_id = (await world.place()).order_id
    first, again = await world.pay(order_id), await world.pay(order_id)
    second = await world.pay(order_id, "pay-2", "wallet")
    conflict = await world.pay(order_id, "pay-2", "card")

    assert [f"{order_id}:1", f"{order_id}:1", f"{order_id}:2"] == [
        each.attempt_id for each in (first, again, second)
    ]
    assert (first.replayed, again.replayed) == (False, True)
    assert conflict.conflict_field == "method"


@pytest.mark.parametrize("lost", ["ledger", "payment"])
async def test_a_pay_cut_off_half_way_goes_on_with_the_same_attempt(
    world: World, lost: str
) -> None:
    """Whether the ledger's or the payment service's answer was lost, the repeat carries on."""
    order_id = (await world.place()).order_id
    errors = world.ledger.lost_replies if lost == "ledger" else world.payments.errors
    errors.append(no_answer())
    with pytest.raises(UnavailableError):
        await world.pay(order_id)
    world.core = world.new_core()
    repeated = await world.pay(order_id)

    assert f"{order_id}:1" == repeated.attempt_id
    assert {f"{order_id}:1"} == set(world.payments.started)


async def test_a_lapsed_order_is_refused_before_money_moves(world: World) -> None:
    """The ledger cannot take the unit again: the provider is never called."""
    order_id = (await world.place()).order_id
    world.ledger.give_back(order_id, ReleaseReason.EXPIRED)
    world.ledger.begin_outcomes.append(Outcome.SOLD_OUT)
    refused = await world.pay(order_id)

    assert refused.outcome == outcome_pb2.OUTCOME_SOLD_OUT
    assert world.payments.started == []


async def test_a_lapsed_order_is_paid_if_the_unit_is_free(world: World) -> None:
    """The ledger takes the unit again and the order is PAYING once more."""
    order_id = (await world.place()).order_id
    world.ledger.give_back(order_id, ReleaseReason.EXPIRED)

    assert (await world.show(order_id)).order.state == CLOSED

    await world.pay(order_id)
    shown = await world.show(order_id)

    assert shown.order.state == PAYING
    assert shown.order.close_reason == order_pb2.CLOSE_REASON_UNSPECIFIED


async def test_a_paid_order_is_not_paid_again(world: World) -> None:
    """A new id is refused as ALREADY_PAID without asking anybody."""
    order_id, attempt_id = await placed_and_paying(world)
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
    await world.show(order_id)
    refused = await world.pay(order_id, "pay-2")

    assert refused.refusal == pb.REFUSAL_ALREADY_PAID
    assert world.ledger.calls["begin_payment"] == 1


async def test_numbers_of_attempts_have_a_bound() -> None:
    """One more than allowed is TOO_MANY_ATTEMPTS."""
    world = World(settings=OrderSettings(pays_per_order_max=2))
    order_id = (await world.place()).order_id
    outcomes = [(await world.pay(order_id, f"pay-{each}")).outcome for each in range(3)]

    assert outcomes == [1, 1, outcome_pb2.OUTCOME_TOO_MANY_ATTEMPTS]
    world.close()


@pytest.mark.parametrize(
    ("told", "outcome", "refusal"),
    [
        (payment_service_pb2.REFUSAL_PROVIDER_DOWN, 1, pb.REFUSAL_PROVIDER_DOWN),
        (payment_service_pb2.REFUSAL_PROVIDER_REFUSED, 1, pb.REFUSAL_PROVIDER_DOWN),
        (payment_service_pb2.REFUSAL_ALREADY_CLOSED, outcome_pb2.OUTCOME_WRONG_STATE, 0),
        (payment_service_pb2.REFUSAL_CONFLICT, outcome_pb2.OUTCOME_CONFLICT, pb.REFUSAL_CONFLICT),
    ],
)
async def test_what_the_payment_service_refuses_is_told(
    world: World, told: Any, outcome: int, refusal: int
) -> None:
    """Each refusal has its words for the buyer."""
    order_id = (await world.place()).order_id
    world.payments.refusal = told
    paid = await world.pay(order_id)

    assert (outcome, refusal, "") == (paid.outcome, paid.refusal, paid.pay_url)


async def test_an_unknown_order_is_unknown_to_every_call(world: World) -> None:
    """Pay, Cancel and GetOrder all say so."""
    refusals = {
        (await world.pay("o-x")).refusal,
        (await world.cancel("o-x")).refusal,
        (await world.show("o-x")).refusal,
    }

    assert {pb.REFUSAL_UNKNOWN_ORDER} == refusals


async def test_a_held_order_is_cancelled_at_once(world: World) -> None:
    """The unit is back and the order CLOSED by its buyer; a repeat is answered the same."""
    order_id = (await world.place()).order_id
    first, again = await world.cancel(order_id), await world.cancel(order_id)
    shown = await world.show(order_id)

    assert (first.outcome, first.order_state) == (outcome_pb2.OUTCOME_OK, CLOSED)
    assert again.replayed
    assert world.ledger.available == 10
    assert shown.order.close_reason == order_pb2.CLOSE_REASON_CLIENT


async def test_a_paying_order_waits_for_its_provider(world: World) -> None:
    """Cancel while paying only asks; the order closes when the attempt is closed."""
    order_id, attempt_id = await placed_and_paying(world)
    asked = await world.cancel(order_id)
    waiting = await world.show(order_id)
    world.ledger.settle(order_id, attempt_id, AttemptState.CANCELLED, State.RELEASED)
    closed = await world.show(order_id)

    assert (asked.refusal, asked.is_release_requested) == (pb.REFUSAL_IN_PAYMENT, True)
    assert (waiting.order.state, waiting.order.is_cancel_asked) == (PAYING, True)
    assert (
        closed.order.state,
        closed.order.close_reason,
    ) == (CLOSED, order_pb2.CLOSE_REASON_PAYMENT_FAILED)


async def test_a_paid_order_cannot_be_cancelled(world: World) -> None:
    """ALREADY_PAID, and the ledger's state is shown."""
    order_id, attempt_id = await placed_and_paying(world)
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
    refused = await world.cancel(order_id)

    assert (refused.refusal, refused.order_state) == (pb.REFUSAL_ALREADY_PAID, PAID)


async def test_overdue_keeps_the_order_paying(world: World) -> None:
    """Past settle_by the order is PAYING and marked, never closed."""
    order_id, _ = await placed_and_paying(world)
    world.ledger.happen(order_id, State.OVERDUE, became_overdue={})
    shown = await world.show(order_id)

    assert (shown.order.state, shown.order.is_overdue) == (PAYING, True)


async def test_a_failed_attempt_leaves_the_order_held(world: World) -> None:
    """The last attempt failed in time: HELD again with a new end."""
    order_id, attempt_id = await placed_and_paying(world)
    world.ledger.settle(
        order_id,
        attempt_id,
        AttemptState.FAILED,
        State.HELD,
        expire_time={"seconds": START_MS // 1000 + 720},
    )
    shown = await world.show(order_id)

    assert shown.order.state == HELD
    assert shown.order.expire_time.ToMilliseconds() == START_MS + 720_000
    assert [each.state for each in shown.order.attempts] == [reservation_pb2.ATTEMPT_STATE_FAILED]


async def test_late_money_takes_a_unit_again(world: World) -> None:
    """A success on a closed order with a free unit makes it PAID and marked."""
    order_id, attempt_id = await placed_and_paying(world)
    world.ledger.settle(order_id, attempt_id, AttemptState.CANCELLED, State.RELEASED)
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED, retaken=True)
    shown = await world.show(order_id)

    assert (shown.order.state, shown.order.is_retaken) == (PAID, True)


async def test_late_money_without_a_unit_is_owed_and_then_refunded(world: World) -> None:
    """CLOSED to REFUND_DUE to REFUNDED."""
    order_id, attempt_id = await placed_and_paying(world)
    world.ledger.settle(order_id, attempt_id, AttemptState.CANCELLED, State.RELEASED)
    world.ledger.settle(order_id, attempt_id, AttemptState.REFUND_DUE, State.REFUND_DUE)
    owed = await world.show(order_id)
    refund = {"attempt_id": attempt_id, "state": State.REFUNDED.value}
    world.ledger.happen(order_id, State.REFUNDED, refund_recorded=refund)
    refunded = await world.show(order_id)

    assert [
        owed.order.state,
        refunded.order.state,
    ] == [REFUND_DUE, order_pb2.ORDER_STATE_REFUNDED]


async def test_a_second_payment_is_owed_and_the_order_stays_paid(world: World) -> None:
    """Both methods paid: PAID, and the second attempt alone is refunded."""
    order_id, first = await placed_and_paying(world)
    second = (await world.pay(order_id, "pay-2", "wallet")).attempt_id
    world.ledger.settle(order_id, first, AttemptState.APPLIED, State.CONFIRMED)
    world.ledger.settle(order_id, second, AttemptState.REFUND_DUE, State.CONFIRMED)
    refund = {"attempt_id": second, "state": State.CONFIRMED.value}
    world.ledger.happen(order_id, State.CONFIRMED, refund_recorded=refund)
    shown = await world.show(order_id)

    assert shown.order.state == PAID
    assert [each.state for each in shown.order.attempts] == [
        reservation_pb2.ATTEMPT_STATE_APPLIED,
        reservation_pb2.ATTEMPT_STATE_REFUNDED,
    ]


async def test_events_are_taken_in_once_over_a_restart(world: World) -> None:
    """The position is saved with the effects: a restart repeats none and misses none."""
    order_id, attempt_id = await placed_and_paying(world)
    await world.show(order_id)
    world.core = world.new_core()
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
    shown = await world.show(order_id)

    assert shown.order.state == PAID
    assert world.core.follower.illegal_count == 0


async def test_an_event_without_a_place_is_counted_and_compared(world: World) -> None:
    """An order that cannot make sense of an event asks the ledger and follows its word."""
    order_id = (await world.place()).order_id
    world.ledger.happen(order_id, State.REFUND_DUE, refund_recorded={"attempt_id": "x"})
    shown = await world.show(order_id)

    assert world.core.follower.illegal_count == 1
    assert shown.order.state == REFUND_DUE


async def test_a_comparison_never_takes_a_paid_order_back(world: World) -> None:
    """Where the table has no way the order stays and the difference is counted."""
    order_id, attempt_id = await placed_and_paying(world)
    world.ledger.settle(order_id, attempt_id, AttemptState.APPLIED, State.CONFIRMED)
    await world.show(order_id)
    world.ledger.happen(order_id, State.HELD, became_overdue={})
    shown = await world.show(order_id)

    assert shown.order.state == PAID
    assert world.core.follower.divergent_count == 1


async def test_reservations_of_others_cost_no_transaction(world: World) -> None:
    """Events of reservations that are no orders of ours are read and passed by."""
    for each in range(50):
        world.ledger.happen(f"load-{each}", State.RELEASED, released={"release_reason": 1})

    assert await world.core.follow_once() == 50
    assert not world.runner.counts


async def test_a_ledger_that_lost_its_journal_is_noticed(world: World) -> None:
    """The journal ends before what it had told: nothing is followed and nothing sold."""
    order_id, _ = await placed_and_paying(world)
    await world.show(order_id)
    world.ledger.events.clear()

    with pytest.raises(RolledBackError, match="do not sell"):
        await world.core.follow_once()
    with pytest.raises(RolledBackError, match="do not sell"):
        await world.place("request-2", "account-2")


async def test_reading_ones_own_write_follows_the_ledger_that_far(world: World) -> None:
    """GetOrder with the sequence of the cancel takes the events in that nobody had followed yet."""
    order_id = (await world.place()).order_id
    cancelled = await world.cancel(order_id)
    request = pb.GetOrderRequest(order_id=order_id, minimum_sequence=cancelled.sequence)
    shown = await world.core.get_order(request)

    assert shown.order.state == CLOSED
    assert shown.as_of_sequence >= cancelled.sequence
    assert world.ledger.calls["get_reservation"] == 0


async def test_orders_are_listed_newest_first_page_by_page(world: World) -> None:
    """Three orders in pages of two, by account and by person."""
    ids = []
    for each in range(3):
        world.clock.advance_to(START_MS + each)
        ids.append((await world.place(f"request-{each}")).order_id)
    first = await world.core.list_orders(pb.ListOrdersRequest(account_id="account-1", page_size=2))
    second = await world.core.list_orders(
        pb.ListOrdersRequest(person_id="person-1", page_size=2, page_token=first.next_page_token)
    )

    assert ids[::-1] == [each.order_id for each in (*first.orders, *second.orders)]
    assert second.next_page_token == ""
