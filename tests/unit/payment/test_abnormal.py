"""What providers do wrong, and what becomes of the money: one test for each case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.client.outcomes import AttemptState, Outcome, PaymentResult
from lastunit.payment import attempts
from lastunit.payment.attempts import NewAttempt, StartResult
from lastunit.payment.sandbox.core import PayAnswer
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.settings import PaymentSettings
from lastunit.payment.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    import sqlalchemy as sa

from .world import AMOUNT_MINOR, SETTLE_BY_MS, START_MS, World, no_answer, settled

DAY_MS = 86_400_000


async def test_a_paid_attempt_is_settled_once(world: World) -> None:
    """The plain way: start, pay, callback, and the ledger is told SUCCEEDED."""
    started = await world.start()
    world.sandbox.pay(started.attempt.provider_no)
    await world.run_until(START_MS + 2_000)

    assert started.refusal == pb.REFUSAL_UNSPECIFIED
    assert started.attempt.pay_url.endswith(f"/v1/pay/{started.attempt.provider_no}")
    assert (world.ledger.settlements) == [
        ("order-1:1:succeeded", "order-1:1", PaymentResult.SUCCEEDED)
    ]


async def test_a_duplicate_callback_has_one_effect() -> None:
    """The second copy of a callback is answered 200 and changes nothing."""
    world = World(SandboxKnobs(duplicate_probability=1))
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 60_000)

    assert world.results() == [PaymentResult.SUCCEEDED]
    assert world.webhook.counts["ok"] == 2
    world.close()


async def test_a_failure_that_overtakes_money_is_ignored(world: World) -> None:
    """A failed callback that arrives after the success of a second try changes nothing."""
    await world.start()
    world.sandbox.fail("order-1:1")
    world.sandbox.pay("order-1:1")
    world.clock.advance_to(START_MS + 1_000)
    failed, succeeded = world.sandbox.deliveries_due(world.clock.now_ms())
    for delivery in (succeeded, failed):
        assert (await world.post(delivery)).status == 200
    await world.work()

    assert world.results() == [PaymentResult.SUCCEEDED]
    assert (await world.totals())["ignored_news_count"] == 1


async def test_money_after_a_failure_is_honoured(world: World) -> None:
    """A success outranks the failure that was told before it."""
    await world.start()
    world.sandbox.fail("order-1:1")
    await world.run_until(START_MS + 5_000)
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 10_000)

    assert world.results() == [PaymentResult.FAILED, PaymentResult.SUCCEEDED]
    assert world.state() == "SUCCEEDED"


async def test_a_lost_callback_is_found_by_asking() -> None:
    """With every callback lost the schedule's next ask finds the money."""
    world = World(SandboxKnobs(loss_probability=1))
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 59_999)

    assert world.results() == []

    await world.run_until(START_MS + 60_001)

    assert world.results() == [PaymentResult.SUCCEEDED]
    world.close()


@pytest.mark.parametrize(
    "knobs",
    [SandboxKnobs(amount_fault_probability=1), SandboxKnobs(currency_fault_probability=1)],
    ids=["amount", "currency"],
)
async def test_another_sum_than_asked_for_waits_for_a_human(knobs: SandboxKnobs) -> None:
    """Wrong amount or currency is quarantined: shown, never settled, never asked for again."""
    world = World(knobs)
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + DAY_MS)
    listed = await world.core.list_attempts(
        pb.ListAttemptsRequest(state=pb.ATTEMPT_STATE_QUARANTINED, page_size=10)
    )

    assert world.results() == []
    assert [attempt.attempt_id for attempt in listed.attempts] == ["order-1:1"]
    assert (listed.attempts[0].paid_amount_minor, listed.attempts[0].paid_currency) != (
        AMOUNT_MINOR,
        "CNY",
    )
    world.close()


async def test_a_refunded_quarantine_gives_the_unit_back() -> None:
    """Once a human has sent wrong money back the ledger is told CANCELLED."""
    world = World(SandboxKnobs(amount_fault_probability=1))
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 5_000)
    request = pb.RefundAttemptRequest(
        request_id="q-1", attempt_id="order-1:1", reason="wrong amount"
    )
    answer = await world.core.refund_attempt(request)
    await world.run_until(START_MS + 10_000)

    assert answer.refusal == pb.REFUSAL_UNSPECIFIED
    assert world.results() == [PaymentResult.CANCELLED]
    assert world.ledger.refunds == []
    assert [row.refunded_minor for row in world.sandbox.bill()] == [AMOUNT_MINOR - 1]
    world.close()


