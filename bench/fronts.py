"""Measures both fronts of one durable server, each beside an empty call of its own kind.

Owns: `python -m bench.fronts`. What survives a noisy machine is the server's CPU per call or pair,
user and system, read before and after each load; every server of a row runs in the same
round. A pair is a Reserve and the Confirm of that reservation. A refusal is measured twice: as the
outcome SOLD_OUT, and as a status of admission, on a second server whose policy lets nobody in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from rich.console import Console
from rich.table import Table

from bench import front, ghz, machine, stock
from bench.example import example
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

Rows = list[dict[str, float]]
PAIRS_PER_MESSAGE = (1, 8, 128, 2048)
CONCURRENCIES = (1, 64, 512)
# What a flood does to whoever comes too late.
REFUSAL_CONCURRENCY = 64
SOLD_OUT_SKU = "gone"
STRICT_POLICY = "version = 1\n[lanes.reservation]\nrate_per_second = 0.001\nburst = 1\n"
SHED = "shed by admission"
STREAMS = 4
MESSAGES_PER_STREAM = 4
EMPTY, OURS = ("empty grpcio", "empty tonic"), ("lastunit grpcio", "lastunit native")


def pair_messages(pairs: int, run: str) -> list[dict[str, object]]:
    """Returns the messages of one stream: each pair's Reserve, then its Confirm."""
    messages: list[dict[str, object]] = []
    for number in range(MESSAGES_PER_STREAM):
        operations: list[dict[str, object]] = []
        for pair in range(pairs):
            name = f"{run}-{{{{.RequestNumber}}}}-{number}-{pair}"
            reserve = stock.reserve_message() | {"reservation_id": name, "person_id": name}
            confirm = {"request_id": f"c-{name}", "reservation_id": name}
            operations += [{"reserve": reserve}, {"confirm": confirm}]
        messages.append({"exchange_id": number + 1, "operations": operations})
    return messages


def stock_nothing(settlement_address: str) -> None:
    """Offers a sku of which there is nothing."""
    with grpc.insecure_channel(settlement_address) as channel:
        request = admin.PutPoolRequest(
            request_id="pool-of-nothing",
            sale_id=stock.SALE,
            sku=SOLD_OUT_SKU,
            pool=stock.POOL,
            is_offered=True,
            actor=stock.ACTOR,
            reason=stock.REASON,
        )
        StockAdminServiceStub(channel).PutPool(request)


def reserve_load(calls: int, concurrency: int, sku: str = stock.SKU) -> ghz.Load:
    """Returns a load of single Reserve calls."""
    data = stock.reserve_message() | {"lines": [{"sku": sku, "units": 1}]}
    return ghz.Load(call=front.RESERVE, data=data, total=calls, concurrency=concurrency)


