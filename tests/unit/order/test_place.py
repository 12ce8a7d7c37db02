"""PlaceOrder: one answer for each id, a row for each hold, nothing for a refusal."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lastunit.client.outcomes import ReleaseReason
from lastunit.errors import BusyError, UnavailableError
from lastunit.order import store
from lastunit.order.ids import order_id_of
from lastunit.order.persons import CACHED_MS, AccountState
from lastunit.order.settings import OrderSettings
from lastunit.order.states import OrderEvent, OrderState
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.prices.catalogue import plain
from lastunit.prices.quote import Prices
from lastunit.service.database import Lane
from lastunit.stock.v1 import availability_pb2, event_pb2, outcome_pb2

from .ledger import START_MS, TTL_MS, no_answer
from .world import World


async def test_a_placed_order_is_held_and_written(world: World) -> None:
    """The answer names order, person, sum and end; the row says the same."""
    placed = await world.place(lines=[("phone", 1), ("case", 2)])
    shown = await world.show(placed.order_id)

    assert placed.outcome == outcome_pb2.OUTCOME_OK
    assert (order_id_of("request-1"), "person-1") == (placed.order_id, placed.person_id)
    assert (placed.amount_minor, placed.currency) == (252_000, "CNY")
    assert placed.expire_time.ToMilliseconds() == START_MS + TTL_MS
    assert shown.order.state == order_pb2.ORDER_STATE_HELD
    assert [(line.sku, line.units, line.unit_amount_minor) for line in shown.order.lines] == [
        ("phone", 1, 84_000),
        ("case", 2, 84_000),
    ]


async def test_a_refusal_writes_nothing_and_says_when_to_come_back() -> None:
    """Sold out: level, SKU and time are told, and the database is not touched."""
    world = World(units=0)
    refused = await world.place()

    assert refused.outcome == outcome_pb2.OUTCOME_SOLD_OUT
    assert (refused.sku, refused.level) == ("phone", availability_pb2.LEVEL_HELD_OUT)
    assert refused.come_back_time.ToMilliseconds() == START_MS + TTL_MS
    assert not world.runner.counts
    assert refused.order_id == ""
    world.close()


async def test_a_repeat_gives_the_same_answer(world: World) -> None:
    """Only `replayed` differs; one unit is held."""
    first, second = await world.place(), await world.place()
    was_replayed, second.replayed = second.replayed, False

    assert was_replayed
    assert first == second
    assert world.ledger.available == 9


async def test_the_retry_of_the_last_unit_gets_its_unit() -> None:
    """A lost reply is repaired by the repeat although nothing is left for others."""
    world = World(units=1)
    world.ledger.lost_replies.append(no_answer())
    with pytest.raises(UnavailableError):
        await world.place()
    repeated = await world.place()
    other = await world.place("request-2", "account-2")

    assert repeated.outcome == outcome_pb2.OUTCOME_OK
    assert other.outcome == outcome_pb2.OUTCOME_SOLD_OUT
    assert (await world.show(repeated.order_id)).order.state == order_pb2.ORDER_STATE_HELD
    world.close()


async def test_a_crash_before_the_row_is_healed_by_the_repeat(world: World) -> None:
    """Held in the ledger but not written: the repeat writes it."""
    world.runner.fail_next = True
    with pytest.raises(UnavailableError):
        await world.place()
    missing = await world.show(order_id_of("request-1"))
    repeated = await world.place()

    assert missing.refusal == pb.REFUSAL_UNKNOWN_ORDER
    assert repeated.replayed
    assert (await world.show(repeated.order_id)).order.state == order_pb2.ORDER_STATE_HELD


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_row_written_after_its_events_has_seen_them(
    world: World, *, is_restarted: bool
) -> None:
    """The reservation lapsed before the repeat wrote the row: it is CLOSED, not HELD for ever."""
    world.runner.fail_next = True
    with pytest.raises(UnavailableError):
        await world.place()
    world.ledger.give_back(order_id_of("request-1"), ReleaseReason.EXPIRED)
    while await world.core.follow_once():
        pass
    if is_restarted:
        world.core = world.new_core()
    placed = await world.place()
    shown = await world.show(placed.order_id)

    assert shown.order.state == order_pb2.ORDER_STATE_CLOSED
    assert shown.order.close_reason == order_pb2.CLOSE_REASON_EXPIRED
    assert [step.event for step in world.transitions(placed.order_id)] == [
        OrderEvent.RESERVED,
        OrderEvent.RELEASED,
    ]


async def test_events_without_an_order_are_kept_for_a_while_only(world: World) -> None:
    """Nobody writes the order for a million events: it is compared when somebody does."""
    world.runner.fail_next = True
    with pytest.raises(UnavailableError):
        await world.place()
    world.ledger.give_back(order_id_of("request-1"), ReleaseReason.EXPIRED)
    await world.core.follow_once()
    await world.core.follower.take([event_pb2.Event(sequence=1_100_000)])
    placed = await world.place()
    with world.database.read() as connection:
        order = store.load_order(connection, placed.order_id)

    assert order is not None
    assert OrderState(order.state) is OrderState.CLOSED
    assert [step.event for step in world.transitions(placed.order_id)] == [
        OrderEvent.RESERVED,
        store.COMPARED,
    ]


async def test_a_row_written_in_time_is_not_compared(world: World) -> None:
    """The plain way costs no further call, whatever others do meanwhile."""
    await world.place()
    await world.show(order_id_of("request-1"))
    await world.place("request-2", "account-2")

    assert world.ledger.calls["get_reservation"] == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account_id": "account-2"}, "account_id"),
        ({"lines": [("phone", 2)]}, "lines"),
    ],
)
async def test_the_same_id_with_other_content_is_a_conflict(
    world: World, changes: dict[str, object], field: str
) -> None:
    """The differing field is named and nothing more is held."""
    await world.place()
    conflict = await world.place(**changes)  # type: ignore[arg-type] # names are checked by Python

    assert conflict.outcome == outcome_pb2.OUTCOME_CONFLICT
    assert field == conflict.conflict_field
    assert world.ledger.available == 9


async def test_a_repeat_is_honoured_after_two_persons_became_one(world: World) -> None:
    """The person behind the account has changed since; the ledger counts the home person still."""
    first = await world.place()
    world.accounts.persons["account-1"] = "person-9"
    world.clock.advance_to(START_MS + CACHED_MS)
    second = await world.place()

    assert (outcome_pb2.OUTCOME_OK, first.order_id) == (second.outcome, second.order_id)


@pytest.mark.parametrize(
    ("account_id", "state", "refusal"),
    [
        ("stranger", AccountState.ACTIVE, pb.REFUSAL_ACCOUNT_UNKNOWN),
        ("account-1", AccountState.LOCKED, pb.REFUSAL_ACCOUNT_LOCKED),
        ("account-1", AccountState.CLOSED, pb.REFUSAL_ACCOUNT_LOCKED),
    ],
)
async def test_an_account_that_may_not_buy_is_refused(
    world: World, account_id: str, state: AccountState, refusal: int
) -> None:
    """Neither ledger nor database is asked for a new order."""
    world.accounts.states["account-1"] = state
    refused = await world.place(account_id=account_id)

    assert refusal == refused.refusal
    assert world.ledger.calls["reserve"] == 0


async def test_a_repeat_is_honoured_after_the_account_was_locked(world: World) -> None:
    """What was answered stays answered."""
    await world.place()
    world.accounts.states["account-1"] = AccountState.LOCKED
    world.clock.advance_to(START_MS + CACHED_MS)

    assert (await world.place()).outcome == outcome_pb2.OUTCOME_OK


async def test_a_price_the_buyer_did_not_accept_is_refused(world: World) -> None:
    """The list's price counts, never the buyer's."""
    request = pb.PlaceOrderRequest(request_id="r", account_id="account-1", sale_id="flash")
    request.lines.add(sku="phone", units=1, unit_amount_minor=1, currency="CNY")
    refused = await world.core.place_order(request)

    assert (refused.refusal, refused.sku) == (pb.REFUSAL_PRICE_CHANGED, "phone")
    assert world.ledger.available == 10


async def test_a_sku_without_a_price_is_not_sold(world: World) -> None:
    """UNKNOWN_PRICE names it."""
    world.prices = Prices(plain(by_sku={"case": 5}))
    world.core = world.new_core()
    refused = await world.place()

    assert (refused.refusal, refused.sku) == (pb.REFUSAL_UNKNOWN_PRICE, "phone")


async def test_a_ghost_takes_no_unit(world: World) -> None:
    """The ledger is told the last instant: 10 s from now, or the buyer's if that is sooner."""
    await world.place()
    request = pb.PlaceOrderRequest(request_id="r", account_id="account-2", sale_id="flash")
    request.lines.add(sku="phone", units=1)
    request.not_after_time.FromMilliseconds(START_MS + 500)
    await world.core.place_order(request)

    assert world.ledger.not_after_ms == [START_MS + 10_000, START_MS + 500]