async def test_a_callback_for_an_unknown_attempt_is_kept(world: World) -> None:
    """It is answered 200, kept as an orphan once, and nobody is told."""
    from lastunit.payment.provider import CreateOrder

    world.sandbox.create(CreateOrder("stranger:1", "card", 5, "CNY"))
    world.sandbox.pay("stranger:1")
    world.clock.advance_to(START_MS + 1_000)
    (delivery,) = world.sandbox.deliveries_due(world.clock.now_ms())
    answers = [await world.post(delivery), await world.post(delivery)]
    await world.work()
    orphans = await world.core.list_orphans(pb.ListOrphansRequest(page_size=10))

    assert [answer.status for answer in answers] == [200, 200]
    assert [(each.attempt_id, each.amount_minor) for each in orphans.orphans] == [("stranger:1", 5)]
    assert world.results() == []


async def test_a_success_after_an_acknowledged_close_is_honoured() -> None:
    """A provider that breaks its word is believed where money is concerned."""
    world = World(SandboxKnobs(takes_money_after_close=True))
    await world.start()
    await world.core.close_attempt(pb.CloseAttemptRequest(attempt_id="order-1:1"))
    await world.run_until(START_MS + 5_000)
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 10_000)

    assert world.results() == [PaymentResult.CANCELLED, PaymentResult.SUCCEEDED]
    world.close()


async def test_late_money_without_a_unit_is_sent_back(world: World) -> None:
    """When the ledger says REFUND_DUE the money goes back once and the ledger hears of it."""
    await world.start()
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.REFUND_DUE, refund_due=True))
    world.ledger.happen(refund_became_due={"attempt_id": "order-1:1"})
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 60_000)

    assert [row.refunded_minor for row in world.sandbox.bill()] == [AMOUNT_MINOR]
    assert world.ledger.refunds == ["order-1:1"]


async def test_a_double_payment_sends_the_second_back(world: World) -> None:
    """Two methods both paid: only the attempt that the ledger owes is refunded."""
    await world.start("order-1:1")
    await world.start("order-1:2", method="wallet")
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.APPLIED))
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.REFUND_DUE, refund_due=True))
    world.sandbox.pay("order-1:1")
    world.sandbox.pay("order-1:2")
    await world.run_until(START_MS + 60_000)

    assert {row.merchant_no: row.refunded_minor for row in world.sandbox.bill()} == {
        "order-1:1": 0,
        "order-1:2": AMOUNT_MINOR,
    }


async def test_paid_between_ask_and_close_is_a_success() -> None:
    """At settle_by the close is refused because it was paid a moment ago."""
    world = World(SandboxKnobs(loss_probability=1))
    await world.start()
    await world.run_until(SETTLE_BY_MS - 1)
    world.sandbox.pay("order-1:1")
    await world.run_until(SETTLE_BY_MS + 1)

    assert world.results() == [PaymentResult.SUCCEEDED]
    world.close()


async def test_nobody_pays_and_only_the_close_gives_the_unit_back(world: World) -> None:
    """Until settle_by the attempt stays open; then an acknowledged close makes it CANCELLED."""
    await world.start()
    await world.run_until(SETTLE_BY_MS)

    assert world.state() == "OPEN"

    await world.run_until(SETTLE_BY_MS + 1)

    assert world.results() == [PaymentResult.CANCELLED]
    assert PayAnswer.CLOSED is world.sandbox.pay("order-1:1")


async def test_a_provider_that_is_down_is_asked_until_it_answers() -> None:
    """Nothing is given back while the provider is silent; the first answer after it counts."""
    until_ms = 1_800_000
    outages = tuple(
        Outage(operation, 10, until_ms) for operation in (Operation.QUERY, Operation.CLOSE)
    )
    world = World(SandboxKnobs(loss_probability=1, outages=outages))
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + until_ms)

    assert world.results() == []
    assert (await world.totals())["ask_count"] > 30

    await world.run_until(START_MS + until_ms + 36_001)

    assert world.results() == [PaymentResult.SUCCEEDED]
    world.close()


async def test_too_young_to_close_is_closed_when_it_is_older() -> None:
    """A close that is refused for its age is repeated; until then the attempt is open."""
    world = World(SandboxKnobs(close_age_ms_min=300_000))
    await world.start()
    answer = await world.core.close_attempt(pb.CloseAttemptRequest(attempt_id="order-1:1"))
    await world.run_until(START_MS + 304_000)

    assert answer.attempt.state == pb.ATTEMPT_STATE_OPEN
    assert world.results() == []

    await world.run_until(START_MS + 305_001)

    assert world.results() == [PaymentResult.CANCELLED]
    world.close()


