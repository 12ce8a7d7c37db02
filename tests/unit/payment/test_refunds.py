"""Money that goes back: all of it or a part, once, and never more than was paid."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.client.outcomes import AttemptState, Outcome, PaymentResult
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.v1 import payment_service_pb2 as pb

from .world import AMOUNT_MINOR, START_MS, World, settled

if TYPE_CHECKING:
    from collections.abc import Sequence

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


async def paid_world(knobs: SandboxKnobs | None = None) -> World:
    """Makes a world in which `order-1:1` is paid and settled; then the knobs are turned."""
    world = World()
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 2_000)
    world.sandbox.knobs = knobs or SandboxKnobs()
    return world


async def refund(world: World, amount_minor: int = 0, **changes: Any) -> pb.RefundAttemptResponse:
    """Asks for money back."""
    request = pb.RefundAttemptRequest(
        request_id="q-1", attempt_id="order-1:1", reason="a scratch", amount_minor=amount_minor
    )
    for name, value in changes.items():
        setattr(request, name, value)
    return await world.core.refund_attempt(request, caller="order-service")


def given_back(world: World) -> int:
    """Returns what the provider says is back."""
    return sum(row.refunded_minor for row in world.sandbox.bill())


async def shown(world: World) -> Sequence[pb.Refund]:
    """Returns all refunds."""
    return (await world.core.list_refunds(pb.ListRefundsRequest(page_size=100))).refunds


async def test_a_part_goes_back_and_the_rest_stays() -> None:
    """A partial refund is done at the provider; the ledger, which owes nothing, is not told."""
    world = await paid_world()
    answer = await refund(world, 4_000)
    await world.run_until(START_MS + 10_000)
    attempt = (await world.core.get_attempt(pb.GetAttemptRequest(attempt_id="order-1:1"))).attempt

    assert (answer.refusal, answer.replayed) == (pb.REFUSAL_UNSPECIFIED, False)
    assert (answer.refund.amount_minor, answer.refund.currency) == (4_000, "CNY")
    assert given_back(world) == 4_000
    assert (attempt.refund_state, attempt.refunded_amount_minor) == (pb.REFUND_STATE_DONE, 4_000)
    assert world.ledger.refunds == []
    world.close()


async def test_nothing_means_all_that_is_left() -> None:
    """After a part, an amount of 0 gives back the rest; after that nothing is left."""
    world = await paid_world()
    await refund(world, 4_000)
    rest = await refund(world, 0, request_id="q-2")
    none = await refund(world, 0, request_id="q-3")
    await world.run_until(START_MS + 10_000)

    assert rest.refund.amount_minor == AMOUNT_MINOR - 4_000
    assert none.refusal == pb.REFUSAL_OVER_PAID
    assert given_back(world) == AMOUNT_MINOR
    world.close()


async def test_a_repeat_is_the_same_refund_and_tells_how_far_it_is() -> None:
    """The same request gives the money back once and later shows DONE."""
    world = await paid_world()
    first = await refund(world, 4_000)
    await world.run_until(START_MS + 10_000)
    again = await refund(world, 4_000)

    assert (again.replayed, again.refund.refund_id) == (True, first.refund.refund_id)
    assert [first.refund.state, again.refund.state] == [pb.REFUND_STATE_INIT, pb.REFUND_STATE_DONE]
    assert given_back(world) == 4_000
    world.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("amount_minor", 3_999), ("reason", "another"), ("attempt_id", "order-9:1")],
)
async def test_the_same_request_with_other_content_is_a_conflict(field: str, value: Any) -> None:
    """The field that differs is named and nothing more goes back."""
    world = await paid_world()
    await refund(world, 4_000)
    other = await refund(world, **({"amount_minor": 4_000} | {field: value}))
    await world.run_until(START_MS + 10_000)

    assert (other.refusal, other.conflict_field) == (pb.REFUSAL_CONFLICT, field)
    assert given_back(world) == 4_000
    world.close()


async def test_one_unit_of_money_too_much_is_refused() -> None:
    """Exactly what is left goes back, one more does not."""
    world = await paid_world()
    await refund(world, 4_000)
    too_much = await refund(world, AMOUNT_MINOR - 3_999, request_id="q-2")
    just_right = await refund(world, AMOUNT_MINOR - 4_000, request_id="q-3")

    assert too_much.refusal == pb.REFUSAL_OVER_PAID
    assert just_right.refusal == pb.REFUSAL_UNSPECIFIED
    world.close()


async def test_money_that_never_came_cannot_go_back(world: World) -> None:
    """An open attempt and one that nobody knows are refused, each with its reason."""
    await world.start()
    unpaid = await refund(world)
    unknown = await refund(world, attempt_id="nobody:1")

    assert [unpaid.refusal, unknown.refusal] == [
        pb.REFUSAL_NOT_PAID,
        pb.REFUSAL_UNKNOWN_ATTEMPT,
    ]


async def test_an_accepted_refund_is_asked_for_until_it_is_done() -> None:
    """PENDING is asked for after 1 min, 5 min, 30 min; with callbacks lost that finds the end."""
    lost = SandboxKnobs(refund_delay_ms=20 * MINUTE_MS, loss_probability=1)
    world = await paid_world(lost)
    await refund(world, 4_000)
    await world.run_until(START_MS + 19 * MINUTE_MS)

    assert [each.state for each in await shown(world)] == [pb.REFUND_STATE_PENDING]

    await world.run_until(START_MS + 40 * MINUTE_MS)

    assert [each.state for each in await shown(world)] == [pb.REFUND_STATE_DONE]
    world.close()


async def test_a_callback_ends_a_refund_at_once() -> None:
    """News by callback counts without asking, and a duplicate of it changes nothing."""
    told = SandboxKnobs(
        refund_delay_ms=2 * HOUR_MS, duplicate_probability=1, outages=(_down(Operation.REFUND),)
    )
    world = await paid_world()
    world.sandbox.knobs = SandboxKnobs(refund_delay_ms=2 * HOUR_MS, duplicate_probability=1)
    await refund(world, 4_000)
    await world.work()
    world.sandbox.knobs = told
    await world.run_until(START_MS + 2 * HOUR_MS + MINUTE_MS)
    done = await shown(world)

    assert [each.state for each in done] == [pb.REFUND_STATE_DONE]
    assert done[0].provider_refund_no
    world.close()


def _down(operation: Operation) -> Outage:
    return Outage(operation, 0, 240 * HOUR_MS)


async def test_a_refund_that_comes_to_nothing_is_tried_anew_with_another_key() -> None:
    """The bank sends it back: FAILED, then a second refund at the provider, and one sum is back."""
    world = await paid_world(SandboxKnobs(refund_delay_ms=1_000, is_refund_failing=True))
    await refund(world, 4_000)
    await world.run_until(START_MS + 10_000)
    failed = await shown(world)
    world.sandbox.knobs = SandboxKnobs()
    await world.run_until(START_MS + 5 * MINUTE_MS)

    assert [(each.state, each.failure_code) for each in failed] == [
        (pb.REFUND_STATE_FAILED, "RETURNED")
    ]
    assert [each.state for each in await shown(world)] == [pb.REFUND_STATE_DONE]
    assert given_back(world) == 4_000
    world.close()


async def test_an_outage_of_refunds_ends_with_one_refund() -> None:
    """Nobody answers for an hour; the call is repeated with the same key until somebody does."""
    world = await paid_world(SandboxKnobs(outages=(Outage(Operation.REFUND, 0, HOUR_MS),)))
    await refund(world, 4_000)
    await world.run_until(START_MS + HOUR_MS - 1)

    assert [each.state for each in await shown(world)] == [pb.REFUND_STATE_INIT]

    await world.run_until(START_MS + HOUR_MS + MINUTE_MS)

    assert given_back(world) == 4_000
    world.close()


async def test_owed_money_is_recorded_when_the_last_part_is_back() -> None:
    """A part went back before the ledger owed all of it: the rest follows, then RecordRefund."""
    world = await paid_world()
    await refund(world, 4_000)
    await world.run_until(START_MS + 5_000)

    assert world.ledger.refunds == []

    world.ledger.happen(refund_became_due={"attempt_id": "order-1:1"})
    await world.run_until(START_MS + 10_000)

    assert given_back(world) == AMOUNT_MINOR
    assert world.ledger.refunds == ["order-1:1"]
    assert (await world.totals())["refund_unrecorded_count"] == 0
    world.close()


async def test_money_that_is_back_already_when_it_is_owed_is_only_recorded() -> None:
    """All went back by hand, then the ledger owes it: it is told, and nothing goes back twice."""
    world = await paid_world()
    await refund(world)
    await world.run_until(START_MS + 5_000)
    world.ledger.happen(refund_became_due={"attempt_id": "order-1:1"})
    await world.run_until(START_MS + 10_000)

    assert given_back(world) == AMOUNT_MINOR
    assert world.ledger.refunds == ["order-1:1"]
    world.close()


async def test_late_news_of_money_after_a_refund_changes_nothing() -> None:
    """A success that is told again after the money is back is kept as ignored, and that is all."""
    world = await paid_world()
    await refund(world)
    await world.run_until(START_MS + 5_000)
    answer = await world.tell("payment.succeeded", "e-late")
    await world.run_until(START_MS + 60_000)

    assert answer.status == 200
    assert world.results() == [PaymentResult.SUCCEEDED]
    assert given_back(world) == AMOUNT_MINOR
    assert (await world.totals())["ignored_news_count"] == 1
    world.close()


async def test_what_happened_is_told_with_cause_and_actor() -> None:
    """Each change of attempt and refund is there, in order, with who and what caused it."""
    world = await paid_world()
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.APPLIED))
    await refund(world, 4_000, actor="ann")
    await world.run_until(START_MS + 10_000)
    first = await world.core.list_transitions(
        pb.ListTransitionsRequest(order_id="order-1", page_size=3)
    )
    second = await world.core.list_transitions(
        pb.ListTransitionsRequest(
            order_id="order-1", page_size=100, page_token=first.next_page_token
        )
    )
    told = [*first.transitions, *second.transitions]

    assert [(each.entity, each.event, each.state_from, each.state_to) for each in told] == [
        ("attempt", "STARTED", "", "INIT"),
        ("attempt", "CREATED", "INIT", "OPEN"),
        ("attempt", "PAID", "OPEN", "SUCCEEDED"),
        ("refund", "STARTED", "", "INIT"),
        ("refund", "DONE", "INIT", "DONE"),
        ("refund", "DONE", "DONE", "DONE"),
    ]
    assert [(each.cause, each.actor) for each in told] == [
        ("call StartAttempt order-1:1", "payment-service"),
        ("create", "sandbox"),
        ("callback e-1", "sandbox"),
        ("call RefundAttempt q-1", "ann"),
        ("timer refund", "sandbox"),
        ("callback e-2", "sandbox"),
    ]
    assert all(each.time.ToMilliseconds() >= START_MS for each in told)
    assert (first.next_page_token != "", second.next_page_token) == (True, "")
    world.close()


@pytest.mark.one_database
@pytest.mark.parametrize("seed", range(6))
async def test_refunds_never_give_back_more_than_was_paid(seed: int) -> None:
    """Random parts, repeats and faults: books and bill agree, and neither exceeds what was paid."""
    chance = random.Random(seed)
    world = await paid_world()
    asked = 0
    for number in range(60):
        world.sandbox.knobs = SandboxKnobs(
            refund_delay_ms=chance.choice([0, 0, 90_000]),
            is_refund_refused=chance.random() < 0.2,
            is_refund_failing=chance.random() < 0.2,
            loss_probability=chance.choice([0, 1]),
            duplicate_probability=chance.choice([0, 1]),
            reorder_probability=chance.choice([0, 1]),
        )
        amount_minor = chance.choice([1, 7, 2_500, 20_000, AMOUNT_MINOR])
        request_id = f"q-{chance.randrange(number + 1)}"
        answer = await refund(world, amount_minor, request_id=request_id)
        if answer.refusal == pb.REFUSAL_UNSPECIFIED and not answer.replayed:
            asked += amount_minor
        await world.run_until(world.clock.now_ms() + chance.randrange(1, 200_000))

        assert given_back(world) <= asked <= AMOUNT_MINOR
    world.sandbox.knobs = SandboxKnobs()
    await world.run_until(world.clock.now_ms() + 48 * HOUR_MS)
    for each in await shown(world):
        # Whatever was given up meanwhile is asked for once more, by whoever asked.
        await refund(world, each.amount_minor, request_id=each.request_id)
    await world.run_until(world.clock.now_ms() + 48 * HOUR_MS)

    assert asked > 0
    assert given_back(world) == asked, f"seed {seed}"
    assert {each.state for each in await shown(world)} == {pb.REFUND_STATE_DONE}
    world.close()
