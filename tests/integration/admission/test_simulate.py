"""Arrivals are recorded by a real server and decided again: a forecast is what then happens."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest
from tests.conformance.kit import Server, start_server

from lastunit.client.aio import Line, StockClient
from lastunit.errors import ShedError
from lastunit.stock.v1 import stock_admin_service_pb2 as pb
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from pathlib import Path

SALE: Final = "flash"
SKU: Final = "phone"
CALLERS: Final = ("app", "desk", "app")
LIVE: Final = """version = 1
[lanes.reservation]
rate_per_second = 60
burst = 60
[lanes.read]
rate_per_second = 40
burst = 40
[costs]
GetAvailability = 1
"""
# Stricter for reservations and by caller, wider for reads.
OTHER: Final = """version = 1
[lanes.reservation]
rate_per_second = 35
burst = 40
[lanes.read]
rate_per_second = 55
burst = 60
[callers.default]
rate_per_second = 50
burst = 60
[costs]
GetAvailability = 1
"""
# A tenth of what comes, and whoever finds no room waits a second at most.
PATIENT: Final = """version = 1
[lanes.reservation]
rate_per_second = 60
burst = 30
waiting_max = 1000
wait_max_ms = 1000
wait_target_ms = 1000
wait_interval_ms = 1000
"""
FORECAST_ERROR_MAX: Final = 0.05


def recording_server(directory: Path, document: str) -> Server:
    """Starts a server that records, with a policy."""
    directory.mkdir()
    policy = directory / "policy.toml"
    policy.write_text(document)
    return start_server(
        directory,
        *("--durability", "memory", "--policy", str(policy)),
        *("--set", f"arrivals.directory={directory / 'arrivals'}"),
    )


async def put_on_sale(client: StockClient) -> None:
    """Opens a sale with more phones than anybody asks for."""
    common: Any = {"actor": "tests", "reason": "set-up", "sale_id": SALE}
    sale = pb.PutSaleRequest(request_id="sale", **common)
    sale.opens_time.FromSeconds(1)
    await client.admin.put_sale(sale)
    pool = pb.PutPoolRequest(request_id="pool", sku=SKU, pool="main", is_offered=True, **common)
    await client.admin.put_pool(pool)
    supply = pb.SupplyStockRequest(
        request_id="supply", sku=SKU, pool="main", units=100_000, **common
    )
    await client.admin.supply_stock(supply)


async def storm(server: Server, *, seconds: float, per_second: int) -> Counter[str]:
    """Calls open loop: each at its own time, whatever became of those before.

    Returns:
        How many of each lane were served.
    """
    clients = {
        name: StockClient(
            server.ready["data"], settlement_address=server.ready["settlement"], caller=name
        )
        for name in set(CALLERS)
    }
    await put_on_sale(clients["desk"])
    served: Counter[str] = Counter()

    async def one(number: int, at: float) -> None:
        await asyncio.sleep(at - time.monotonic())
        client = clients[CALLERS[number % len(CALLERS)]]
        lane = "settlement" if number % 20 == 7 else "read" if number % 2 else "reservation"
        try:
            if lane == "reservation":
                await client.reserve(
                    f"r{number}", sale_id=SALE, person_id=f"p{number}", lines=[Line(SKU, units=1)]
                )
            elif lane == "read":
                await client.get_availability(SALE, skus=[SKU])
            else:
                await client.release(f"release-{number}", reservation_id=f"r{number}")
            served[lane] += 1
        except ShedError:
            pass

    start = time.monotonic() + 0.1
    count = int(seconds * per_second)
    await asyncio.gather(*(one(number, start + number / per_second) for number in range(count)))
    for client in clients.values():
        await client.close()
    return served


async def unary_storm(server: Server, *, count: int, per_second: int) -> int:
    """Reserves open loop, each in a call of its own: operations of a batch never wait.

    Returns:
        How many were served.
    """
    async with StockClient(
        server.ready["data"], settlement_address=server.ready["settlement"], caller="desk"
    ) as client:
        await put_on_sale(client)
    start = time.monotonic() + 0.1
    async with grpc.aio.insecure_channel(server.ready["native_data"]) as channel:
        stub = StockServiceStub(channel)

        async def one(number: int) -> int:
            await asyncio.sleep(start + number / per_second - time.monotonic())
            request = stock.ReserveRequest(
                reservation_id=f"r{number}", person_id=f"p{number}", sale_id=SALE
            )
            request.lines.add(sku=SKU, units=1)
            try:
                await stub.Reserve(request, timeout=10)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017 - counted
                return 0
            return 1

        return sum(await asyncio.gather(*map(one, range(count))))


def simulate(arrivals: Path, *words: str) -> dict[str, Any]:
    """Runs `lastunit admission simulate --json`."""
    command = [sys.executable, "-m", "lastunit.cli", "admission", "simulate", str(arrivals)]
    done = subprocess.run(
        [*command, *words, "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def recorded(directory: Path, document: str, *, seconds: float) -> tuple[Path, Counter[str]]:
    """Records a storm; returns the recording and how many were served."""
    server = recording_server(directory, document)
    served = asyncio.run(storm(server, seconds=seconds, per_second=250))
    server.stop()
    return directory / "arrivals", served


def test_a_recording_tells_what_the_callers_were_told(tmp_path: Path) -> None:
    """Served and refused are those of the callers; the live policy decides nearly all again."""
    arrivals, served = recorded(tmp_path / "live", LIVE, seconds=2)
    live = tmp_path / "live" / "policy.toml"
    result = simulate(arrivals, "--policy", str(live), "--against", str(live))

    for lane, count in served.items():
        assert result["lanes"][lane]["live"]["served_count"] == count
    assert result["lanes"]["reservation"]["live"]["refused_count"] > 0
    assert result["reproduced_share"] > 0.95
    assert (result["dropped_count"], result["damaged_bytes"]) == (0, 0)
    assert [row["caller"] for row in result["callers"]] == ["app", "desk"]


def test_waits_are_recorded_and_forecast(tmp_path: Path) -> None:
    """Who waited live is told of, and waits as long again; without waiting they are refused."""
    server = recording_server(tmp_path / "live", PATIENT)
    served = asyncio.run(unary_storm(server, count=240, per_second=120))
    server.stop()
    arrivals = tmp_path / "live" / "arrivals"
    live, strict = tmp_path / "live" / "policy.toml", tmp_path / "strict.toml"
    strict.write_text("\n".join(PATIENT.splitlines()[:4]))
    patient = simulate(arrivals, "--policy", str(live))["lanes"]["reservation"]
    refused = simulate(arrivals, "--policy", str(strict))["lanes"]["reservation"]
    told, real = patient["forecast"], patient["live"]

    assert real["served_count"] == served
    assert real["waited_count"] > 50
    assert 100 < real["wait_ms_mean"] < real["wait_ms_max"] < 2_000
    # A server that stood still for a moment served fewer than its policy allows.
    for count, error_max in (("served_count", 0.25), ("waited_count", 0.25), ("wait_ms_mean", 0.5)):
        assert abs(told[count] - real[count]) <= error_max * real[count], count
    assert (refused["forecast"]["waited_count"], told["wait_ms_max"] > 0) == (0, True)
    assert refused["forecast"]["served_count"] < real["served_count"]


def test_what_cannot_be_replayed_is_told(tmp_path: Path) -> None:
    """No recording, a policy with a mistake, bytes that are none: one line each, exit status 2."""
    (tmp_path / "wrong.toml").write_text("version = 1\n[lanes.fast]\n")
    (tmp_path / "right.toml").write_text("version = 1\n")
    noise = tmp_path / "arrivals-0000000001.blocks"
    noise.write_bytes(b"noise" * 100)
    for recording, policy, words in (
        (tmp_path / "none", "right.toml", "holds no recording"),
        (noise, "wrong.toml", "line 2: lanes.fast"),
        (tmp_path, "right.toml", "nothing that can be read"),
        (noise, "missing.toml", "can't be read"),
    ):
        command = [sys.executable, "-m", "lastunit_server", "simulate", str(recording)]
        command += ["--policy", str(tmp_path / policy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_forecast_is_what_then_happens(tmp_path: Path) -> None:
    """The same schedule, run for real against the other policy, is within 5 % in every lane."""
    arrivals, _served = recorded(tmp_path / "live", LIVE, seconds=20)
    other = tmp_path / "other.toml"
    other.write_text(OTHER)
    forecast = simulate(arrivals, "--policy", str(other))
    again, served = recorded(tmp_path / "other", OTHER, seconds=20)
    happened = simulate(again, "--policy", str(other))

    for lane in ("reservation", "read", "settlement"):
        told, real = forecast["lanes"][lane]["forecast"], happened["lanes"][lane]["live"]
        assert real["served_count"] == served[lane]
        for count in ("served_count", "refused_count"):
            error = abs(told[count] - real[count]) / max(real[count], 1)
            said = f"{lane} {count}: forecast {told[count]}, then {real[count]}: {error:.2%}\n"
            sys.stderr.write(said)
            assert error <= FORECAST_ERROR_MAX, said
    changed = forecast["lanes"]["reservation"]
    assert changed["newly_refused_count"] > 100, "the policies differ"