async def test_a_create_call_without_an_answer_is_asked_for_soon() -> None:
    """UNKNOWN is asked for after 2 s and found open; the buyer's money then counts as ever."""
    world = World(SandboxKnobs(create_silence_probability=1))
    started = await world.start()
    await world.run_until(START_MS + 2_001)

    assert started.refusal == pb.REFUSAL_PROVIDER_DOWN
    assert world.state() == "OPEN"

    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 5_000)

    assert world.results() == [PaymentResult.SUCCEEDED]
    world.close()


async def test_a_repeated_start_finds_the_pay_page_of_a_silent_create() -> None:
    """The repeat creates the same number again and so gets its page, not a second attempt."""
    world = World(SandboxKnobs(create_silence_probability=1))
    await world.start()
    world.sandbox.knobs = SandboxKnobs()
    repeated = await world.start()

    assert repeated.replayed
    assert repeated.attempt.pay_url
    assert world.sandbox.totals()["attempt_count"] == 1
    world.close()


async def test_a_refusing_provider_fails_the_attempt(world: World) -> None:
    """An attempt the provider refuses to create is FAILED and the ledger is told."""
    world.sandbox.close("order-1:1")
    started = await world.start()
    await world.work()

    assert started.refusal == pb.REFUSAL_PROVIDER_REFUSED
    assert world.results() == [PaymentResult.FAILED]


async def test_a_cancel_of_the_ledger_closes_at_the_provider(world: World) -> None:
    """CancelAtProviderRequested closes the attempt; the ledger is told what came of it."""
    await world.start()
    world.ledger.happen(cancel_at_provider_requested={"attempt_id": "order-1:1"})
    await world.run_until(START_MS + 100)

    assert world.results() == [PaymentResult.CANCELLED]


async def test_an_attempt_nobody_started_is_barred_before_its_unit_goes_back(world: World) -> None:
    """The ledger asks for an attempt we never had: its number is shut, then CANCELLED is told."""
    world.ledger.happen(ask_provider_requested={"attempt_id": "order-1:1"})
    await world.run_until(START_MS + 100)
    late = await world.start()

    assert world.results() == [PaymentResult.CANCELLED]
    assert late.refusal == pb.REFUSAL_ALREADY_CLOSED
    assert PayAnswer.CLOSED is world.sandbox.pay("order-1:1")


async def test_a_silent_ledger_is_told_until_it_answers(world: World) -> None:
    """Settlements are repeated with the same id, and nothing is lost over a restart."""
    await world.start()
    world.ledger.errors.extend([no_answer(), no_answer(), no_answer()])
    world.sandbox.pay("order-1:1")
    world.clock.advance_to(START_MS + 1_000)
    await world.deliver()
    await world.core.process_inbox_once()
    await world.core.settle_once()
    world.core = world.new_core()
    await world.run_until(START_MS + 10_000)

    assert {"order-1:1:succeeded"} == {each[0] for each in world.ledger.settlements}
    assert (await world.totals())["settlement_waiting_count"] == 0


async def test_a_refund_the_provider_refuses_ends_with_a_human() -> None:
    """After the last pause a refused refund is FAILED, visible, and not tried any more."""
    world = World(SandboxKnobs(is_refund_refused=True))
    await world.start()
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.REFUND_DUE, refund_due=True))
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + DAY_MS)
    totals = await world.totals()

    assert totals["refund_failed_count"] == 1
    assert world.ledger.refunds == []
    assert world.core.next_due_ms() is None
    world.close()


async def test_a_given_up_refund_is_tried_again_when_a_human_asks() -> None:
    """RefundAttempt after the last pause sends the money back once the provider is willing."""
    world = World(SandboxKnobs(is_refund_refused=True))
    await world.start()
    world.ledger.answers.append(settled(Outcome.OK, AttemptState.REFUND_DUE, refund_due=True))
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + DAY_MS)
    world.sandbox.knobs = SandboxKnobs()
    request = pb.RefundAttemptRequest(
        request_id="q-1", attempt_id="order-1:1", reason="provider is willing"
    )
    await world.core.refund_attempt(request)
    await world.run_until(START_MS + DAY_MS + 60_000)

    assert [row.refunded_minor for row in world.sandbox.bill()] == [AMOUNT_MINOR]
    assert world.ledger.refunds == ["order-1:1"]
    world.close()


