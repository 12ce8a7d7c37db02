"""Settlement goes on while reservations flood the other door."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from tests.conformance.kit import Ledger, new_id, reserve_request, start_server

from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from pathlib import Path

IN_FLIGHT = 512
FACTS = 60
# A policy that lets almost nothing in: the flood is refused, call after call.
STRICT_POLICY = """
version = 1
[lanes.reservation]
rate_per_second = 200
burst = 200
"""


def paying(ledger: Ledger, sale_id: str, count: int) -> list[stock.SettlePaymentRequest]:
    """Brings reservations into PAYING; returns a payment fact for each."""
    facts = []
    for _ in range(count):
        reservation_id, attempt_id = ledger.paying(sale_id)
        facts.append(
            stock.SettlePaymentRequest(
                request_id=new_id("request"),
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                payment_result=reservation.PAYMENT_RESULT_SUCCEEDED,
            )
        )
    return facts


async def flood(stub: Any, sale_id: str, is_over: asyncio.Event) -> dict[str, int]:
    """Keeps so many Reserve calls in flight; counts how they ended."""
    ended: dict[str, int] = {}

    async def one_caller() -> None:
        while not is_over.is_set():
            try:
                await stub.Reserve(reserve_request(sale_id), timeout=20)
                name = "OK"
            except grpc.aio.AioRpcError as error:
                name = error.code().name
            ended[name] = ended.get(name, 0) + 1

    await asyncio.gather(*(one_caller() for _ in range(IN_FLIGHT)))
    return ended


async def settle_under_flood(ledger: Ledger, sale_id: str) -> dict[str, int]:
    """Settles one payment after the other while the flood runs."""
    facts = await asyncio.to_thread(paying, ledger, sale_id, FACTS)
    is_over = asyncio.Event()
    async with (
        grpc.aio.insecure_channel(ledger.data_address) as data,
        grpc.aio.insecure_channel(ledger.settlement_address) as settlement,
    ):
        flooding = asyncio.create_task(flood(StockServiceStub(data), sale_id, is_over))
        await asyncio.sleep(0.2)
        stub = StockServiceStub(settlement)
        for fact in facts:
            reply = await stub.SettlePayment(fact, timeout=20)
            assert reply.result.state == reservation.STATE_CONFIRMED
        is_over.set()
        return await flooding


async def test_no_payment_is_refused_while_reservations_flood(tmp_path: Path) -> None:
    """With 512 reservations in flight on the other listener each payment fact is applied."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=1_000_000)

    ended = await settle_under_flood(ledger, sale_id)

    assert ledger.counters(sale_id)["sold"] == FACTS
    assert set(ended) <= {"OK", "RESOURCE_EXHAUSTED"}, ended
    ledger.close()
    assert server.stop() == 0


async def test_a_spent_budget_refuses_reservations_and_no_payment(tmp_path: Path) -> None:
    """Past the lane's rate reservations are shed with a push-back; payment facts never are."""
    policy = tmp_path / "admission.toml"
    policy.write_text(STRICT_POLICY)
    server = start_server(tmp_path, "--admission-file", str(policy))
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=1_000_000)

    await asyncio.sleep(1)
    ended = await settle_under_flood(ledger, sale_id)
    refusal = await shed(ledger, sale_id)

    assert ledger.counters(sale_id)["sold"] == FACTS
    assert ended["RESOURCE_EXHAUSTED"] > 0
    assert int(refusal["grpc-retry-pushback-ms"]) >= 0
    ledger.close()
    assert server.stop() == 0


async def shed(ledger: Ledger, sale_id: str) -> dict[str, Any]:
    """Reserves until a call is refused by the lane's rate; returns its trailers."""
    async with grpc.aio.insecure_channel(ledger.data_address) as channel:
        stub: Any = StockServiceStub(channel)
        while True:
            calls = [stub.Reserve(reserve_request(sale_id), timeout=20) for _ in range(300)]
            for error in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(error, grpc.aio.AioRpcError):
                    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    return dict(error.trailing_metadata() or ())
