"""Measures settlement calls on their own listener while a flood of reservations is in flight.

Owns: the figure "settlement p99 under a flood of 512". The flood is closed-loop (so many Reserve
calls always in flight, each for a new person), from processes of their own; settlement is open-loop
at a stated rate, and its latency counts from the moment a call was due, so a stall can't hide.
Run it as `python -m bench.settlement_under_flood`; `--in-flight 0` gives the quiet line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from rich.console import Console
from rich.table import Table

from bench import machine, stock
from lastunit.stock.v1 import outcome_pb2
from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_service_pb2 as messages
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

RESULTS = machine.ROOT / "bench" / "results"
RESERVE = "/lastunit.stock.v1.StockService/Reserve"
# The flood runs before settlement begins and until it has ended, so that no call meets a ramp.
LEAD_SECONDS = 3.0
CALL_SECONDS_MAX = 10.0
OPERATIONS_PER_MESSAGE = 500
# Threads that wait for settlement replies; more than rate times the worst second.
WAITING_THREADS = 64
# Counters of the journal's flushes: how many, of how many events, in how many microseconds.
FLUSH_METRICS = (
    "lastunit_journal_flush_seconds_count",
    "lastunit_journal_flushed_events_total",
    "lastunit_journal_flush_seconds_sum",
)
PERCENTILES = (50, 90, 99, 99.9, 100)
COLUMNS = ("flood", "flood/s", "settled", "refused", "flush")


@dataclass
class Latencies:
    """Seconds of each call that succeeded, and how many failed with which code."""

    seconds: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)

    def facts(self) -> dict[str, Any]:
        """Returns counts and percentiles in milliseconds."""
        ordered = sorted(self.seconds)
        facts: dict[str, Any] = {"calls": len(ordered), "failures": dict(self.failures)}
        for percent in PERCENTILES:
            index = min(len(ordered) - 1, int(len(ordered) * percent / 100))
            facts[f"p{percent:g}_ms"] = round(ordered[index] * 1000, 2) if ordered else None
        return facts


async def flood(address: str, in_flight: int, connections: int, seconds: float) -> Latencies:
    """Keeps so many Reserve calls in flight for so long."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
    calls: list[Any] = [channel.unary_unary(RESERVE) for channel in channels]
    found = Latencies()
    end = time.monotonic() + seconds

    async def one_caller(call: Any) -> None:
        while (begin := time.monotonic()) < end:
            try:
                await call(reserve_bytes(), timeout=CALL_SECONDS_MAX)
                found.seconds.append(time.monotonic() - begin)
            except grpc.aio.AioRpcError as error:
                found.failures[error.code().name] += 1

    await asyncio.gather(*(one_caller(calls[i % connections]) for i in range(in_flight)))
    for channel in channels:
        await channel.close()
    return found


def reserve_bytes() -> bytes:
    """Returns a Reserve of one unit for a new person under a new id."""
    request = messages.ReserveRequest(
        reservation_id=uuid.uuid4().hex,
        sale_id=stock.SALE,
        person_id=uuid.uuid4().hex,
        lines=[reservation.Line(sku=stock.SKU, units=1)],
    )
    return bytes(request.SerializeToString())


def prepare(
    data_address: str, count: int, not_after_seconds: float | None = None
) -> list[messages.SettlePaymentRequest]:
    """Brings reservations into PAYING and returns one payment fact for each.

    Args:
        data_address: Of the ledger.
        count: How many.
        not_after_seconds: From now; a sale that forgets wants to be told.
    """
    facts = []
    operations = []
    not_after_ms = round((time.time() + not_after_seconds) * 1000) if not_after_seconds else None
    for _ in range(count):
        reservation_id, attempt_id = uuid.uuid4().hex, uuid.uuid4().hex
        request = messages.ReserveRequest.FromString(reserve_bytes())
        request.reservation_id = reservation_id
        if not_after_ms:
            request.not_after_time.FromMilliseconds(not_after_ms)
        begin = messages.BeginPaymentRequest(reservation_id=reservation_id, attempt_id=attempt_id)
        operations += [messages.Operation(reserve=request), messages.Operation(begin_payment=begin)]
        facts.append(
            messages.SettlePaymentRequest(
                request_id=uuid.uuid4().hex,
                reservation_id=reservation_id,
                attempt_id=attempt_id,
                payment_result=reservation.PAYMENT_RESULT_SUCCEEDED,
            )
        )
    with grpc.insecure_channel(data_address) as channel:
        # One message after the other, slowly: this is not what is measured.
        for begin_at in range(0, len(operations), OPERATIONS_PER_MESSAGE):
            part = operations[begin_at : begin_at + OPERATIONS_PER_MESSAGE]
            message = messages.ExchangeRequest(operations=part)
            [response] = StockServiceStub(channel).Exchange(iter([message]), timeout=30)
            assert all(is_ok(reply) for reply in response.replies), response
            time.sleep(0.05)
    return facts


def is_ok(reply: messages.Reply) -> bool:
    """Whether an operation was done: no fault and no refusal."""
    kind = reply.WhichOneof("response")
    if kind in {None, "fault"}:
        return False
    return bool(getattr(reply, kind).result.outcome == outcome_pb2.OUTCOME_OK)


