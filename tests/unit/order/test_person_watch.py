"""What is known of a person follows its changes, and its orders are all found."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.account.v1 import account_service_pb2 as account
from lastunit.account.v1 import person_pb2
from lastunit.order.person_watch import PersonWatch
from lastunit.order.persons import CACHED_MS, HEARD_MS, WATCHED_MS, AccountState
from lastunit.order.v1 import order_service_pb2 as pb

from .ledger import no_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .world import World


def told(first: int, *changed: Sequence[str], last: int | None = None) -> Any:
    """Returns a message of one event for each list of accounts."""
    events = [
        person_pb2.PersonEvent(sequence=first + place, account_ids=account_ids)
        for place, account_ids in enumerate(changed)
    ]
    return account.WatchPersonsResponse(
        events=events, last_sequence=last or first + len(changed) - 1
    )


def become(world: World, account_id: str, person_id: str) -> None:
    """Makes an account another person's at the account service."""
    world.accounts.persons[account_id] = person_id
    world.accounts.versions[account_id] = world.accounts.versions.get(account_id, 1) + 1


async def owned(world: World, person_id: str) -> list[str]:
    """Returns the accounts of a person's orders."""
    request = pb.ListOrdersRequest(person_id=person_id, page_size=10)
    listed = await world.core.list_orders(request)
    return sorted(each.account_id for each in listed.orders)


async def test_a_person_has_the_orders_of_all_its_accounts(world: World) -> None:
    """After a merge those of both, after it is taken back each its own, from before or after."""
    await world.place("request-1", "account-1")
    await world.place("request-2", "account-2")
    become(world, "account-2", "person-1")
    await world.person_watch.take([told(1, ["account-2"])])
    placed = await world.place("request-3", "account-2")
    merged = [await owned(world, "person-1"), await owned(world, "person-2")]
    become(world, "account-2", "person-2")
    await world.person_watch.take([told(2, ["account-2"])])

    assert merged == [["account-1", "account-2", "account-2"], []]
    assert await owned(world, "person-1") == ["account-1"]
    assert await owned(world, "person-2") == ["account-2", "account-2"]
    assert placed.person_id == "person-2"


async def test_a_change_ends_what_was_kept_of_its_accounts_alone(world: World) -> None:
    """A lock is seen by the next order; who did not change is not asked for again."""
    await world.place("request-1", "account-1")
    await world.place("request-2", "account-2")
    world.accounts.states["account-1"] = AccountState.LOCKED
    await world.person_watch.take([told(1, ["account-1"])])
    calls = len(world.accounts.calls)
    refused = await world.place("request-3", "account-1")
    await world.place("request-4", "account-2")

    assert refused.refusal == pb.REFUSAL_ACCOUNT_LOCKED
    assert len(world.accounts.calls) == calls + 1


async def test_an_answer_that_was_under_way_during_a_change_is_not_kept(world: World) -> None:
    """It may be of before; the next one asks again."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    resolve = world.accounts.resolve_persons

    async def slow(account_ids: Sequence[str]) -> Any:
        found = await resolve(account_ids)
        asked.set()
        await go_on.wait()
        return found

    world.accounts.resolve_persons = slow  # type: ignore[method-assign]
    finding = asyncio.create_task(world.persons.find("account-1"))
    await asked.wait()
    become(world, "account-1", "person-9")
    world.persons.forget(["account-1"])
    go_on.set()

    assert (await finding).person_id == "person-1"
    assert (await world.persons.find("account-1")).person_id == "person-9"


@pytest.mark.parametrize(
    ("silence_ms", "age_ms", "is_kept"),
    [
        (0, WATCHED_MS - 1, True),
        (0, WATCHED_MS, False),
        (HEARD_MS, CACHED_MS - 1, True),
        (HEARD_MS, CACHED_MS, False),
    ],
)
async def test_an_answer_is_kept_for_long_only_while_changes_are_heard_of(
    world: World, silence_ms: int, age_ms: int, *, is_kept: bool
) -> None:
    """Ten minutes with signs of life, one minute without."""
    start_ms = world.clock.now_ms()
    await world.persons.find("account-1")
    world.clock.advance_to(start_ms + age_ms - silence_ms)
    await world.person_watch.take([account.WatchPersonsResponse()])
    world.clock.advance_to(start_ms + age_ms)
    await world.persons.find("account-1")

    assert (world.persons.hit_count, world.persons.miss_count) == (is_kept, 2 - is_kept)


async def test_what_is_behind_is_no_sign_that_all_was_heard(world: World) -> None:
    """A page of changes that has others after it leaves answers at their short life."""
    start_ms = world.clock.now_ms()
    await world.persons.find("account-1")
    world.clock.advance_to(start_ms + CACHED_MS)
    await world.person_watch.take([told(1, ["account-2"], last=400)])
    await world.persons.find("account-1")

    assert world.persons.hit_count == 0


async def test_a_restart_goes_on_after_the_last_change_and_a_failure_before_it(
    world: World,
) -> None:
    """What could not be asked for is taken in again; a change that comes twice has no effect."""

    def started() -> PersonWatch:
        return PersonWatch(
            database=world.database, accounts=world.accounts, directory=world.persons
        )

    await world.place("request-1", "account-1")
    become(world, "account-1", "person-7")
    resolve = world.accounts.resolve_persons

    async def fail(_: Sequence[str]) -> Any:
        raise no_answer()

    world.accounts.resolve_persons = fail  # type: ignore[method-assign]
    with pytest.raises(type(no_answer())):
        await world.person_watch.take([told(1, ["account-1"])])
    failed_at = (world.person_watch.position, started().position)
    world.accounts.resolve_persons = resolve  # type: ignore[method-assign]
    taken = [await world.person_watch.take([told(1, ["account-1"])]) for _ in range(2)]

    assert (failed_at, taken) == ((0, 0), [1, 0])
    assert started().position == 1
    assert await owned(world, "person-7") == ["account-1"]


async def test_changes_are_followed_anew_when_the_account_service_lost_some(world: World) -> None:
    """Nothing of what was kept is believed; the first change is asked for again."""
    await world.place("request-1", "account-1")
    become(world, "account-1", "person-7")
    await world.person_watch.take([told(1, ["account-1"])])
    lost = account.WatchPersonsResponse(refusal=account.REFUSAL_UNKNOWN_SEQUENCE)
    with pytest.raises(ConnectionError, match="followed again"):
        await world.person_watch.take([lost])
    calls = len(world.accounts.calls)
    await world.persons.find("account-1")

    assert world.person_watch.position == 0
    assert len(world.accounts.calls) == calls + 1
    assert await owned(world, "person-1") == ["account-1"]
