"""Order, payment, webhook and sandbox as processes: a sale, a kill -9, a clean stop."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
import sqlalchemy as sa
from tests.unit.order.rebuilt import delete_projections

from lastunit.client.aio import StockClient
from lastunit.order.schema import ORDER_METADATA
from lastunit.order.v1 import order_pb2, order_service_pb2_grpc
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment import schema
from lastunit.payment.schema import INBOX_METADATA
from lastunit.payment.signature import sign
from lastunit.service.database import Database
from lastunit.stock.v1 import outcome_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

from .processes import KEY, Processes, account_server
from .system import LedgerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE_SECONDS = 60


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Processes that are all gone after the test."""
    started = Processes(tmp_path)
    yield started
    started.stop_all()


@pytest.fixture
async def ledger_in_real_time(tmp_path: Path) -> AsyncIterator[LedgerProcess]:
    """A ledger in real time with ten units on sale."""
    ledger = LedgerProcess.start(tmp_path / "ledger", clock="system")
    client = StockClient(ledger.address, settlement_address=ledger.settlement_address)
    note: dict[str, Any] = {"actor": "test", "reason": "test", "sale_id": "flash"}
    place: dict[str, Any] = {"sku": "phone", "pool": "main", **note}
    for name, request in (
        ("put_sale", admin_pb.PutSaleRequest(request_id="1", **note)),
        ("put_pool", admin_pb.PutPoolRequest(request_id="2", is_offered=True, position=1, **place)),
        ("supply_stock", admin_pb.SupplyStockRequest(request_id="3", units=10, **place)),
    ):
        reply = await getattr(client.admin, name)(request)
        assert reply.is_ok
    yield ledger
    await client.close()
    ledger.stop()


@pytest.fixture
async def accounts() -> AsyncIterator[str]:
    """An account service; its address."""
    server = await account_server()
    yield server.address
    await server.stop(0)


def callback(event_id: str) -> tuple[dict[str, str], bytes]:
    """Returns a signed callback for an attempt nobody knows."""
    body = {
        "event_id": event_id,
        "type": "payment.succeeded",
        "merchant_no": "nobody:1",
        "provider_no": "p-1",
        "amount_minor": 1,
        "currency": "CNY",
        "occurred_at": 1,
        "state_version": 1,
    }
    raw_body = json.dumps(body).encode()
    timestamp = str(int(time.time()))
    headers = {
        "x-timestamp": timestamp,
        "x-event-id": event_id,
        "x-signature": sign(KEY.encode(), timestamp=timestamp, raw_body=raw_body),
    }
    return headers, raw_body


async def test_a_callback_that_got_its_200_survives_kill_9(
    processes: Processes, tmp_path: Path
) -> None:
    """Every event answered with 200 before the kill is in the inbox, once, after it."""
    url = f"http://{processes.start_webhook()}/v1/callbacks/sandbox"
    acknowledged: list[str] = []

    async def post(client: httpx.AsyncClient, event_id: str) -> None:
        headers, raw_body = callback(event_id)
        response = await client.post(url, content=raw_body, headers=headers)
        if response.status_code == 200:
            acknowledged.append(event_id)
        if len(acknowledged) == 100 and "webhook" in processes.running:
            processes.kill("webhook")

    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        calls = (post(client, f"e-{each}") for each in range(300))
        errors = await asyncio.gather(*calls, return_exceptions=True)
    inbox = tmp_path / "payment" / "inbox.sqlite"
    with Database(inbox, INBOX_METADATA) as database, database.read() as connection:
        kept = list(connection.execute(sa.select(schema.inbox.c.event_id)).scalars())

    assert 100 <= len(acknowledged) < 300
    assert all(error is None or isinstance(error, httpx.HTTPError) for error in errors)
    assert set(acknowledged) <= set(kept)
    assert len(kept) == len(set(kept))


