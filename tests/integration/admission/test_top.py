"""`lastunit admission top` against a real server, as an operator runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conformance.kit import Bearer, Ledger, Server, reserve_request, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLER = "shop-7"


def run_top(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command."""
    command = [sys.executable, "-m", "lastunit.cli", "admission", "top", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts a server that lets one reservation a second in."""
    folder: Path = tmp_path_factory.mktemp("top")
    policy = folder / "admission.toml"
    policy.write_text("version = 1\n[lanes.reservation]\nrate_per_second = 1\nburst = 1\n")
    server = start_server(folder, "--admission-file", str(policy), "--durability", "memory")
    yield server
    server.stop()


@pytest.fixture
def storm(server: Server) -> Iterator[None]:
    """Sends reservations until the test ends."""
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale = ledger.put_sale(units=1_000)
    channel = grpc.intercept_channel(ledger.data, Bearer("", ("lastunit-caller", CALLER)))
    reserve = channel.unary_unary("/lastunit.stock.v1.StockService/Reserve")
    is_over = threading.Event()

    def send() -> None:
        while not is_over.wait(0.005):
            try:
                reserve(reserve_request(sale).SerializeToString(), timeout=10)
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise

    thread = threading.Thread(target=send)
    thread.start()
    yield
    is_over.set()
    thread.join()
    ledger.close()


@pytest.mark.usefixtures("storm")
def test_one_look_as_json_shows_who_is_refused(server: Server) -> None:
    """Rates and counts of the lane and of the caller that storms, and they add up."""
    done = run_top("--target", server.ready["settlement"], "--once", "--json")

    assert done.returncode == 0, done.stderr
    look = json.loads(done.stdout)
    lanes = {row["name"]: row for row in look["lanes"]}
    callers = {row["name"]: row for row in look["callers"]}
    assert set(lanes) >= {"control", "settlement", "reservation", "read"}
    for row in (lanes["reservation"], callers[CALLER]):
        assert row["refused_per_second"] > 0
        assert row["offered_count"] == row["admitted_count"] + row["refused_count"]
    assert look["callers"][0]["name"] == CALLER


@pytest.mark.usefixtures("storm")
def test_one_look_is_readable_text(server: Server) -> None:
    """Two tables with their heads, and a storming caller's row."""
    done = run_top("--target", server.ready["settlement"], "--once")

    assert done.returncode == 0, done.stderr
    assert "refused/s" in done.stdout
    assert any(line.startswith("reservation") for line in done.stdout.splitlines())
    assert any(line.startswith(CALLER) for line in done.stdout.splitlines())


def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    """Exit status 1, the address and why; no traceback."""
    done = run_top("--target", "127.0.0.1:1", "--once")

    assert done.returncode == 1
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
