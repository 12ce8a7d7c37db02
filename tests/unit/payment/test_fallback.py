"""A second provider: who gets an attempt when the first is down, and what stays where it is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lastunit.client.outcomes import PaymentResult
from lastunit.payment import schema
from lastunit.payment.provider import ProviderUnavailableError
from lastunit.payment.providers import Providers
from lastunit.payment.sandbox.core import SandboxCore
from lastunit.payment.sandbox.in_process import InProcessProvider
from lastunit.payment.sandbox.knobs import Operation, Outage, SandboxKnobs
from lastunit.payment.settings import PaymentSettings
from lastunit.payment.v1 import payment_service_pb2 as pb

from .world import KEY, START_MS, World

if TYPE_CHECKING:
    from collections.abc import Iterator

MINUTE_MS = 60_000


def down(*operations: Operation, until_ms: int = 10 * MINUTE_MS) -> SandboxKnobs:
    """Makes a provider of which some operations are down from the start."""
    outages = tuple(Outage(operation, 0, until_ms) for operation in operations)
    return SandboxKnobs(outages=outages)


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A payment service with a first provider as the test says, and a good second one."""
    made = World(getattr(request, "param", None))
    made.second = SandboxCore(made.clock, key=KEY, seed=2)
    made.others.append(InProcessProvider(made.second, name="second"))
    made.core = made.new_core()
    yield made
    made.close()


async def start(world: World, order: int) -> pb.StartAttemptResponse:
    """Starts the first attempt of an order at whoever is chosen."""
    name = f"order-{order}"
    return await world.start(f"{name}:1", order_id=name, reservation_id=name, provider="")


async def states(world: World) -> dict[str, str]:
    """Returns the breakers as the contract shows them."""
    shown = await world.core.list_providers(pb.ListProvidersRequest())
    return {
        each.provider: pb.BreakerState.Name(each.state).removeprefix("BREAKER_STATE_")
        for each in shown.providers
    }


async def test_the_preferred_provider_gets_what_comes(world: World) -> None:
    """As long as nothing is wrong."""
    started = await start(world, 1)

    assert started.attempt.provider == "sandbox"
    assert await states(world) == {"sandbox": "CLOSED", "second": "CLOSED"}


@pytest.mark.parametrize("world", [down(Operation.CREATE, Operation.QUERY)], indirect=True)
async def test_lost_checks_send_new_attempts_to_the_next_one(world: World) -> None:
    """Three health checks, and nobody had to wait for a create call that fails."""
    for _ in range(3):
        assert await world.core.check_once() == 1
    started = await start(world, 1)

    assert (started.attempt.provider, started.refusal) == ("second", pb.REFUSAL_UNSPECIFIED)
    assert await states(world) == {"sandbox": "OPEN", "second": "CLOSED"}


@pytest.mark.parametrize("world", [down(Operation.CREATE)], indirect=True)
async def test_failed_creates_send_new_attempts_to_the_next_one(world: World) -> None:
    """Ten without an answer open the breaker although the provider answers questions."""
    for order in range(10):
        answer = await start(world, order)
        assert (answer.attempt.provider, answer.refusal) == ("sandbox", pb.REFUSAL_PROVIDER_DOWN)
    await world.core.check_once()
    started = await start(world, 10)

    assert started.attempt.provider == "second"


@pytest.mark.parametrize("world", [down(Operation.CREATE)], indirect=True)
async def test_an_order_never_has_two_providers_that_may_take_its_money(world: World) -> None:
    """Its first attempt is UNKNOWN at the provider that is down: nobody else gets a second one."""
    await start(world, 0)
    for order in range(1, 10):
        await start(world, order)
    assert (await states(world))["sandbox"] == "OPEN"
    second = await world.start(
        "order-0:2", order_id="order-0", reservation_id="order-0", provider=""
    )
    other = await world.start(
        "order-0:3", order_id="order-0", reservation_id="order-0", provider="second"
    )

    assert second.refusal == pb.REFUSAL_PROVIDER_DOWN
    assert not second.HasField("attempt")
    assert other.refusal == pb.REFUSAL_OTHER_PROVIDER_OPEN


@pytest.mark.parametrize("world", [down(Operation.CREATE, until_ms=MINUTE_MS)], indirect=True)
async def test_a_repeat_stays_with_its_provider(world: World) -> None:
    """The same attempt is created where it was begun, also while new ones go elsewhere."""
    for order in range(10):
        await start(world, order)
    world.clock.advance_to(START_MS + MINUTE_MS)
    repeated = await start(world, 3)

    assert (repeated.attempt.provider, repeated.replayed) == ("sandbox", True)
    assert repeated.attempt.state == pb.ATTEMPT_STATE_OPEN


@pytest.mark.parametrize("world", [down(Operation.CREATE, until_ms=MINUTE_MS)], indirect=True)
async def test_a_provider_that_is_well_again_is_tried_and_trusted(world: World) -> None:
    """After half a minute three attempts try it; while it is still down the others go on."""
    for order in range(10):
        await start(world, order)
    world.clock.advance_to(START_MS + 30_000)
    failed = await start(world, 10)
    beside = await start(world, 11)
    world.clock.advance_to(START_MS + MINUTE_MS)
    tries = [(await start(world, order)).attempt.provider for order in range(12, 17)]

    assert (failed.attempt.provider, failed.refusal) == ("sandbox", pb.REFUSAL_PROVIDER_DOWN)
    assert beside.attempt.provider == "second"
    assert tries == ["sandbox"] * 5
    assert await states(world) == {"sandbox": "CLOSED", "second": "CLOSED"}