def loads(calls: int, pairs: int) -> Iterator[tuple[str, ghz.Load, int]]:
    """Yields label, load, and calls or pairs of one ghz call."""
    for concurrency in CONCURRENCIES:
        load = reserve_load(calls, concurrency)
        yield f"Reserve, {concurrency} in flight, per call", load, 1
    refused = reserve_load(calls, REFUSAL_CONCURRENCY, SOLD_OUT_SKU)
    yield f"Reserve, sold out, {REFUSAL_CONCURRENCY} in flight, per call", refused, 1
    for per_message in PAIRS_PER_MESSAGE:
        each = per_message * MESSAGES_PER_STREAM
        load = ghz.Load(
            call=front.EXCHANGE,
            data=pair_messages(per_message, uuid.uuid4().hex[:8]),
            total=max(STREAMS, pairs // each),
            concurrency=STREAMS,
        )
        yield f"Exchange, {2 * per_message} operations a message, per pair", load, each


def run_all(calls: int, pairs: int, runs: int) -> dict[str, dict[str, Rows]]:
    """Runs every load on every server `runs` times; returns label → server → figures."""
    figures: dict[str, dict[str, Rows]] = {}
    with tempfile.TemporaryDirectory(prefix="lastunit-bench-") as folder:
        protoset = Path(folder) / "contract.binpb"
        stock.write_protoset(protoset)
        serve_command = [sys.executable, "-m", "lastunit_server", "serve"]
        ledger_command = serve_command + stock.server_flags(Path(folder))
        empty_command = [sys.executable, str(Path(__file__).parent / "empty_server.py")]
        policy = Path(folder) / "strict.toml"
        policy.write_text(STRICT_POLICY)
        strict_command = serve_command + stock.server_flags(Path(folder) / "strict")
        strict_command += ["--policy", str(policy)]
        with (
            front.started(EMPTY[0], empty_command) as grpcio,
            front.started(EMPTY[1], [example("echo")]) as tonic,
            front.started(OURS[0], ledger_command) as ours,
            front.started(OURS[0], strict_command) as strict,
        ):
            stock.supply(ours.addresses["settlement"])
            stock_nothing(ours.addresses["settlement"])

            def measured(
                server: front.Server, label: str, load: ghz.Load, each: int, status: str
            ) -> None:
                print(f"{label}: {server.name}", file=sys.stderr, flush=True)
                row = front.measure(server, load, each, protoset, status=status)
                figures.setdefault(label, {}).setdefault(server.name, []).append(row)

            refusal = reserve_load(calls, REFUSAL_CONCURRENCY)
            label = f"Reserve, {SHED}, {REFUSAL_CONCURRENCY} in flight, per call"
            for run in range(runs):
                print(f"run {run + 1} of {runs}", file=sys.stderr, flush=True)
                for server in (grpcio, ours, tonic, native_of(ours)):
                    # Made anew for each, so that no id comes twice to the ledger.
                    for shown, load, each in loads(calls, pairs):
                        measured(server, shown, load, each, "OK")
                for server in (grpcio, strict, tonic, native_of(strict)):
                    is_ours = server.name in OURS
                    measured(server, label, refusal, 1, "ResourceExhausted" if is_ours else "OK")
    return figures


def native_of(server: front.Server) -> front.Server:
    """Returns the native front of a server."""
    addresses = {"data": server.addresses["native_data"]}
    return front.Server(name=OURS[1], pid=server.pid, addresses=addresses)


def show(figures: dict[str, dict[str, Rows]]) -> None:
    """Prints the medians with the ratio of CPU to the empty call of the same kind."""
    table = Table(title="median of the runs; CPU is the server's, user and system")
    for heading in ("load", "server", "a second", "p50 ms", "p99 ms", "CPU us", "to empty"):
        table.add_column(heading, justify="left" if heading in ("load", "server") else "right")
    for label, servers in figures.items():
        medians = {name: front.spread(rows) for name, rows in servers.items()}
        for name, row in medians.items():
            empty = medians[EMPTY["native" in name or "tonic" in name]]
            cpu = row["cpu_us_per_operation"]["median"]
            table.add_row(
                label,
                name,
                f"{row['operations_per_second']['median']:,.0f}",
                f"{row['p50_ms']['median']:.2f}",
                f"{row['p99_ms']['median']:.2f}",
                f"{cpu:.1f}",
                f"{cpu / empty['cpu_us_per_operation']['median']:.2f}",
            )
    Console(width=140).print(table)


def main() -> None:
    """Measures, prints the table and writes the raw file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=6000, help="unary calls a load")
    parser.add_argument("--pairs", type=int, default=60_000, help="pairs a load of Exchange")
    parser.add_argument("--runs", type=int, default=3, help="runs of each load")
    parser.add_argument("--output", type=Path, default=front.RESULTS / "fronts.json")
    options = parser.parse_args()
    figures = run_all(options.calls, options.pairs, options.runs)
    summary = {
        label: {name: front.spread(rows) for name, rows in servers.items()}
        for label, servers in figures.items()
    }
    command = " ".join(["python -m bench.fronts", *sys.argv[1:]])
    facts = machine.facts() | {"load_average": os.getloadavg()}
    record = {"machine": facts, "command": command, "summary": summary, "runs": figures}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    show(figures)
    print(f"raw figures: {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
