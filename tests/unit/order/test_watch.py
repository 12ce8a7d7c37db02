"""WatchOrder: each transition once, in order, whatever breaks; bounded; ends when it should."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lastunit.errors import BusyError
from lastunit.order.settings import OrderSettings
from lastunit.order.states import OrderEvent
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb

from .world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def watch(world: World, order_id: str, after: int = 0) -> AsyncIterator[pb.WatchOrderResponse]:
    """Opens a stream."""
    return world.core.watch.watch(pb.WatchOrderRequest(order_id=order_id, after_sequence=after))


async def read_until(stream: AsyncIterator[pb.WatchOrderResponse], event: str) -> list[int]:
    """Reads until an event has come; returns the numbers."""
    numbers: list[int] = []
    async for response in stream:
        numbers += [step.sequence for step in response.transitions]
        if event in {step.event for step in response.transitions}:
            break
    return numbers


async def test_a_page_sees_the_order_move(world: World) -> None:
    """What was, at once; then each move as it becomes durable, with the order's state."""
    order_id = (await world.place()).order_id
    stream = watch(world, order_id)
    first = await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await world.pay(order_id)
    assert not waiting.done()
    await world.show(order_id)
    second = await asyncio.wait_for(waiting, 10)

    assert [step.event for step in first.transitions] == [OrderEvent.RESERVED]
    assert first.order_state == order_pb2.ORDER_STATE_HELD
    assert [step.event for step in second.transitions] == [OrderEvent.PAYMENT_BEGUN]
    assert second.transitions[0].sequence == 2
    assert second.order_state == order_pb2.ORDER_STATE_PAYING


async def test_whoever_goes_on_misses_none_and_gets_none_twice(world: World) -> None:
    """Broken off after each message and taken up again with the last number."""
    order_id = await world.buy()
    await world.ship(order_id)
    await world.refund(order_id)
    await world.settle_down()
    numbers: list[int] = []
    while len(numbers) < len(world.transitions(order_id)):
        response = await anext(watch(world, order_id, numbers[-1] if numbers else 0))
        numbers.append(response.transitions[0].sequence)

    assert list(range(1, len(numbers) + 1)) == numbers
    assert len(numbers) == 6


async def test_what_moves_between_the_look_and_the_wait_is_not_missed(world: World) -> None:
    """Moves that come while a message is being sent are in the next one."""
    order_id = (await world.place()).order_id
    stream = watch(world, order_id)
    await anext(stream)
    await world.pay(order_id)
    await world.show(order_id)
    numbers = await asyncio.wait_for(read_until(stream, OrderEvent.PAYMENT_BEGUN), 10)

    assert numbers == [2]


async def test_a_move_by_another_process_is_seen_by_the_sweep(world: World) -> None:
    """Nobody wakes this process; it looks from time to time."""
    order_id = await world.buy()
    known = len(world.transitions(order_id))
    stream = watch(world, order_id, known)
    empty = await anext(stream)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    here, world.core = world.core, world.new_core()
    await world.ship(order_id)
    await here.watch.sweep_once()
    seen = await asyncio.wait_for(waiting, 10)

    assert not empty.transitions
    assert [step.sequence for step in seen.transitions] == [known + 1]


async def test_an_unknown_order_is_told_and_ends(world: World) -> None:
    """One message with the refusal."""
    messages = [response async for response in watch(world, "o-x")]

    assert [message.refusal for message in messages] == [pb.REFUSAL_UNKNOWN_ORDER]
    assert world.core.watch.count == 0


async def test_watchers_have_a_bound_and_make_room() -> None:
    """The third of two is refused; once one has left there is room."""
    world = World(settings=OrderSettings(watchers_max=2))
    order_id = (await world.place()).order_id
    streams = [watch(world, order_id), watch(world, order_id)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(BusyError, match="2 orders"):
        await anext(watch(world, order_id))
    await streams[0].aclose()  # type: ignore[attr-defined] # a generator has it
    await anext(watch(world, order_id))

    assert world.core.watch.count == 2
    world.close()


async def test_a_drain_ends_every_stream_cleanly(world: World) -> None:
    """Those that wait and those that come later end without an error, with what there was."""
    order_id = (await world.place()).order_id
    stream = watch(world, order_id)
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    world.core.watch.close()
    late = [response async for response in watch(world, order_id)]

    assert await asyncio.wait_for(waiting, 10) is None
    assert [len(response.transitions) for response in late] == [1]
    assert world.core.watch.count == 0


async def test_a_stream_ends_with_its_time_and_not_with_a_state() -> None:
    """A paid order may still be refunded: only the time ends it, without an error."""
    world = World(settings=OrderSettings(watch_seconds=0.05))
    order_id = await world.buy()
    messages = [response async for response in watch(world, order_id)]

    assert [message.order_state for message in messages] == [order_pb2.ORDER_STATE_PAID]
    world.close()
