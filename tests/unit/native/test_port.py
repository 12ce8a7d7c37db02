"""The class `CompletionPort`: answers come back once each, and wake the loop."""

from __future__ import annotations

import asyncio
import gc
import select
from typing import TYPE_CHECKING

import pytest

from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.outcome_pb2 import Outcome

from . import kit

if TYPE_CHECKING:
    from lastunit_server import _native


def test_each_ticket_is_answered_exactly_once(node: _native.Node) -> None:
    """What is not answered at once comes through the port, in the order of decision."""
    port = node.port()
    now = {
        ticket: kit.submit(node, port, ticket, kit.reserve(f"r{ticket}")) for ticket in range(300)
    }
    waiting = [ticket for ticket, answer in now.items() if answer is None]
    answers = kit.collect(port, len(waiting))

    assert [ticket for ticket, _, _ in answers] == waiting
    assert all(code == 0 for _, code, _ in answers)
    sequences = [stock.ReserveResponse.FromString(body).place.sequence for _, _, body in answers]
    assert sequences == sorted(sequences)
    assert port.drain() == []


def test_drained_port_is_quiet_until_the_next_answer(node: _native.Node) -> None:
    """The eventfd is readable while answers wait, and not after they were taken."""
    port = node.port()
    assert select.select([port.fileno()], [], [], 0)[0] == []

    if kit.submit(node, port, 7, kit.reserve("a")) is None:
        assert [ticket for ticket, _, _ in kit.collect(port, 1)] == [7]
    assert select.select([port.fileno()], [], [], 0)[0] == []


def test_refusal_that_shows_nothing_pending_is_answered_at_once(node: _native.Node) -> None:
    """A fault needs no disk."""
    answer = kit.submit(node, node.port(), 1, kit.reserve("not an id"))

    assert answer is not None
    assert kit.reason(answer[1]) == "INVALID_FIELD"


async def test_event_loop_serves_a_thousand_calls(node: _native.Node) -> None:
    """With add_reader every future is resolved, and every unit is sold once."""
    port = node.port()
    loop = asyncio.get_running_loop()
    futures: dict[int, asyncio.Future[bytes]] = {}

    def deliver() -> None:
        for ticket, code, body in port.drain():
            assert code == 0
            futures.pop(ticket).set_result(body)

    async def one(ticket: int) -> stock.ReserveResponse:
        future: asyncio.Future[bytes] = loop.create_future()
        futures[ticket] = future
        answer = kit.submit(node, port, ticket, kit.reserve(f"r{ticket}"))
        if answer is not None:
            futures.pop(ticket).set_result(answer[1])
        return stock.ReserveResponse.FromString(await future)

    loop.add_reader(port.fileno(), deliver)
    responses = await asyncio.gather(*(one(ticket) for ticket in range(1200)))
    loop.remove_reader(port.fileno())

    outcomes = [response.result.outcome for response in responses]
    assert outcomes.count(Outcome.OUTCOME_OK) == 1000
    assert outcomes.count(Outcome.OUTCOME_SOLD_OUT) == 200
    assert not futures


def test_notice_comes_with_the_next_durable_event(node: _native.Node) -> None:
    """Readers of the journal sleep until there is something to read."""
    port = node.port()
    head = node.health()[4]
    node.notify_after(port, 1, head - 1)
    assert kit.collect(port, 1) == [(1, 0, b"")]

    node.notify_after(port, 2, head)
    assert port.drain() == []
    kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    assert kit.collect(port, 1) == [(2, 0, b"")]


def test_watch_tells_changes_through_the_port(node: _native.Node) -> None:
    """The first message shows all, the next one what changed; asking twice is an error."""
    port = node.port()
    request = stock.WatchAvailabilityRequest(sale_id=kit.SALE).SerializeToString()
    watch = node.watch(request)
    assert not isinstance(watch, tuple)
    watch.next(port, 1)
    first = stock.WatchAvailabilityResponse.FromString(kit.collect(port, 1)[0][2])
    watch.next(port, 2)
    with pytest.raises(RuntimeError, match="already"):
        watch.next(port, 3)
    kit.ask(node, "Reserve", kit.reserve("a"), stock.ReserveResponse)
    second = stock.WatchAvailabilityResponse.FromString(kit.collect(port, 1)[0][2])

    assert first.availabilities[0].counters.available == 1000
    assert second.availabilities[0].counters.available == 999


def test_watch_that_breaks_a_rule_is_refused(node: _native.Node) -> None:
    """A request that is not valid is answered instead of started."""
    refused = node.watch(stock.WatchAvailabilityRequest(sale_id="no id").SerializeToString())

    assert isinstance(refused, tuple)
    assert (refused[0], kit.reason(refused[1])) == (3, "INVALID_FIELD")


def test_port_may_be_forgotten_while_answers_are_on_their_way(node: _native.Node) -> None:
    """An event loop that ended takes nothing down with it."""
    for ticket in range(50):
        kit.submit(node, node.port(), ticket, kit.reserve(f"r{ticket}"))
    gc.collect()
    last = kit.ask(node, "Reserve", kit.reserve("last"), stock.ReserveResponse)

    assert last.result.outcome == Outcome.OUTCOME_OK
