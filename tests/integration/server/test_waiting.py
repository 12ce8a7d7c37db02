"""Calls that wait in the server for their lane, through both fronts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.conformance.kit import Ledger, refused, reserve_request, start_server

from lastunit.stock.v1 import reservation_pb2

from .test_metrics import samples

if TYPE_CHECKING:
    from pathlib import Path

WAITING = """version = 1
[lanes.reservation]
rate_per_second = 200
burst = 5
waiting_max = {waiting_max}
wait_max_ms = 10000
"""
NONE_COME = WAITING.replace("= 200\nburst = 5", "= 0.001\nburst = 1")

pytestmark = pytest.mark.parametrize("prefix", ["", "native_"], ids=["grpcio", "native"])


def open_ledger(tmp_path: Path, prefix: str, policy: str) -> tuple[Any, Ledger, str]:
    """Starts a server with a policy and a sale of 100 units."""
    file = tmp_path / "admission.toml"
    file.write_text(policy)
    server = start_server(tmp_path, "--policy", str(file))
    ledger = Ledger(server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])
    return server, ledger, ledger.put_sale(units=100)


def test_callers_that_never_come_back_are_all_served(tmp_path: Path, prefix: str) -> None:
    """Sixty at once, a bucket of five: each has its unit, and none was refused."""
    server, ledger, sale_id = open_ledger(tmp_path, prefix, WAITING.format(waiting_max=100))
    with ThreadPoolExecutor(60) as pool:
        requests = [reserve_request(sale_id) for _ in range(60)]
        replies = list(pool.map(ledger.stock.Reserve, requests))
    values = samples(server)

    assert {reply.result.state for reply in replies} == {reservation_pb2.STATE_HELD}
    assert values["lastunit_admission_waited_total{lane=reservation}"] >= 40
    assert values["lastunit_admission_waiting{lane=reservation}"] == 0
    assert values["lastunit_admission_wait_late_total{lane=reservation}"] == 0


def test_who_waits_holds_up_nobody_else_and_is_told_at_a_drain(tmp_path: Path, prefix: str) -> None:
    """One waits, another finds no place; payment goes on; SIGTERM ends the wait."""
    server, ledger, sale_id = open_ledger(tmp_path, prefix, NONE_COME.format(waiting_max=1))
    held = reserve_request(sale_id)
    ledger.stock.Reserve(held)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(ledger.stock.Reserve, reserve_request(sale_id))
        key = "lastunit_admission_waiting{lane=reservation}"
        while not samples(server)[key]:
            time.sleep(0.02)
        with pytest.raises(grpc.RpcError) as full:
            ledger.stock.Reserve(reserve_request(sale_id))
        begun = ledger.begin(held.reservation_id, f"{held.reservation_id}:1")
        stopped = pool.submit(server.stop)
        wait([waiting, stopped], timeout=30)

    assert refused(full.value).reason == "RATE_LANE"
    assert begun.result.state == reservation_pb2.STATE_PAYING
    ended = waiting.exception()
    assert isinstance(ended, grpc.RpcError)
    assert refused(ended).reason == "DRAINING"