async def test_calls_under_way_have_a_bound() -> None:
    """The last allowed call is served, one more is told to come back, and room is made again."""
    world = World(units=100, settings=OrderSettings(place_calls_max=50))
    answers = await asyncio.gather(
        *(world.place(f"request-{each}", f"account-{each}") for each in range(51)),
        return_exceptions=True,
    )
    after = await world.place("request-99", "account-99")

    assert [BusyError] == [type(each) for each in answers if isinstance(each, BaseException)]
    assert after.outcome == outcome_pb2.OUTCOME_OK
    world.close()


async def test_few_are_worked_on_at_once_and_all_are_served() -> None:
    """With two at work the third waits its turn; a slow database does not hold the others up."""
    world = World(units=1, settings=OrderSettings(place_work_max=2))
    is_writing, database_goes_on = asyncio.Event(), asyncio.Event()
    run = world.runner.run

    async def slow(*arguments: Any, **options: Any) -> Any:
        is_writing.set()
        await database_goes_on.wait()
        return await run(*arguments, **options)

    world.runner.run = slow  # type: ignore[method-assign] # a database that is slow today
    winner = asyncio.create_task(world.place("winner", "account-0"))
    await is_writing.wait()
    losers = [await world.place(f"r-{each}", f"account-{each}") for each in range(1, 6)]

    assert not winner.done()
    assert {outcome_pb2.OUTCOME_SOLD_OUT} == {answer.outcome for answer in losers}

    database_goes_on.set()

    assert (await winner).outcome == outcome_pb2.OUTCOME_OK
    world.close()


async def test_accounts_are_resolved_many_to_a_call_and_remembered() -> None:
    """600 buyers at once need three calls of at most 256; their next press none."""
    world = World(units=0)
    for _ in range(2):
        await asyncio.gather(*(world.place(f"r-{each}", f"account-{each}") for each in range(600)))

    assert sorted(world.accounts.calls, reverse=True) == [256, 256, 88]
    world.close()


async def test_duplicates_at_once_have_one_effect() -> None:
    """1,000 copies of one call: 1,000 equal answers, one unit, one row."""
    world = World(units=1)
    answers = await asyncio.gather(*(world.place() for _ in range(1_000)))
    replayed = sum(answer.replayed for answer in answers)
    for answer in answers:
        answer.replayed = False

    assert replayed == 999
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    world.close()


async def test_transactions_are_few_and_in_their_lanes(world: World) -> None:
    """A row is one reservation-lane transaction; ten refusals are none."""
    await world.place(lines=[("phone", 10)])
    for each in range(10):
        await world.place(f"late-{each}", f"account-{each}")

    assert dict(world.runner.counts) == {Lane.RESERVATION: 1}