async def test_a_sale_runs_over_the_wires_and_everything_stops_cleanly(
    processes: Processes, ledger_in_real_time: LedgerProcess, accounts: str
) -> None:
    """Place, pay, callback, PAID; a stranger refused; then SIGTERM and exit status 0 for all."""
    order, sandbox = _start_all(processes, ledger_in_real_time, accounts)
    async with grpc.aio.insecure_channel(order) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        placed, paid = await _buy(stub, sandbox)
        stranger = await stub.PlaceOrder(_order("stranger"))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.PlaceOrder(pb.PlaceOrderRequest(request_id="no spaces"))
        shown = await _wait_until_paid(stub, placed.order_id)
    statuses = processes.stop_all()

    assert placed.outcome == outcome_pb2.OUTCOME_OK
    assert paid.pay_url == f"http://{sandbox}/v1/pay/{paid.provider_no}"
    assert stranger.refusal == pb.REFUSAL_ACCOUNT_UNKNOWN
    assert grpc.StatusCode.INVALID_ARGUMENT is error.value.code()
    assert shown.order.state == order_pb2.ORDER_STATE_PAID
    assert statuses == {"webhook": 0, "sandbox": 0, "payment": 0, "order": 0}


async def test_a_ledger_that_is_killed_half_way_loses_no_payment(
    processes: Processes, ledger_in_real_time: LedgerProcess, accounts: str
) -> None:
    """Money comes while the ledger is dead; the one that starts on its journal sells the unit."""
    order, sandbox = _start_all(processes, ledger_in_real_time, accounts)
    async with grpc.aio.insecure_channel(order) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        placed = await stub.PlaceOrder(_order("account-1"))
        paid = await stub.Pay(
            pb.PayRequest(request_id="pay-1", order_id=placed.order_id, method="card")
        )
        ledger_in_real_time.process.kill()
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            await client.post(f"http://{sandbox}/v1/pay/{paid.provider_no}")
        waiting = stub.PlaceOrder(_order("account-2"), timeout=60)
        await asyncio.to_thread(ledger_in_real_time.crash, processes.directory / "ledger")
        shown = await _wait_until_paid(stub, placed.order_id)
        repeated = await stub.PlaceOrder(_order("account-1"))
        second = await waiting

    assert shown.order.state == order_pb2.ORDER_STATE_PAID
    assert (placed.order_id, True) == (repeated.order_id, repeated.replayed)
    assert second.outcome == outcome_pb2.OUTCOME_OK


async def test_an_operator_watches_refunds_explains_and_rebuilds(
    processes: Processes, ledger_in_real_time: LedgerProcess, accounts: str
) -> None:
    """A page's stream ends without an error when the service stops; what is rebuilt is the same."""
    order, sandbox = _start_all(processes, ledger_in_real_time, accounts)
    rebuild = (
        *("rebuild", "--data-directory", f"{processes.directory}/order"),
        *("--ledger-address", ledger_in_real_time.address),
    )
    async with grpc.aio.insecure_channel(order) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        placed, _ = await _buy(stub, sandbox)
        order_id = placed.order_id
        seen: list[order_pb2.Transition] = []
        stream = stub.WatchOrder(pb.WatchOrderRequest(order_id=order_id))
        returned = asyncio.Event()
        reading = asyncio.create_task(_read_into(seen, stream, returned))
        await _wait_until_paid(stub, order_id)
        await stub.Refund(
            pb.RefundRequest(request_id="r", order_id=order_id, reason="sorry", actor="desk-1")
        )
        # The last move: the unit is back, and the ledger's word of it was followed.
        await asyncio.wait_for(returned.wait(), PATIENCE_SECONDS)
        text = await processes.run("explain", order_id, "--address", order)
        beside = await processes.run(*rebuild, status=2)
        before = (await stub.GetOrder(pb.GetOrderRequest(order_id=order_id))).order
        status = await asyncio.to_thread(processes.stop, "order")
        await asyncio.wait_for(reading, PATIENCE_SECONDS)
    watched = [step.sequence for step in seen]
    with Database(processes.directory / "order" / "order.sqlite", ORDER_METADATA) as database:
        delete_projections(database)
    done = await processes.run(*rebuild)
    order = _start_order(processes, ledger_in_real_time, accounts, payment=processes.payment)
    async with grpc.aio.insecure_channel(order) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        after = (await stub.GetOrder(pb.GetOrderRequest(order_id=order_id))).order
        rest = stub.WatchOrder(pb.WatchOrderRequest(order_id=order_id, after_sequence=watched[-1]))
        first: Any = await rest.read()

    assert status == 0
    assert "REFUNDED" in text
    assert "desk-1" in text
    assert "missing" not in text
    assert "a service runs on this database" in beside
    assert "done: 1 orders" in done
    assert before == after
    assert list(range(1, len(watched) + 1)) == watched
    assert list(first.transitions) == []


