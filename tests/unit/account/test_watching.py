"""WatchPersons: every event once, in order, and the memory of answers with it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from lastunit.account.resolving import Directory
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2
from lastunit.account.watching import PersonWatch

if TYPE_CHECKING:
    from .world import World


def stream(world: World, after_sequence: int = 0) -> Any:
    """Starts to watch."""
    request = pb.WatchPersonsRequest(after_sequence=after_sequence)
    return world.watch.WatchPersons(request, None)


async def events_of(watching: Any, count: int) -> list[person_pb2.PersonEvent]:
    """Reads until so many events have come."""
    found: list[person_pb2.PersonEvent] = []
    async for response in watching:
        found += response.events
        if len(found) >= count:
            break
    return found


async def test_a_watch_tells_what_was_and_what_comes(world: World) -> None:
    """Events from before the watch and from during it come in order, without a gap."""
    a, b, c = [await world.sign_up(f"anna{index}@example.org") for index in range(3)]
    await world.link(a, b)
    watching = stream(world)
    before = await anext(watching)
    await world.link(b, c)
    during = await anext(watching)

    told = [*before.events, *during.events]
    assert [event.sequence for event in told] == [1, 2]
    assert {event.kind for event in told} == {person_pb2.PERSON_EVENT_KIND_PERSONS_MERGED}
    assert list(during.events[0].account_ids) == sorted([a, b])
    await watching.aclose()


async def test_a_watch_continues_after_what_the_client_has(world: World) -> None:
    """A client that was cut off gets the rest, not what it has."""
    accounts = [await world.sign_up(f"anna{index}@example.org") for index in range(4)]
    for source, target in itertools.pairwise(accounts):
        await world.link(source, target)
    watching = stream(world, after_sequence=1)

    assert [event.sequence for event in await events_of(watching, 2)] == [2, 3]
    await watching.aclose()


async def test_a_watch_of_another_database_is_refused(world: World) -> None:
    """Who asks for what comes after an event that there is not is told so; the stream ends."""
    responses = [response async for response in stream(world, after_sequence=7)]

    assert [response.refusal for response in responses] == [pb.REFUSAL_UNKNOWN_SEQUENCE]


async def test_a_quiet_watch_shows_that_it_lives(world: World) -> None:
    """Without news an empty message comes from time to time."""
    watching = stream(world)
    first, second = await anext(watching), await anext(watching)

    assert not first.events
    assert not second.events
    assert world.watch.count == 1
    await watching.aclose()
    assert world.watch.count == 0


async def test_closing_ends_every_watch(world: World) -> None:
    """A service that stops ends its streams cleanly."""
    watching = stream(world)
    await anext(watching)
    world.watch.close()

    assert [response async for response in watching if response.events] == []


async def test_answers_kept_by_another_process_are_renewed(world: World) -> None:
    """A process that did not make a merge itself learns of it by the list."""
    other_directory = Directory(world.database)
    other_watch = PersonWatch(world.database, other_directory)
    source = await world.sign_up("anna@example.org")
    target = await world.sign_up("anna.two@example.org")
    before = other_directory.resolve([source])[0]
    await world.link(source, target)
    count = await other_watch.follow_once()
    after = other_directory.resolve([source])[0]

    assert count == 1
    assert (before.person_id, after.person_id) == (world.home(source), world.home(target))
    assert after.version == before.version + 1
    assert after.home_person_id == before.home_person_id
