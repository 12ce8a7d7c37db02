"""A rebuild: nothing is missing, exactly once, over any stop; and never beside a service.

That it gives back every row is checked after each test of this folder too, see `conftest`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lastunit.client.outcomes import AttemptState, ReleaseReason, State
from lastunit.errors import EventsRemovedError, UnavailableError
from lastunit.order import schema, store
from lastunit.order.rebuild import RebuildUnderWayError, check_not_under_way
from lastunit.order.states import OrderState
from lastunit.order.v1 import order_pb2
from lastunit.service.database import Lane

from .ledger import LedgerDouble, no_answer
from .rebuilt import delete_projections, read_rows, rebuild
from .world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

    from lastunit.client.aio import EventPage


async def live(world: World) -> None:
    """Lets all kinds of things happen to ten orders, the ledger's and ours mixed."""
    ids = [await world.buy(f"request-{each}", f"account-{each}") for each in range(6)]
    await world.ship(ids[0])
    await world.refund(ids[1], 10_000)
    await world.refund(ids[1], 0, "refund-2")
    await world.refund(ids[2], 1)
    await world.settle_down()
    await world.deliver(ids[0])
    await world.give_back(ids[0])
    second = f"{ids[3]}:9"
    world.ledger.settle(ids[3], second, AttemptState.REFUND_DUE, State.CONFIRMED)
    await world.show(ids[3])
    await world.ship(ids[3])
    await world.settle_down()
    held = (await world.place("request-8", "account-8")).order_id
    world.ledger.give_back(held, ReleaseReason.EXPIRED)
    paying = (await world.place("request-9", "account-9")).order_id
    await world.pay(paying)
    await world.show(paying)


async def test_with_everything_deleted_nothing_is_missing(world: World) -> None:
    """All projections gone and the cursor with them: the same rows, and the service goes on."""
    await live(world)
    before = read_rows(world.database)
    delete_projections(world.database, [*schema.PROJECTIONS, schema.cursors])
    told = await rebuild(world.database, world.ledger)
    world.core = world.new_core()

    assert before == read_rows(world.database)
    assert (told.order_count, told.sequence) == (8, len(world.ledger.events))
    assert (told.compared, told.unknown) == ([], [])
    assert world.core.follower.position == len(world.ledger.events)
    assert await world.core.follow_once() == 0


@pytest.mark.parametrize("table", schema.PROJECTIONS, ids=lambda table: str(table.name))
async def test_one_deleted_table_is_enough_of_a_loss(world: World, table: object) -> None:
    """Whichever projection is gone, the rebuild makes all of them."""
    await live(world)
    before = read_rows(world.database)
    delete_projections(world.database, [each for each in schema.PROJECTIONS if each is table])
    await rebuild(world.database, world.ledger)

    assert before == read_rows(world.database)


class Stopping:
    """Fails each unit of work but the first few of every run, as a machine that keeps dying."""

    def __init__(self, world: World, units: int) -> None:
        self._world = world
        self._left = units

    async def run(
        self, work: Callable[[sa.Connection], Any], *, lane: Lane = Lane.RESERVATION
    ) -> Any:
        """Runs a unit, or fails."""
        if not self._left:
            raise no_answer()
        self._left -= 1
        return await self._world.database.run(work, lane=lane)