@pytest.mark.parametrize(
    "world", [down(Operation.CREATE, Operation.QUERY, until_ms=MINUTE_MS)], indirect=True
)
async def test_each_move_of_a_breaker_is_written_down_with_its_cause(world: World) -> None:
    """Left for lost checks, tried after its rest, trusted again: three rows, each with its time."""
    for _ in range(3):
        await world.core.check_once()
    world.clock.advance_to(START_MS + MINUTE_MS)
    for order in range(3):
        await start(world, order)
    await world.core.check_once()
    with world.database.read() as connection:
        table = schema.transitions
        query = sa.select(table).where(table.c.entity == "breaker").order_by(table.c.transition_id)
        rows = connection.execute(query).all()

    assert [
        (row.entity_id, row.state_from, row.state_to, row.event, row.cause, row.actor)
        for row in rows
    ] == [
        ("sandbox", "CLOSED", "OPEN", "CHECKS_LOST", "timer health check", "payment-service"),
        ("sandbox", "OPEN", "HALF_OPEN", "REST_OVER", "timer rest", "payment-service"),
        ("sandbox", "HALF_OPEN", "CLOSED", "PROBES_WELL", "call create", "payment-service"),
    ]
    assert [row.time_ms for row in rows] == [START_MS, *[START_MS + MINUTE_MS] * 2]


async def test_a_flapping_provider_takes_no_order_to_two_and_loses_no_money(world: World) -> None:
    """Up and down every few seconds: each order stays with one, and each payment counts once."""
    flaps = tuple(
        Outage(each, begin, begin + 4_000)
        for each in (Operation.CREATE, Operation.QUERY, Operation.CLOSE)
        for begin in range(2_000, 60_000, 8_000)
    )
    world.sandbox.knobs = SandboxKnobs(outages=flaps, loss_probability=0.5)
    second = world.second
    paid = 0
    for order in range(60):
        world.clock.advance_to(START_MS + order * 1_000)
        await world.core.check_once()
        started = await start(world, order)
        if started.refusal == pb.REFUSAL_PROVIDER_DOWN and started.HasField("attempt"):
            started = await start(world, order)
        if not started.refusal:
            core = second if started.attempt.provider == "second" else world.sandbox
            paid += core.pay(started.attempt.provider_no) == "PAID"
    # Callbacks of the second provider have no door here: it is asked.
    await world.run_until(START_MS + 60 * MINUTE_MS)
    settled = [each for each in world.ledger.settlements if each[2] is PaymentResult.SUCCEEDED]
    with world.database.read() as connection:
        table = schema.attempts
        rows = connection.execute(sa.select(table.c.order_id, table.c.provider)).all()

    assert {row.provider for row in rows} == {"sandbox", "second"}
    assert len(rows) == len({row.order_id for row in rows})
    assert len(settled) == len({each[1] for each in settled}) == paid > 20


async def test_all_down_is_told_and_nothing_is_written() -> None:
    """With one provider as with many: come back later."""
    world = World(down(Operation.CREATE, Operation.QUERY))
    for _ in range(3):
        await world.core.check_once()
    refused = await start(world, 1)

    assert refused.refusal == pb.REFUSAL_PROVIDER_DOWN
    shown = await world.core.get_attempt(pb.GetAttemptRequest(attempt_id="order-1:1"))
    assert shown.refusal == pb.REFUSAL_UNKNOWN_ATTEMPT
    world.close()


async def test_a_provider_that_is_not_there_is_down(world: World) -> None:
    """A name that nobody has."""
    refused = await world.start(provider="nobody")

    assert refused.refusal == pb.REFUSAL_PROVIDER_DOWN


async def test_what_was_begun_at_a_provider_that_was_taken_away_waits_for_it(world: World) -> None:
    """No question, close, refund or repeat fails as a fault of ours; with it again all goes on."""
    for _ in range(3):
        world.core.providers.breakers["sandbox"].note_check(
            is_answered=False, now_ms=world.clock.now_ms()
        )
    begun = await start(world, 1)
    kept = world.others.pop()
    world.core = world.new_core()
    repeated = await start(world, 1)
    asked = await world.core.ask_now(pb.AskNowRequest(attempt_id="order-1:1"))
    closed = await world.core.close_attempt(pb.CloseAttemptRequest(attempt_id="order-1:1"))
    absent = world.core.providers.by_name["second"]
    with pytest.raises(ProviderUnavailableError, match="not told of"):
        await absent.refund("order-1:1", amount_minor=1, currency="CNY", refund_key="k")
    await world.run_until(START_MS + MINUTE_MS)
    world.others.append(kept)
    world.core = world.new_core()
    again = await world.core.close_attempt(pb.CloseAttemptRequest(attempt_id="order-1:1"))

    assert begun.attempt.provider == repeated.attempt.provider == "second"
    assert repeated.attempt.pay_url == begun.attempt.pay_url
    assert asked.refusal == closed.refusal == pb.REFUSAL_PROVIDER_DOWN
    assert again.attempt.state == pb.ATTEMPT_STATE_CANCELLED


def test_names_of_providers_differ(world: World) -> None:
    """Two of one name, none, and too many are refused."""
    one = InProcessProvider(world.sandbox)
    many = [InProcessProvider(world.sandbox, name=f"p{number}") for number in range(9)]
    for wrong in ([one, one], [], many):
        with pytest.raises(ValueError, match="providers with different names"):
            Providers(wrong, clock=world.clock, settings=PaymentSettings())


async def test_a_fast_run_does_not_shorten_how_long_an_answer_may_take(world: World) -> None:
    """Spans of the sale shrink with it; the machines and their network stay as they are."""

    class Slow(InProcessProvider):
        async def check(self) -> None:
            await asyncio.sleep(0.1)

    settings = PaymentSettings(check_seconds=30, time_scale=0.001)
    providers = Providers([Slow(world.sandbox)], clock=world.clock, settings=settings)

    assert await providers.check_once() == 0