def settle(address: str, facts: list[messages.SettlePaymentRequest], rate: float) -> Latencies:
    """Reports payment facts at a fixed rate; latency counts from when each was due."""
    found = Latencies()
    with (
        grpc.insecure_channel(address) as channel,
        ThreadPoolExecutor(WAITING_THREADS) as threads,
    ):
        stub = StockServiceStub(channel)
        grpc.channel_ready_future(channel).result(CALL_SECONDS_MAX)

        def one(fact: messages.SettlePaymentRequest, due: float) -> None:
            try:
                reply = stub.SettlePayment(fact, timeout=CALL_SECONDS_MAX)
            except grpc.RpcError as error:
                code = error.code() if isinstance(error, grpc.Call) else None
                found.failures[code.name if code else "UNKNOWN"] += 1
                return
            if reply.result.state != reservation.STATE_CONFIRMED:
                found.failures[f"OUTCOME_{reply.result.outcome}"] += 1
            found.seconds.append(time.monotonic() - due)

        begin = time.monotonic()
        for number, fact in enumerate(facts):
            due = begin + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            threads.submit(one, fact, due)
    return found


def measure(arguments: argparse.Namespace, in_flight: int) -> dict[str, Any]:
    """Runs one server, one flood and one line of settlement calls."""
    with tempfile.TemporaryDirectory(prefix="lastunit-flood-") as folder:
        command = [sys.executable, "-m", "lastunit_server", "serve"]
        server = subprocess.Popen(
            [
                *command,
                *stock.server_flags(Path(folder)),
                *("--metrics-address", "127.0.0.1:0"),
                *arguments.server_flag,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=machine.ROOT,
        )
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            return measure_server(arguments, in_flight, ready, server.pid)
        finally:
            server.terminate()
            server.wait(30)


def measure_server(
    arguments: argparse.Namespace, in_flight: int, ready: dict[str, Any], pid: int
) -> dict[str, Any]:
    """Measures a server that is up."""
    stock.supply(ready["settlement"])
    facts = prepare(ready["data"], int(arguments.rate * arguments.seconds))
    floods = start_floods(arguments, in_flight, ready["data"])
    time.sleep(LEAD_SECONDS)
    cpu, flushes = machine.cpu_seconds(pid), flush_counters(ready["metrics"])
    settled = settle(ready["settlement"], facts, arguments.rate)
    cpu = machine.cpu_seconds(pid) - cpu
    after = flush_counters(ready["metrics"])
    count, events, seconds = (after[name] - flushes[name] for name in FLUSH_METRICS)
    flooded = [json.loads(process.communicate()[0]) for process in floods]
    return {
        "in_flight": in_flight,
        "settlement": settled.facts(),
        "flood": flooded,
        "flood_calls_per_second": round(sum(part["calls_per_second"] for part in flooded), 1),
        "server_cpu_share": round(cpu / arguments.seconds, 2),
        "flush_mean_ms": round(seconds / max(count, 1) * 1000, 2),
        "events_per_flush": round(events / max(count, 1), 1),
    }


def flush_counters(address: str) -> dict[str, float]:
    """Reads the journal's counters from the server's metrics."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(values[name]) for name in FLUSH_METRICS}


def start_floods(
    arguments: argparse.Namespace, in_flight: int, address: str
) -> list[subprocess.Popen[str]]:
    """Starts the processes that share the flood."""
    if not in_flight:
        return []
    seconds = LEAD_SECONDS + arguments.seconds + 1
    command = [sys.executable, "-m", "bench.settlement_under_flood", "--flood-target", address]
    each = [
        *command,
        *("--in-flight", str(in_flight // arguments.processes)),
        *("--connections", str(arguments.connections), "--seconds", str(seconds)),
    ]
    return [
        subprocess.Popen(each, stdout=subprocess.PIPE, text=True, cwd=machine.ROOT)
        for _ in range(arguments.processes)
    ]


def run_flood(arguments: argparse.Namespace) -> None:
    """Is the flood process: prints its figures as one JSON line."""
    found = asyncio.run(
        flood(
            arguments.flood_target,
            arguments.in_flight,
            arguments.connections,
            arguments.seconds,
        )
    )
    per_second = round(len(found.seconds) / arguments.seconds, 1)
    print(json.dumps({**found.facts(), "calls_per_second": per_second}))


def show(runs: list[dict[str, Any]]) -> None:
    """Prints one row a run."""
    table = Table(title="settlement on its own listener, milliseconds")
    for name in (*COLUMNS, *(f"p{percent:g}" for percent in PERCENTILES)):
        table.add_column(name, justify="right")
    for run in runs:
        settled = run["settlement"]
        table.add_row(
            str(run["in_flight"]),
            f"{run['flood_calls_per_second']:.0f}",
            str(settled["calls"]),
            str(sum(settled["failures"].values())),
            str(run["flush_mean_ms"]),
            *(str(settled[f"p{percent:g}_ms"]) for percent in PERCENTILES),
        )
    Console().print(table)


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=512, help="Reserve calls at once")
    parser.add_argument("--connections", type=int, default=1, help="connections of each process")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the flood")
    parser.add_argument("--rate", type=float, default=50.0, help="settlement calls a second")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--server-flag", action="append", default=[], help="passed to the server")
    parser.add_argument("--no-quiet-run", action="store_true", help="leave out the run unflooded")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    parser.add_argument("--save", action="store_true", help="keep the raw file in bench/results")
    parser.add_argument("--flood-target", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Runs the quiet line and the flooded runs, prints and keeps the figures."""
    arguments = parse()
    if arguments.flood_target:
        run_flood(arguments)
        return
    loads = [] if arguments.no_quiet_run else [0]
    runs = [measure(arguments, load) for load in loads + [arguments.in_flight] * arguments.runs]
    result = {
        "machine": machine.facts(),
        "command": sys.argv,
        "load": "open-loop settlement, closed-loop flood",
        "runs": runs,
    }
    if arguments.save:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"settlement-under-flood-{stamp}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.json:
        print(json.dumps(result))
    else:
        show(runs)


if __name__ == "__main__":
    main()