async def test_a_rebuild_that_keeps_stopping_goes_on_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three events a page and two units a run: it ends, and every row is there once."""
    monkeypatch.setattr("lastunit.order.rebuild._EVENTS_PER_PAGE", 3)
    await live(world)
    before = read_rows(world.database)
    runs = 0
    while True:
        runs += 1
        try:
            await rebuild(world.database, world.ledger, Stopping(world, 2))
        except UnavailableError:
            continue
        break

    assert runs > 5
    assert before == read_rows(world.database)


async def test_no_service_starts_on_half_made_projections(world: World) -> None:
    """Begun and stopped: refused with what to do, until it is done."""
    await live(world)
    with pytest.raises(UnavailableError):
        await rebuild(world.database, world.ledger, Stopping(world, 1))
    with pytest.raises(RebuildUnderWayError, match="lastunit order rebuild"):
        check_not_under_way(world.database)
    await rebuild(world.database, world.ledger)

    check_not_under_way(world.database)


class Shortened(LedgerDouble):
    """A ledger that has removed its first events."""

    first_sequence = 1

    async def read_event_page(self, after_sequence: int, *, page_size: int = 1024) -> EventPage:
        """Refuses what it does not have any more."""
        if after_sequence < self.first_sequence - 1:
            raise EventsRemovedError("removed", first_sequence=self.first_sequence)
        return await super().read_event_page(after_sequence, page_size=page_size)


async def shortened() -> tuple[World, str, str]:
    """Returns a shop with an order from before the first event that is left, and one after."""
    world = World()
    ledger = Shortened(10)
    world.ledger = ledger
    world.payments._ledger = ledger
    world.core = world.new_core()
    old = await world.buy("request-1", "account-1")
    await world.refund(old, 5)
    await world.settle_down()
    ledger.first_sequence = len(ledger.events) + 1
    new = await world.buy("request-2", "account-2")
    await world.ship(new)
    return world, old, new


async def test_what_began_before_the_first_event_is_kept() -> None:
    """Nothing could make its first moves again, so they are not deleted."""
    world, _, _ = await shortened()
    before = read_rows(world.database)
    told = await rebuild(world.database, world.ledger)

    assert before == read_rows(world.database)
    assert (told.compared, told.unknown) == ([], [])
    world.close()


async def test_events_that_were_never_seen_are_made_up_for_by_a_comparison() -> None:
    """The service was away for longer than the ledger keeps events: the state is right again."""
    world, old, _ = await shortened()
    ledger = world.ledger
    assert isinstance(ledger, Shortened)
    late = (await world.place("request-3", "account-3")).order_id
    ledger.give_back(late, ReleaseReason.EXPIRED)
    ledger.first_sequence = len(ledger.events) + 1
    with pytest.raises(EventsRemovedError):
        await world.core.follow_once()
    told = await rebuild(world.database, ledger)
    world.core = world.new_core()
    closed = (await world.show(late)).order

    assert late in told.compared
    assert closed.state == order_pb2.ORDER_STATE_CLOSED
    assert closed.close_reason == order_pb2.CLOSE_REASON_EXPIRED
    assert store.COMPARED not in [step.event for step in world.transitions(old)]
    world.close()


async def test_what_was_lost_by_hand_is_compared_and_named() -> None:
    """The ledger's word gives the state, the facts give ours, and one row says what is missing."""
    world, old, new = await shortened()
    before = read_rows(world.database)
    delete_projections(world.database)
    told = await rebuild(world.database, world.ledger)
    after = read_rows(world.database)
    events = [step.event for step in world.transitions(old)]

    assert (told.compared, told.unknown) == ([old], [])
    assert [row["state"] for row in after["order_states"]] == [
        row["state"] for row in before["order_states"]
    ]
    assert store.COMPARED in events
    assert events[-2:] == ["PART_REFUND_ASKED", "PART_REFUND_DONE"]
    assert [row for row in before["order_transitions"] if row["order_id"] == new] == [
        row for row in after["order_transitions"] if row["order_id"] == new
    ]
    world.close()


async def test_what_the_ledger_has_forgotten_is_named() -> None:
    """Neither event nor reservation: the operator is told which orders to restore."""
    world, old, _ = await shortened()
    delete_projections(world.database)
    world.ledger.forgotten.add(old)
    told = await rebuild(world.database, world.ledger)

    assert (told.compared, told.unknown) == ([], [old])
    with world.database.read() as connection:
        row = store.load_order(connection, old)
    assert row is not None
    assert OrderState(row.state) is OrderState.HELD
    world.close()
