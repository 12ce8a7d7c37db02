"""Measures durable Reserve through the grpcio front beside an empty gRPC call, with ghz.

Owns: `make bench`. Both servers run in the same session, one after the other in each round, so
that drift of a noisy machine hits both. What survives the noise is the server's CPU per call.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from bench import ghz, machine, stock

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = machine.ROOT / "bench" / "results"
RESERVE = "lastunit.stock.v1.StockService.Reserve"
EXCHANGE = "lastunit.stock.v1.StockService.Exchange"
OPERATIONS_PER_MESSAGE = 64
MESSAGES_PER_STREAM = 4


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server under load: its process, and the addresses its ready line told."""

    name: str
    pid: int
    addresses: dict[str, str]


@contextmanager
def started(name: str, command: list[str]) -> Iterator[Server]:
    """Starts a server, waits for its ready line, and stops it at the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=machine.ROOT)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            sys.exit(f"bench: {name} did not start; run `{' '.join(command)}` to see why")
        yield Server(name=name, pid=process.pid, addresses=json.loads(line))
    finally:
        process.terminate()
        process.wait(timeout=30)


def loads(calls: int) -> list[tuple[str, ghz.Load, int]]:
    """Returns (label, load, operations a call) of each shape."""
    operation = {"reserve": stock.reserve_message()}
    message = {"exchange_id": 1, "operations": [operation] * OPERATIONS_PER_MESSAGE}
    streams = max(1, calls // (OPERATIONS_PER_MESSAGE * MESSAGES_PER_STREAM))
    unary = [
        (
            f"Reserve, {concurrency} in flight",
            ghz.Load(
                call=RESERVE, data=stock.reserve_message(), total=calls, concurrency=concurrency
            ),
            1,
        )
        for concurrency in (1, 64, 512)
    ]
    exchange = ghz.Load(
        call=EXCHANGE, data=[message] * MESSAGES_PER_STREAM, total=streams, concurrency=8
    )
    label = f"Exchange, {OPERATIONS_PER_MESSAGE} operations a message, 8 streams"
    return [*unary, (label, exchange, OPERATIONS_PER_MESSAGE * MESSAGES_PER_STREAM)]


def measure(
    server: Server, load: ghz.Load, operations: int, protoset: Path, *, status: str = "OK"
) -> dict[str, float]:
    """Runs one load on one server and returns its figures; ends if calls end otherwise.

    Of refusals one in a hundred may be none: a bucket fills while it is measured.
    """
    before = machine.cpu_seconds(server.pid)
    report = ghz.run(load, address=server.addresses["data"], protoset=protoset)
    used = machine.cpu_seconds(server.pid) - before
    done = report["statusCodeDistribution"].get(status, 0)
    if done < load.total * (1 if status == "OK" else 0.99):
        found = report["statusCodeDistribution"]
        sys.exit(f"bench: {server.name}: not every call ended as {status}: {found}")
    return {
        "operations_per_second": report["rps"] * operations,
        "p50_ms": ghz.percentile_ms(report, 50),
        "p99_ms": ghz.percentile_ms(report, 99),
        "cpu_us_per_operation": used * 1e6 / (done * operations),
    }


def spread(rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Returns min, median and max of each figure over the runs."""
    return {
        key: {
            "min": min(row[key] for row in rows),
            "median": median(row[key] for row in rows),
            "max": max(row[key] for row in rows),
        }
        for key in rows[0]
    }


def run_all(calls: int, runs: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Runs every load on both servers `runs` times; returns label → server → figures."""
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory(prefix="lastunit-bench-") as folder:
        protoset = Path(folder) / "contract.binpb"
        stock.write_protoset(protoset)
        bin_folder = Path(sys.executable).parent
        ledger_command = [str(bin_folder / "lastunit-server"), "serve"]
        ledger_command += stock.server_flags(Path(folder))
        empty_command = [sys.executable, str(Path(__file__).parent / "empty_server.py")]
        with (
            started("empty call", empty_command) as empty,
            started("lastunit", ledger_command) as ledger,
        ):
            stock.supply(ledger.addresses["settlement"])
            for run in range(runs):
                for label, load, operations in loads(calls):
                    for server in (empty, ledger):
                        note = f"run {run + 1} of {runs}: {label}: {server.name}"
                        print(note, file=sys.stderr, flush=True)
                        row = measure(server, load, operations, protoset)
                        figures.setdefault(label, {}).setdefault(server.name, []).append(row)
    return figures


def show(figures: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Prints the medians as a table, with the ratio of CPU per operation to the empty call."""
    table = Table(title="median of the runs; CPU is the server's, per operation")
    for heading in ("load", "server", "operations/s", "p50 ms", "p99 ms", "CPU us", "CPU ratio"):
        table.add_column(heading, justify="left" if heading in ("load", "server") else "right")
    for label, servers in figures.items():
        floor = spread(servers["empty call"])["cpu_us_per_operation"]["median"]
        for name, rows in servers.items():
            row = {key: values["median"] for key, values in spread(rows).items()}
            table.add_row(
                label,
                name,
                f"{row['operations_per_second']:,.0f}",
                f"{row['p50_ms']:.2f}",
                f"{row['p99_ms']:.2f}",
                f"{row['cpu_us_per_operation']:.1f}",
                f"{row['cpu_us_per_operation'] / floor:.2f}",
            )
    Console(width=140).print(table)


def main() -> None:
    """Measures, prints the table and writes the raw file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=6000, help="calls a load (default 6000)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each load (default 3)")
    parser.add_argument("--output", type=Path, default=RESULTS / "front.json", help="raw file")
    options = parser.parse_args()
    figures = run_all(options.calls, options.runs)
    summary = {
        label: {name: spread(rows) for name, rows in servers.items()}
        for label, servers in figures.items()
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m bench.front --calls {options.calls} --runs {options.runs}"
    record = {"machine": machine.facts(), "command": command, "summary": summary, "runs": figures}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    show(figures)
    print(f"raw figures: {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