async def test_an_attempt_at_another_provider_must_end_first(world: World) -> None:
    """While money may come by one provider no attempt is written for another."""
    await world.start()
    other = NewAttempt(
        "order-1:2", "order-1", "order-1", "elsewhere", "card", AMOUNT_MINOR, "CNY", SETTLE_BY_MS
    )

    def start(connection: sa.Connection) -> StartResult:
        return attempts.start(
            connection, other, now_ms=START_MS, first_ask_ms=START_MS, attempts_max=16
        )

    while_open = await world.database.run(start)
    await world.run_until(SETTLE_BY_MS + 1)
    after_close = await world.database.run(start)

    assert (while_open.is_other_provider_open, while_open.row) == (True, None)
    assert after_close.is_new


async def test_a_crash_before_the_create_call_is_healed_by_asking(world: World) -> None:
    """An attempt that was written and never created is asked for and closed at settle_by."""
    world.sandbox.knobs = SandboxKnobs(outages=(Outage(Operation.CREATE, 0, 1_000),))
    await world.start()
    world.core = world.new_core()
    await world.run_until(SETTLE_BY_MS + 1)

    assert world.results() == [PaymentResult.CANCELLED]
    assert PayAnswer.CLOSED is world.sandbox.pay("order-1:1")


async def test_inbox_effects_happen_once_over_a_restart(world: World) -> None:
    """A restart reads the inbox from where the effects ended."""
    await world.start()
    world.sandbox.pay("order-1:1")
    await world.run_until(START_MS + 2_000)
    world.core = world.new_core()
    await world.run_until(START_MS + 4_000)

    assert world.results() == [PaymentResult.SUCCEEDED]
    assert (await world.totals())["ignored_news_count"] == 0


async def test_a_stored_callback_can_be_acted_upon_again(world: World) -> None:
    """A second look has no second effect; one that came before its attempt was known settles it."""
    early = await world.tell("payment.succeeded", "e-early")
    await world.start()
    first = pb.ReprocessCallbackRequest(provider="sandbox", event_id="e-early")
    unknown = pb.ReprocessCallbackRequest(provider="sandbox", event_id="e-none")
    answers = [await world.core.reprocess_callback(first) for _ in range(2)]
    refused = await world.core.reprocess_callback(unknown)
    await world.work()

    assert early.status == 200
    assert {answer.attempt.state for answer in answers} == {pb.ATTEMPT_STATE_SUCCEEDED}
    assert answers[0].receive_time.ToMilliseconds() == START_MS
    assert world.results() == [PaymentResult.SUCCEEDED]
    assert refused.refusal == pb.REFUSAL_UNKNOWN_CALLBACK


async def test_asks_stay_under_the_bound_a_second() -> None:
    """Many attempts due at once are asked for at the set rate, none is forgotten."""
    world = World(
        SandboxKnobs(loss_probability=1), PaymentSettings(asks_per_second=5, ask_offsets_seconds=())
    )
    for number in range(10):
        await world.start(f"order-{number}:1", order_id=f"order-{number}")
    world.clock.advance_to(SETTLE_BY_MS)
    asked = await world.core.reconcile_once(SETTLE_BY_MS)

    assert asked == 5

    await world.run_until(SETTLE_BY_MS + 1_100)

    assert len(world.results()) == 10
    world.close()


async def test_a_provider_we_do_not_have_is_refused(world: World) -> None:
    """An attempt at an unknown provider is refused before anything is written."""
    await world.start()
    other = await world.start("order-1:2", provider="elsewhere")

    assert other.refusal == pb.REFUSAL_PROVIDER_DOWN


async def test_the_same_attempt_with_other_content_is_a_conflict(world: World) -> None:
    """The field that differs is named and nothing changes."""
    await world.start()
    other = await world.start(amount_minor=1)

    assert (other.refusal, other.conflict_field) == (pb.REFUSAL_CONFLICT, "amount_minor")


async def test_an_order_has_a_last_attempt() -> None:
    """One attempt more than allowed is refused, the last allowed one is not."""
    world = World(settings=PaymentSettings(attempts_per_order_max=2))
    answers = [await world.start(f"order-1:{number}") for number in (1, 2, 3)]

    assert [answer.refusal for answer in answers] == [0, 0, pb.REFUSAL_TOO_MANY_ATTEMPTS]
    world.close()
