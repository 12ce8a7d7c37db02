"""The sandbox provider: money, closes, refunds and the faults of its callbacks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.payment.provider import (
    CloseStatus,
    CreateOrder,
    ProviderRefusedError,
    ProviderStatus,
    ProviderUnavailableError,
    RefundStatus,
)
from lastunit.payment.sandbox.app import sandbox_app
from lastunit.payment.sandbox.core import PayAnswer, SandboxCore
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.service.clock import SimulatedClock

from .world import KEY, START_MS, over_http

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER = CreateOrder("order-1:1", "card", 84_000, "CNY")


def sandbox(seed: int = 1, **knobs: Any) -> tuple[SandboxCore, SimulatedClock]:
    """Returns a sandbox and its clock."""
    clock = SimulatedClock(START_MS)
    return SandboxCore(clock, key=KEY, seed=seed, knobs=SandboxKnobs(**knobs)), clock


def bodies(core: SandboxCore, until_ms: int = START_MS + 10**9) -> list[dict[str, Any]]:
    """Returns the bodies of all callbacks up to an instant, in order."""
    return [json.loads(each.raw_body) for each in core.deliveries_due(until_ms)]


def test_money_is_taken_once() -> None:
    """The second press of the button finds it paid; the bill has it once."""
    core, _ = sandbox()
    core.create(ORDER)

    assert [core.pay("order-1:1") for _ in range(2)] == [PayAnswer.PAID, PayAnswer.ALREADY_PAID]
    assert [row.amount_minor for row in core.bill()] == [84_000]


def test_a_repeated_create_is_one_attempt() -> None:
    """The same content gives the same number, other content is refused."""
    core, _ = sandbox()

    assert core.create(ORDER) == core.create(ORDER)
    with pytest.raises(ProviderRefusedError, match="other content"):
        core.create(CreateOrder("order-1:1", "card", 1, "CNY"))


def test_a_paid_attempt_refuses_to_close() -> None:
    """The refusal carries the facts of the money."""
    core, _ = sandbox()
    core.create(ORDER)
    core.pay("order-1:1")
    answer = core.close("order-1:1")

    assert (answer.status, answer.attempt.amount_minor) == (CloseStatus.PAID, 84_000)


def test_a_closed_attempt_takes_no_money() -> None:
    """Nor does one that was closed before it was created, or is past its last instant."""
    core, clock = sandbox()
    core.create(ORDER)
    core.close("order-1:1")
    core.close("never:1")
    core.create(CreateOrder("brief:1", "card", 1, "CNY", expire_ms=START_MS + 10))
    clock.advance_to(START_MS + 11)

    assert [core.pay(number) for number in ("order-1:1", "never:1", "brief:1", "nobody:1")] == [
        PayAnswer.CLOSED,
        PayAnswer.CLOSED,
        PayAnswer.EXPIRED,
        PayAnswer.UNKNOWN,
    ]
    with pytest.raises(ProviderRefusedError):
        core.create(CreateOrder("never:1", "card", 1, "CNY"))


def test_a_young_attempt_cannot_be_closed() -> None:
    """At the stated age it can."""
    core, clock = sandbox(close_age_ms_min=300_000)
    core.create(ORDER)
    clock.advance_to(START_MS + 299_999)
    early = core.close("order-1:1")
    clock.advance_to(START_MS + 300_000)

    assert [
        early.status,
        core.close("order-1:1").status,
    ] == [CloseStatus.NOT_NOW, CloseStatus.CLOSED]


def test_a_refund_key_is_good_for_one_refund() -> None:
    """A repeat is done and gives nothing more; more than was paid is refused."""
    core, _ = sandbox()
    core.create(ORDER)
    core.pay("order-1:1")

    def refund(key: str, amount_minor: int) -> RefundStatus:
        return core.refund(
            "order-1:1", amount_minor=amount_minor, currency="CNY", refund_key=key
        ).status

    assert [
        refund("a", 80_000),
        refund("a", 80_000),
        refund("b", 4_001),
    ] == [RefundStatus.DONE, RefundStatus.DONE, RefundStatus.FAILED]
    assert RefundStatus.DONE is refund("c", 4_000)
    assert [row.refunded_minor for row in core.bill()] == [84_000]


CALLS: dict[Operation, Callable[[SandboxCore], object]] = {
    Operation.CREATE: lambda core: core.create(CreateOrder("other:1", "card", 1, "CNY")),
    Operation.QUERY: lambda core: core.query("order-1:1"),
    Operation.CLOSE: lambda core: core.close("order-1:1"),
    Operation.REFUND: lambda core: core.refund(
        "order-1:1", amount_minor=1, currency="CNY", refund_key="k"
    ),
}


@pytest.mark.parametrize("down", CALLS)
def test_each_operation_is_down_alone(down: Operation) -> None:
    """In its outage one call does not answer and the others do; afterwards it does."""
    core, clock = sandbox(outages=(Outage(down, 100, 200),))
    clock.advance_to(START_MS + 100)
    for operation, call in CALLS.items():
        if operation is down:
            with pytest.raises(ProviderUnavailableError):
                call(core)
        else:
            call(core)
    clock.advance_to(START_MS + 200)

    CALLS[down](core)


def test_callbacks_wait_for_the_end_of_their_outage() -> None:
    """What falls due in it is sent when it ends, signed anew."""
    core, clock = sandbox(outages=(Outage(Operation.CALLBACK, 0, 60_000),))
    core.create(ORDER)
    core.pay("order-1:1")

    assert bodies(core, START_MS + 59_999) == []

    clock.advance_to(START_MS + 60_000)

    assert core.next_delivery_ms() == START_MS + 60_000
    assert len(bodies(core, START_MS + 60_000)) == 1


def test_lost_duplicated_and_delayed_callbacks_follow_their_knobs() -> None:
    """Of 2,000 callbacks about the stated shares are lost and doubled, 15 s apart."""
    core, _ = sandbox(loss_probability=0.05, duplicate_probability=0.2, callback_delay_ms=900_000)
    for number in range(2_000):
        core.create(CreateOrder(f"order-{number}:1", "card", 1, "CNY"))
        core.pay(f"order-{number}:1")
    due = core.deliveries_due(START_MS + 10**9)
    sent = {delivery.event_id for delivery in due}

    assert 60 <= core.totals()["callback_lost_count"] <= 140
    assert 300 <= len(due) - len(sent) <= 460
    assert {START_MS + 900_000, START_MS + 915_000} == {delivery.due_ms for delivery in due}


def test_the_same_seed_repeats_every_fault() -> None:
    """Two sandboxes with one seed send the same bytes at the same instants; another does not."""

    def run(seed: int) -> list[tuple[int, bytes]]:
        core, _ = sandbox(
            seed=seed,
            callback_delay_mean_ms=5_000,
            loss_probability=0.3,
            reorder_probability=0.5,
            amount_fault_probability=0.2,
        )
        for number in range(50):
            core.create(CreateOrder(f"order-{number}:1", "card", 5, "CNY"))
            core.pay(f"order-{number}:1")
        return [(each.due_ms, each.raw_body) for each in core.deliveries_due(START_MS + 10**9)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_reordering_lets_a_later_callback_overtake() -> None:
    """With the knob fully on, some success arrives before the failure that preceded it."""
    core, clock = sandbox(reorder_probability=1.0)
    for number in range(50):
        core.create(CreateOrder(f"order-{number}:1", "card", 5, "CNY"))
        core.fail(f"order-{number}:1")
    clock.advance_to(START_MS + 10)
    for number in range(50):
        core.pay(f"order-{number}:1")
    first: dict[str, str] = {}
    for body in bodies(core):
        first.setdefault(body["merchant_no"], body["type"])

    assert {"payment.succeeded", "payment.failed"} == set(first.values())


def test_an_untaken_callback_is_sent_again_until_it_is_given_up() -> None:
    """After the last wait it is counted as given up."""
    core, clock = sandbox(retry_ms=(1_000, 5_000))
    core.create(ORDER)
    core.pay("order-1:1")
    dues = []
    while (due_ms := core.next_delivery_ms()) is not None:
        dues.append(due_ms - START_MS)
        clock.advance_to(due_ms)
        for delivery in core.deliveries_due(due_ms):
            core.delivery_failed(delivery)

    assert dues == [1_000, 2_000, 7_000]
    assert core.totals()["callback_given_up_count"] == 1


@pytest.mark.parametrize(
    "knobs",
    [
        {"loss_probability": 1.1},
        {"callback_delay_ms": -1},
        {"clock_skew_ms": 10**12},
        {"colour": "red"},
        {"outages": [{"operation": "create"}]},
        {"outages": [{"operation": "create", "start_ms": 2, "end_ms": 1}]},
    ],
)
def test_knobs_out_of_range_are_refused(knobs: dict[str, Any]) -> None:
    """Each with an error that says which."""
    with pytest.raises(ValueError, match=r"\w"):
        SandboxKnobs().changed(knobs)


async def test_http_speaks_the_whole_life_of_an_attempt() -> None:
    """Create, pay, query, refund and bill over HTTP; bad fields are 400, unknown ones 404."""
    core, _ = sandbox()
    create = {
        "merchant_no": "order-1:1",
        "method": "card",
        "amount_minor": 84_000,
        "currency": "CNY",
        "expire_ms": 0,
    }
    async with over_http(sandbox_app(core)) as client:
        created = (await client.post("/v1/attempts", json=create)).json()
        paid = (await client.post(f"/v1/pay/{created['provider_no']}")).json()
        queried = (await client.get("/v1/attempts/order-1:1")).json()
        close = (await client.post("/v1/attempts/order-1:1/close")).json()
        refunded = await client.post(
            "/v1/attempts/order-1:1/refunds",
            json={"amount_minor": 84_000, "currency": "CNY", "refund_key": "k"},
        )
        bill = (await client.get("/v1/bill")).json()
        bad = await client.post("/v1/attempts", json=create | {"amount_minor": 0})
        unknown = await client.get("/v1/attempts/nobody:1")
        conflict = await client.post("/v1/attempts", json=create | {"amount_minor": 1})

    assert [
        created["status"],
        paid["status"],
        queried["status"],
        close["status"],
        refunded.json()["status"],
    ] == ["PENDING", "PAID", "PAID", "PAID", "DONE"]
    assert [row["refunded_minor"] for row in bill["rows"]] == [84_000]
    assert [bad.status_code, unknown.status_code, conflict.status_code] == [400, 404, 409]


async def test_knobs_turn_over_http() -> None:
    """PUT changes what it names and refuses what it does not know."""
    core, _ = sandbox()
    async with over_http(sandbox_app(core)) as client:
        turned = await client.put("/v1/knobs", json={"loss_probability": 1})
        refused = await client.put("/v1/knobs", json={"loss_probability": 2})
        shown = (await client.get("/v1/knobs")).json()

    assert [turned.status_code, refused.status_code, shown["loss_probability"]] == [200, 400, 1]
    assert ProviderStatus.PENDING is core.create(ORDER).status
