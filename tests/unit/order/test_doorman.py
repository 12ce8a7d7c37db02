"""Newcomers are turned away while a gate that is known says so, and nobody else ever is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lastunit.admission.v1 import gate_pb2
from lastunit.errors import StatusError
from lastunit.order.doorman import BELIEVED_SECONDS, SALES_MAX, Doorman
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.stock.v1 import outcome_pb2

from .ledger import START_MS
from .world import World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

OPEN, QUEUEING, CLOSED = (
    gate_pb2.GATE_STATE_OPEN,
    gate_pb2.GATE_STATE_QUEUEING,
    gate_pb2.GATE_STATE_CLOSED,
)


class Gates:
    """Tells what a test says; only `flash` has a gate."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[gate_pb2.Gate] = asyncio.Queue()
        self.watched: list[str] = []

    async def watch(self, sale_id: str) -> AsyncGenerator[gate_pb2.Gate]:
        """Tells what is told."""
        self.watched.append(sale_id)
        if sale_id != "flash":
            raise StatusError("there is no gate", code="NOT_FOUND", reason="UNKNOWN_SALE")
        while True:
            yield await self.told.get()

    async def tell(
        self,
        state: gate_pb2.GateState.ValueType,
        cause: gate_pb2.GateCause.ValueType = gate_pb2.GATE_CAUSE_QUEUE_DEPTH,
        seconds: int | None = 30,
    ) -> None:
        """Tells one state and waits until it is known."""
        gate = gate_pb2.Gate(sale_id="flash", state=state, cause=cause)
        if seconds is not None:
            gate.come_back_after.FromSeconds(seconds)
        await self.told.put(gate)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_only_the_states_of_a_known_gate_turn_anybody_away() -> None:
    """Unknown and open let on, queueing and closed do not; what the ledger says itself does."""
    gates, now = Gates(), [0.0]
    doorman = Doorman(gates, clock=lambda: now[0], seed=1)
    assert doorman.ask("flash") is None
    await gates.tell(OPEN)
    assert doorman.ask("flash") is None
    await gates.tell(QUEUEING)
    away = doorman.ask("flash")
    await gates.tell(CLOSED, seconds=None)
    never = doorman.ask("flash")
    await gates.tell(CLOSED, gate_pb2.GATE_CAUSE_NOT_OPEN_YET)
    not_open_yet = doorman.ask("flash")
    await doorman.close()

    assert away is not None
    assert not away.is_closed
    assert away.come_back_seconds is not None
    assert 30 <= away.come_back_seconds <= 45
    assert never is not None
    assert (never.is_closed, never.come_back_seconds) == (True, None)
    assert not_open_yet is None
    assert doorman.turned_away_count == 2


async def test_a_gate_that_is_not_told_of_any_more_is_not_believed() -> None:
    """A broken stream must not keep buyers out for ever."""
    gates, now = Gates(), [0.0]
    doorman = Doorman(gates, clock=lambda: now[0])
    doorman.ask("flash")
    await gates.tell(CLOSED)
    assert doorman.ask("flash") is not None
    now[0] += BELIEVED_SECONDS + 0.1
    assert doorman.ask("flash") is None
    await doorman.close()


async def test_those_who_are_told_at_once_come_back_spread_out() -> None:
    """A hundred who are told within one moment come back over half of the time again."""
    gates = Gates()
    doorman = Doorman(gates, seed=7)
    doorman.ask("flash")
    await gates.tell(QUEUEING, seconds=10)
    told = [doorman.ask("flash") for _ in range(100)]
    seconds = sorted(each.come_back_seconds for each in told if each and each.come_back_seconds)
    await doorman.close()

    assert len(seconds) == 100
    assert seconds[0] < 11
    assert seconds[-1] > 14


async def test_invented_sales_are_bounded_and_make_room_for_real_ones() -> None:
    """Who names sales that do not exist can't keep a real gate from being watched."""
    gates, now = Gates(), [0.0]
    doorman = Doorman(gates, clock=lambda: now[0])
    for number in range(3 * SALES_MAX):
        assert doorman.ask(f"invented-{number}") is None
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    doorman.ask("flash")
    await gates.tell(CLOSED)
    away = doorman.ask("flash")
    before = len(gates.watched)
    doorman.ask("invented-191")
    now[0] += 6.0
    doorman.ask("invented-191")
    await asyncio.sleep(0)
    await doorman.close()

    assert away is not None
    # Asked again after a while: the sale may have been defined since.
    assert gates.watched[before:] == ["invented-191"]


async def test_a_repeat_is_honoured_and_payers_pass_while_newcomers_wait() -> None:
    """The order stands; its repeat, its payment and its cancel never meet the gate."""
    gates = Gates()
    world = World()
    world.doorman = Doorman(gates)
    world.core = world.new_core()
    placed = await world.place()
    await gates.tell(CLOSED)
    newcomer = await world.place("request-2", account_id="account-2")
    repeated = await world.place()
    paid = await world.pay(placed.order_id)
    await world.doorman.close()
    world.close()

    assert newcomer.refusal == pb.REFUSAL_GATE_CLOSED
    assert newcomer.outcome == outcome_pb2.OUTCOME_UNSPECIFIED
    assert newcomer.come_back_time.ToMilliseconds() >= START_MS + 30_000
    assert world.ledger.calls["reserve"] == 1
    assert repeated.order_id == placed.order_id
    assert paid.outcome == outcome_pb2.OUTCOME_OK


@pytest.mark.parametrize("state", [QUEUEING, CLOSED])
async def test_each_state_has_its_refusal(state: gate_pb2.GateState.ValueType) -> None:
    """Front ends can tell a queue from a closed door."""
    gates = Gates()
    world = World()
    world.doorman = Doorman(gates)
    world.core = world.new_core()
    world.doorman.ask("flash")
    await gates.tell(state)
    refused = await world.place()
    await world.doorman.close()
    world.close()

    name = pb.Refusal.Name(refused.refusal)
    assert name.endswith(gate_pb2.GateState.Name(state).removeprefix("GATE_STATE_"))
