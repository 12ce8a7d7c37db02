"""The order service as a process reports to a ledger whose policy has a credit window."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conformance.kit import SKU, Ledger, Server, refused, reserve_request, start_server
from tests.integration.payment.processes import Processes, account_server

from lastunit.admission.v1 import admission_service_pb2 as admission
from lastunit.admission.v1 import gate_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.order.v1 import order_service_pb2_grpc
from lastunit.stock.v1 import outcome_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

PATIENCE_SECONDS = 60.0

# Without a report one reservation comes in and, for as long as any test lasts, no other.
WINDOWED = """
version = 1
[window]
credits_max = 4
credits_min = 4
reports_missed_max = 20
floor_rate_per_second = 0.001
floor_burst = 1
"""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes that are all gone after the test."""
    started = Processes(tmp_path)
    yield started
    started.stop_all()


@pytest.fixture
async def accounts() -> AsyncIterator[str]:
    """An account service; its address."""
    server = await account_server()
    yield server.address
    await server.stop(0)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """The policy's file."""
    file = tmp_path / "policy.toml"
    file.write_text(WINDOWED)
    return file


def connect(server: Server) -> Ledger:
    """Connects to both listeners."""
    return Ledger(server.ready["data"], server.ready["settlement"])


def start_orders(processes: Processes, server: Server, accounts: str) -> str:
    """Starts the order service; returns its address."""
    ready = processes.start(
        "order",
        "lastunit.order.cli",
        *("serve", "--data-directory", str(processes.directory / "order")),
        *("--ledger-address", server.ready["data"]),
        *("--settlement-address", server.ready["settlement"]),
        *("--account-address", accounts, "--payment-address", "127.0.0.1:1"),
        *("--price", f"{SKU}=84000"),
    )
    return str(ready["address"])


async def wait_for_gate(ledger: Ledger, sale_id: str, is_there: Callable[[Any], bool]) -> Any:
    """Waits until a gate is as it must become."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        gate = ledger.admission.GetGate(gate_pb2.GetGateRequest(sale_id=sale_id)).gate
        if is_there(gate):
            return gate
        assert time.monotonic() < end, gate
        await asyncio.sleep(0.02)


def is_open(gate: Any) -> bool:
    """Whether buyers come in."""
    return bool(gate.state == gate_pb2.GATE_STATE_OPEN)


def misses_reports(gate: Any) -> bool:
    """Whether buyers wait because the order service is silent."""
    cause = (gate.state, gate.cause)
    return cause == (gate_pb2.GATE_STATE_QUEUEING, gate_pb2.GATE_CAUSE_NO_REPORT)


async def place(address: str, sale_id: str, buyers: range) -> list[int]:
    """Places orders one after the other; returns the outcomes."""
    outcomes = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        for buyer in buyers:
            request = pb.PlaceOrderRequest(
                request_id=f"place-{buyer}", account_id=f"account-{buyer}", sale_id=sale_id
            )
            request.lines.add(sku=SKU, units=1)
            outcomes.append(await press(stub, request))
    return outcomes


async def press(stub: Any, request: pb.PlaceOrderRequest) -> int:
    """Presses until there is an answer: a full window lets a buyer in with the next report."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            placed = await stub.PlaceOrder(request, timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            is_full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            if not is_full or time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)
        else:
            return int(placed.outcome)