async def _read_into(
    seen: list[order_pb2.Transition], stream: Any, returned: asyncio.Event
) -> None:
    """Reads a watch to its end, which comes without an error; says when the unit is back."""
    async for response in stream:
        seen += response.transitions
        if "RETURNED" in {step.event for step in response.transitions}:
            returned.set()


def _start_all(
    processes: Processes, ledger: LedgerProcess, account_address: str
) -> tuple[str, str]:
    """Starts webhook, sandbox, payment and order; returns the addresses of order and sandbox."""
    webhook = processes.start_webhook()
    sandbox = processes.start_sandbox(webhook, '{"callback_delay_ms": 10}')
    directory = str(processes.directory)
    ledger_words = (
        *("--ledger-address", ledger.address),
        *("--settlement-address", ledger.settlement_address),
    )
    payment = processes.start(
        "payment",
        "lastunit.payment.cli",
        *("serve", "--data-directory", f"{directory}/payment"),
        *("--provider-url", f"http://{sandbox}", "--time-scale", "0.1", *ledger_words),
    )
    processes.payment = payment["address"]
    return _start_order(processes, ledger, account_address, payment=processes.payment), sandbox


def _start_order(
    processes: Processes, ledger: LedgerProcess, account_address: str, *, payment: str
) -> str:
    """Starts the order service; returns its address."""
    order = processes.start(
        "order",
        "lastunit.order.cli",
        *("serve", "--data-directory", f"{processes.directory}/order"),
        *("--ledger-address", ledger.address),
        *("--settlement-address", ledger.settlement_address),
        *("--account-address", account_address, "--payment-address", payment),
        *("--price", "phone=84000", "--database-rate", "200"),
    )
    return str(order["address"])


def _order(account_id: str) -> pb.PlaceOrderRequest:
    request = pb.PlaceOrderRequest(
        request_id=f"place-{account_id}", account_id=account_id, sale_id="flash"
    )
    request.lines.add(sku="phone", units=1)
    return request


async def _buy(stub: Any, sandbox: str) -> tuple[pb.PlaceOrderResponse, pb.PayResponse]:
    placed = await stub.PlaceOrder(_order("account-1"))
    paid = await stub.Pay(
        pb.PayRequest(request_id="pay-1", order_id=placed.order_id, method="card")
    )
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.post(f"http://{sandbox}/v1/pay/{paid.provider_no}")

    assert answer.json() == {"status": "PAID"}
    return placed, paid


async def _wait_until_paid(stub: Any, order_id: str) -> pb.GetOrderResponse:
    """Looks until the order is paid; the end of patience fails the caller's assert."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        shown: pb.GetOrderResponse = await stub.GetOrder(pb.GetOrderRequest(order_id=order_id))
        if shown.order.state == order_pb2.ORDER_STATE_PAID or time.monotonic() > end:
            return shown
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        ("lastunit.payment.cli", ("webhook", "--data-directory", "."), "LASTUNIT_WEBHOOK_KEYS"),
        (
            "lastunit.payment.cli",
            ("sandbox", "--callback-url", "http://x", "--knobs", '{"colour": 1}'),
            "colour",
        ),
        ("lastunit.order.cli", ("serve", "--price", "phone"), "ledger-address"),
    ],
)
def test_a_wrong_flag_is_named(
    tmp_path: Path, module: str, words: tuple[str, ...], message: str
) -> None:
    """The process ends with status 2 and says what is wrong."""
    import os
    import subprocess
    import sys

    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
    if message != "LASTUNIT_WEBHOOK_KEYS":
        environment["LASTUNIT_WEBHOOK_KEYS"] = KEY
    ended = subprocess.run(
        [sys.executable, "-m", module, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 2
    assert message in ended.stderr
