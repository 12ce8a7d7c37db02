"""Money and units over the real ledger: every abnormal end of a payment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment.sandbox.core import PayAnswer
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.v1 import payment_service_pb2
from lastunit.stock.v1 import outcome_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .system import System

    Make = Callable[..., Awaitable[System]]

MINUTE_MS = 60_000
# From the start of a payment until it is overdue, by the sale's policy.
SETTLE_BY_MS = 15 * MINUTE_MS


async def test_a_buyer_pays_and_the_unit_is_sold(system: Make) -> None:
    """The plain way, from button to PAID; nothing is left for the next buyer."""
    shop = await system()
    placed = await shop.place("ada")
    paid = await shop.pay(placed.order_id)
    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(2_000)
    late = await shop.place("bob")

    assert await shop.state(placed.order_id) == "PAID"
    assert late.outcome == outcome_pb2.OUTCOME_SOLD_OUT
    assert await shop.counters() == {"supplied": 1, "sold": 1}
    await shop.audit()


async def test_nobody_pays_and_the_unit_comes_back(system: Make) -> None:
    """Begun and never paid: closed at the provider at settle_by, then free for the next buyer."""
    shop = await system()
    placed = await shop.place("ada")
    await shop.pay(placed.order_id)
    await shop.run_for(SETTLE_BY_MS - 1)

    assert await shop.state(placed.order_id) == "PAYING"

    await shop.run_for(20 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "CLOSED"
    assert (await shop.place("bob")).outcome == outcome_pb2.OUTCOME_OK
    await shop.audit()


async def test_an_order_nobody_pays_for_lapses(system: Make) -> None:
    """HELD without a payment ends by the clock, and the order says EXPIRED."""
    shop = await system()
    placed = await shop.place("ada")
    await shop.run_for(11 * MINUTE_MS)
    order = await shop.order(placed.order_id)

    assert (
        order.state,
        order.close_reason,
    ) == (order_pb2.ORDER_STATE_CLOSED, order_pb2.CLOSE_REASON_EXPIRED)
    await shop.audit()


async def test_callbacks_fifteen_minutes_late_sell_the_unit_once(system: Make) -> None:
    """Asking finds the money long before; the late callbacks change nothing."""
    shop = await system(knobs=SandboxKnobs(callback_delay_ms=SETTLE_BY_MS, duplicate_probability=1))
    placed = await shop.place("ada")
    shop.sandbox.pay((await shop.pay(placed.order_id)).provider_no)
    await shop.run_for(2 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "PAID"

    await shop.run_for(20 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "PAID"
    await shop.audit()


async def test_late_money_takes_a_free_unit_again(system: Make) -> None:
    """A provider that breaks its word after a close: the order gets its unit back."""
    shop = await system(knobs=SandboxKnobs(takes_money_after_close=True))
    placed = await shop.place("ada")
    paid = await shop.pay(placed.order_id)
    await shop.cancel(placed.order_id)
    await shop.run_for(MINUTE_MS)

    assert await shop.state(placed.order_id) == "CLOSED"

    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(MINUTE_MS)
    order = await shop.order(placed.order_id)

    assert (order.state, order.is_retaken) == (order_pb2.ORDER_STATE_PAID, True)
    await shop.audit()


async def test_late_money_without_a_unit_is_refunded(system: Make) -> None:
    """The unit went to somebody else meanwhile: REFUND_DUE, refund, REFUNDED."""
    shop = await system(knobs=SandboxKnobs(takes_money_after_close=True))
    placed = await shop.place("ada")
    paid = await shop.pay(placed.order_id)
    await shop.cancel(placed.order_id)
    await shop.run_for(MINUTE_MS)
    other = await shop.place("bob")
    shop.sandbox.pay((await shop.pay(other.order_id)).provider_no)
    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(MINUTE_MS)

    assert [await shop.state(order_id) for order_id in (placed.order_id, other.order_id)] == [
        "REFUNDED",
        "PAID",
    ]
    await shop.audit()


async def test_money_after_an_operator_gave_the_unit_away_is_refunded(system: Make) -> None:
    """ReleaseUnverified while the provider is down, the unit is sold again, then money comes."""
    down = tuple(
        Outage(operation, MINUTE_MS, 60 * MINUTE_MS)
        for operation in (Operation.QUERY, Operation.CLOSE, Operation.CALLBACK)
    )
    shop = await system(knobs=SandboxKnobs(outages=down))
    placed = await shop.place("ada")
    paid = await shop.pay(placed.order_id)
    await shop.run_for(MINUTE_MS)
    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(SETTLE_BY_MS)
    reply = await shop.client.admin.release_unverified(
        admin_pb.ReleaseUnverifiedRequest(
            request_id=f"{shop.sale_id}:force",
            actor="operator",
            reason="provider is down",
            reservation_id=placed.order_id,
        )
    )
    other = await shop.place("bob")

    assert reply.is_ok
    assert other.outcome == outcome_pb2.OUTCOME_OK

    await shop.pay(other.order_id)
    await shop.run_for(50 * MINUTE_MS)
    shop.sandbox.knobs = SandboxKnobs()
    await shop.run_for(10 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "REFUNDED"
    await shop.audit()


async def test_a_double_payment_by_two_methods_is_refunded_once(system: Make) -> None:
    """Both attempts paid: one unit sold, the second sum sent back."""
    shop = await system()
    placed = await shop.place("ada")
    numbers = [
        (await shop.pay(placed.order_id, method)).provider_no for method in ("card", "wallet")
    ]
    for number in numbers:
        assert PayAnswer.PAID is shop.sandbox.pay(number)
    await shop.run_for(2 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "PAID"
    assert sorted(row.refunded_minor for row in shop.sandbox.bill()) == [0, 84_000]
    await shop.audit()


async def test_the_other_method_is_closed_once_one_is_paid(system: Make) -> None:
    """After the first money the second page takes none."""
    shop = await system()
    placed = await shop.place("ada")
    card, wallet = [
        (await shop.pay(placed.order_id, method)).provider_no for method in ("card", "wallet")
    ]
    shop.sandbox.pay(card)
    await shop.run_for(5_000)

    assert PayAnswer.CLOSED is shop.sandbox.pay(wallet)
    assert await shop.state(placed.order_id) == "PAID"
    await shop.audit()


async def test_a_cancel_that_is_overtaken_by_money_is_paid(system: Make) -> None:
    """Cancel asked, but the close is refused as paid: the order is PAID."""
    shop = await system(knobs=SandboxKnobs(loss_probability=1))
    placed = await shop.place("ada")
    paid = await shop.pay(placed.order_id)
    shop.sandbox.pay(paid.provider_no)
    cancelled = await shop.cancel(placed.order_id)
    await shop.run_for(1_000)

    assert cancelled.refusal == pb.REFUSAL_IN_PAYMENT
    assert await shop.state(placed.order_id) == "PAID"
    await shop.audit()


async def test_a_failed_payment_leaves_time_for_another(system: Make) -> None:
    """FAILED in time: HELD again, and the second method sells the same unit."""
    shop = await system()
    placed = await shop.place("ada")
    shop.sandbox.fail((await shop.pay(placed.order_id)).provider_no)
    await shop.run_for(2_000)

    assert await shop.state(placed.order_id) == "HELD"

    shop.sandbox.pay((await shop.pay(placed.order_id, "wallet")).provider_no)
    await shop.run_for(2_000)

    assert await shop.state(placed.order_id) == "PAID"
    await shop.audit()


async def test_a_provider_down_for_half_an_hour_loses_no_unit_and_no_money(system: Make) -> None:
    """Overdue keeps its unit; when the provider is back the money is found."""
    down = tuple(
        Outage(operation, 1_000, 30 * MINUTE_MS)
        for operation in (Operation.QUERY, Operation.CLOSE, Operation.CALLBACK)
    )
    shop = await system(knobs=SandboxKnobs(outages=down))
    placed = await shop.place("ada")
    shop.sandbox.pay((await shop.pay(placed.order_id)).provider_no)
    await shop.run_for(25 * MINUTE_MS)
    order = await shop.order(placed.order_id)
    refused = await shop.place("bob")

    assert (order.state, order.is_overdue) == (order_pb2.ORDER_STATE_PAYING, True)
    assert refused.outcome == outcome_pb2.OUTCOME_SOLD_OUT

    await shop.run_for(7 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "PAID"
    await shop.audit()


@pytest.mark.parametrize("fault", ["amount_fault_probability", "currency_fault_probability"])
async def test_wrong_money_keeps_the_unit_until_a_human_decides(system: Make, fault: str) -> None:
    """Quarantined: no sale and no release, until the money was sent back."""
    shop = await system(knobs=SandboxKnobs().changed({fault: 1}))
    placed = await shop.place("ada")
    paid = await shop.pay(placed.order_id)
    shop.sandbox.pay(paid.provider_no)
    await shop.run_for(60 * MINUTE_MS)

    assert await shop.state(placed.order_id) == "PAYING"

    # The provider of this test lies in callbacks only; a human has found out what it took.
    refund = payment_service_pb2.RefundAttemptRequest(
        request_id="q-1", attempt_id=paid.attempt_id, reason="fault"
    )
    answer = await shop.payments.refund_attempt(refund)
    await shop.run_for(MINUTE_MS)

    assert answer.refusal == payment_service_pb2.REFUSAL_UNSPECIFIED
    if fault == "amount_fault_probability":
        assert await shop.state(placed.order_id) == "CLOSED"
    else:
        # The provider refuses to send back a currency it never took: a human again.
        assert await shop.state(placed.order_id) == "PAYING"


@pytest.mark.parametrize("lost_step", ["provider", "payment", "everything"])
async def test_a_crash_between_any_two_steps_of_pay_heals(system: Make, lost_step: str) -> None:
    """Begun in the ledger and then nothing, or no answer of the provider: the repeat goes on."""
    shop = await system(
        knobs=SandboxKnobs(create_silence_probability=1.0 if lost_step == "provider" else 0.0)
    )
    placed = await shop.place("ada")
    if lost_step == "provider":
        await shop.pay(placed.order_id)
    else:
        await shop.client.begin_payment(
            f"{placed.order_id}:1",
            reservation_id=placed.order_id,
            amount_minor=84_000,
            currency="CNY",
        )
    shop.restart()
    shop.sandbox.knobs = SandboxKnobs()
    if lost_step == "everything":
        # The buyer never comes back: the number is barred and the unit freed.
        await shop.run_for(40 * MINUTE_MS)

        assert await shop.state(placed.order_id) == "CLOSED"
    else:
        repeated = await shop.pay(placed.order_id)
        shop.sandbox.pay(repeated.provider_no)
        await shop.run_for(5_000)

        assert f"{placed.order_id}:1" == repeated.attempt_id
        assert await shop.state(placed.order_id) == "PAID"
    await shop.audit()


async def test_many_buyers_and_every_fault_end_with_money_and_units_agreeing(system: Make) -> None:
    """Sixty buyers for twenty units; callbacks lost, doubled, reordered, late; some never pay."""
    shop = await system(
        units=20,
        knobs=SandboxKnobs(
            callback_delay_mean_ms=MINUTE_MS,
            loss_probability=0.3,
            duplicate_probability=0.3,
            reorder_probability=0.3,
            create_silence_probability=0.1,
            signature_fault_probability=0.1,
        ),
    )
    orders: list[str] = []
    for round_number in range(3):
        for buyer in range(20):
            placed = await shop.place(f"buyer-{round_number}-{buyer}")
            if placed.outcome != outcome_pb2.OUTCOME_OK:
                continue
            orders.append(placed.order_id)
            paid = await shop.pay(placed.order_id)
            if buyer % 4 == 1:
                shop.sandbox.fail(paid.attempt_id)
            elif buyer % 4:
                shop.sandbox.pay(paid.attempt_id)
            if buyer % 5 == 0:
                await shop.cancel(placed.order_id)
        await shop.run_for(40 * MINUTE_MS)
    states = {await shop.state(order_id) for order_id in orders}
    counters = await shop.counters()

    assert states <= {"PAID", "CLOSED"}
    assert counters["sold"] + counters.get("available", 0) == 20
    assert counters["sold"] > 5
    await shop.audit()
