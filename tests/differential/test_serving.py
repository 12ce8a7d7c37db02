"""The reference ledger as a server: it passes the conformance tests of stock behaviour."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from lastunit.reference.serving import ReferenceServer
from lastunit.reference.words import timestamp
from lastunit.stock.v1 import rehearsal_service_pb2 as rehearsal_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2
from lastunit.stock.v1.rehearsal_service_pb2_grpc import RehearsalServiceStub
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# What a model without admission, deadlines and a second listener can be held to.
FILES = ("reservations", "payments", "exchange", "retries", "streams", "admin")
LEFT_OUT = "not admission and not listener and not shed and not deadline"


@pytest.fixture
def address() -> Iterator[str]:
    """A reference ledger as a process of its own, on the machine's time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lastunit.reference"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    yield ready["address"]
    process.terminate()
    process.stdout.close()

    assert process.wait(20) == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_model_passes_the_conformance_tests_of_stock_behaviour(address: str) -> None:
    """Every test of reservations, payments, batches, retries, streams and operators."""
    files = [f"tests/conformance/test_{name}.py" for name in FILES]
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files),
            *("-k", LEFT_OUT, "--target", address),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-4000:]


def test_a_manual_clock_moves_by_set_clock_only() -> None:
    """Time is what was set last, and never goes back."""
    server = ReferenceServer(is_clock_manual=True, now_ms=1_000)
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        rehearsal = RehearsalServiceStub(channel)
        rehearsal.SetClock(rehearsal_pb2.SetClockRequest(now_time=timestamp(5_000)))
        with pytest.raises(grpc.RpcError) as caught:
            rehearsal.SetClock(rehearsal_pb2.SetClockRequest(now_time=timestamp(4_000)))
    now = server.ledger.now
    server.stop()

    assert now == 5_000
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_a_field_past_its_bound_is_named() -> None:
    """INVALID_ARGUMENT, as the real server says it; nothing is decided."""
    server = ReferenceServer()
    server.start()
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        StockServiceStub(channel).Reserve(stock_pb2.ReserveRequest(reservation_id="a b"))
    op_number = server.ledger.op_number
    server.stop()

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert op_number == 1
