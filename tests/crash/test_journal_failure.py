"""A disk that stops taking writes while the server runs."""

from __future__ import annotations

import json
import resource
import signal
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.conformance.kit import (
    SECONDS_MAX,
    Ledger,
    Server,
    refused,
    reserve_request,
    start_server,
)

if TYPE_CHECKING:
    from pathlib import Path

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def set_file_limit(server: Server, bytes_max: int) -> None:
    """Makes every write past so many bytes of any file fail, as a broken disk would."""
    _soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (bytes_max, hard))


def wait_for_not_serving(channel: grpc.Channel) -> None:
    """Waits until health follows the journal."""
    stub = health_pb2_grpc.HealthStub(channel)
    end = time.monotonic() + SECONDS_MAX
    while stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status != NOT_SERVING:
        assert time.monotonic() < end, "health never changed"
        time.sleep(0.02)


def test_a_failed_write_stops_all_writes_until_a_restart(tmp_path: Path) -> None:
    """UNAVAILABLE, health NOT_SERVING, a log line, exit status 4; a restart has what was told."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=5)
    told = ledger.held(sale_id)

    set_file_limit(server, 1)
    refusals = [failed(ledger, sale_id) for _ in range(2)]
    set_file_limit(server, resource.RLIM_INFINITY)
    refusals.append(failed(ledger, sale_id))
    wait_for_not_serving(ledger.data)
    wait_for_not_serving(ledger.settlement)
    ledger.close()
    server.process.send_signal(signal.SIGTERM)

    assert {(one.code, one.reason) for one in refusals} == {
        (grpc.StatusCode.UNAVAILABLE, "JOURNAL_FAILED")
    }
    assert server.process.wait(30) == 4
    events: list[dict[str, Any]] = [json.loads(line) for line in read_log(server)]
    [change] = [event for event in events if event["event"] == "health_changed"]
    assert change["reason"] == "JOURNAL_FAILED"
    assert change["level"] == "error"
    again = start_server(tmp_path)
    ledger = Ledger(again.ready["data"], again.ready["settlement"])
    assert ledger.state(told) == 1
    ledger.held(sale_id)
    ledger.close()
    assert again.stop() == 0


def failed(ledger: Ledger, sale_id: str) -> Any:
    """Reserves while the journal takes no writes; returns the refusal."""
    with pytest.raises(grpc.RpcError) as caught:
        ledger.stock.Reserve(reserve_request(sale_id), timeout=10)
    return refused(caught.value)


def read_log(server: Server) -> list[str]:
    """Returns the log's lines; a line that the limit cut short is left out."""
    return [line for line in server.log.read_text().splitlines() if line.startswith("{")]