def wait_for_words(processes: Processes, words: str) -> None:
    """Waits until the order service has logged something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while words not in processes.log("order"):
        assert time.monotonic() < end, processes.log("order")
        time.sleep(0.02)


def window(ledger: Ledger) -> admission.CreditWindow:
    """Returns where the credit window stands."""
    stats = ledger.admission.GetAdmissionStats(admission.GetAdmissionStatsRequest(page_size=1))
    return stats.window


async def test_a_window_that_hears_nothing_grants_its_floor_and_says_why(
    tmp_path: Path, policy: Path
) -> None:
    """One reservation is granted, the next one is not, and the gate names NO_REPORT."""
    ledger = connect(start_server(tmp_path, "--policy", str(policy)))
    sale_id = ledger.put_sale(units=100)
    await wait_for_gate(ledger, sale_id, misses_reports)
    ledger.stock.Reserve(reserve_request(sale_id))
    with pytest.raises(grpc.RpcError) as silent:
        ledger.stock.Reserve(reserve_request(sale_id))

    assert refused(silent.value).reason == "WINDOW_FULL"
    assert window(ledger).outstanding_count == 1


async def test_orders_flow_through_a_window_while_their_service_reports(
    tmp_path: Path, policy: Path, processes: Processes, accounts: str
) -> None:
    """Five times the window is sold; a killed service is missed, and its like heard again."""
    server = start_server(tmp_path, "--policy", str(policy))
    ledger = connect(server)
    sale_id = ledger.put_sale(units=100)
    orders = start_orders(processes, server, accounts)
    await wait_for_gate(ledger, sale_id, is_open)
    outcomes = await place(orders, sale_id, range(20))
    processes.kill("order")
    await wait_for_gate(ledger, sale_id, misses_reports)
    orders = start_orders(processes, server, accounts)
    await wait_for_gate(ledger, sale_id, is_open)
    outcomes += await place(orders, sale_id, range(20, 40))

    assert outcomes == [outcome_pb2.OUTCOME_OK] * 40
    assert window(ledger).outstanding_count <= 4


async def test_newcomers_wait_at_the_gate_and_payers_do_not(
    tmp_path: Path, processes: Processes, accounts: str
) -> None:
    """A closed gate refuses a new order and says until when; who has one may repeat."""
    server = start_server(tmp_path)
    ledger = connect(server)
    sale_id = ledger.put_sale(units=100)
    orders = start_orders(processes, server, accounts)
    first = await place(orders, sale_id, range(1))
    order = gate_pb2.SetGateRequest(
        sale_id=sale_id, hand=gate_pb2.GATE_HAND_CLOSED, actor="tester", reason="test"
    )
    ledger.admission.SetGate(order)
    closed = await wait_for_refusal(orders, sale_id, pb.REFUSAL_GATE_CLOSED)
    repeated = await place(orders, sale_id, range(1))
    order.hand = gate_pb2.GATE_HAND_AUTOMATIC
    ledger.admission.SetGate(order)
    await wait_for_refusal(orders, sale_id, pb.REFUSAL_UNSPECIFIED)

    assert first == repeated == [outcome_pb2.OUTCOME_OK]
    assert closed.HasField("come_back_time")
    assert closed.order_id == ""


async def wait_for_refusal(
    address: str, sale_id: str, refusal: pb.Refusal.ValueType
) -> pb.PlaceOrderResponse:
    """Sends newcomers, each a new one, until one gets an answer."""
    end = time.monotonic() + PATIENCE_SECONDS
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        for buyer in range(100, 100_000):
            request = pb.PlaceOrderRequest(
                request_id=f"place-{refusal}-{buyer}",
                account_id=f"account-{refusal}-{buyer}",
                sale_id=sale_id,
            )
            request.lines.add(sku=SKU, units=1)
            placed: pb.PlaceOrderResponse = await stub.PlaceOrder(request, timeout=PATIENCE_SECONDS)
            if placed.refusal == refusal:
                return placed
            assert time.monotonic() < end, placed
            await asyncio.sleep(0.05)
    raise AssertionError("nobody is left to ask")


async def test_reports_outlive_a_ledger_that_restarts(
    tmp_path: Path, policy: Path, processes: Processes, accounts: str
) -> None:
    """The new ledger is reported to by itself; the old one's absence was told of once."""
    server = start_server(tmp_path, "--policy", str(policy))
    sale_id = connect(server).put_sale(units=100)
    orders = start_orders(processes, server, accounts)
    server.kill()
    addresses = (
        *("--data-address", server.ready["data"]),
        *("--settlement-address", server.ready["settlement"]),
    )
    await asyncio.to_thread(wait_for_words, processes, "takes no report")
    ledger = connect(start_server(tmp_path, "--policy", str(policy), *addresses))
    await wait_for_gate(ledger, sale_id, is_open)
    outcomes = await place(orders, sale_id, range(1))

    assert processes.log("order").count("takes no report") == 1
    assert outcomes == [outcome_pb2.OUTCOME_OK]
