"""Has 20,000 buyers press at once for 2,000 units of one SKU, on each front.

Owns: the figures of a rush: what everybody was answered, when the last answer came, what the server
took of memory and CPU; once with a connection for each buyer, once with their calls on few
connections, as a service in front of the ledger makes them. The load is
`core_rs/front/examples/rush.rs`. Through the order service the rush is `make run`. Run it as
`python -m bench.rush`; it fails if not exactly the units there are were held.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

import grpc
from rich.console import Console
from rich.table import Table

from bench import front, machine, stock
from bench.example import example
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub

ROOT = machine.ROOT
RESULTS = ROOT / "bench" / "results"
UNITS, BUYERS = 2_000, 20_000
# As a service in front would have: below the 1,024 calls that a connection may have open.
FEW_CONNECTIONS = 32
SPARE_FILES = 200
SAMPLE_SECONDS = 0.05
MEBIBYTE = 1024.0 * 1024.0
# Nobody is sent away: what is measured is the whole rush, not admission.
POLICY = """version = 1
[lanes.reservation]
rate_per_second = 1_000_000
burst = 1_000_000
calls_in_flight_max = 100_000
"""


def connections_max(buyers: int) -> int:
    """Lets this process and its children open files; returns how many connections that allows.

    One for each buyer where the machine lets a process have so many, else what it lets it have: the
    few buyers too many then share one.
    """
    wanted = buyers + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        except (ValueError, PermissionError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            wanted = hard
            print(f"bench: {hard:,} open files are allowed here (ulimit -Hn)", file=sys.stderr)
    return min(buyers, wanted - SPARE_FILES)


def supply(settlement_address: str) -> None:
    """Opens a sale of as many units as there are to be won."""
    by: dict[str, Any] = {"sale_id": stock.SALE, "actor": stock.ACTOR, "reason": stock.REASON}
    pool: dict[str, Any] = {**by, "sku": stock.SKU, "pool": stock.POOL}
    with grpc.insecure_channel(settlement_address) as channel:
        stub = StockAdminServiceStub(channel)
        stub.PutSale(admin.PutSaleRequest(request_id="sale", **by))
        stub.PutPool(admin.PutPoolRequest(request_id="pool", is_offered=True, **pool))
        stub.SupplyStock(admin.SupplyStockRequest(request_id="supply", units=UNITS, **pool))


def audit(settlement_address: str) -> admin.AuditResponse:
    """Asks the ledger to prove itself."""
    with grpc.insecure_channel(settlement_address) as channel:
        return StockAdminServiceStub(channel).Audit(admin.AuditRequest(), timeout=60)


class Memory:
    """The most that a process had in memory while the block ran, in bytes."""

    def __init__(self, pid: int) -> None:
        self.peak = 0.0
        self._path = Path(f"/proc/{pid}/statm")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def now(self) -> float:
        """Returns what it has now."""
        return int(self._path.read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))

    def _watch(self) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self.now())


def rush(door: str, buyers: int, connections: int) -> dict[str, Any]:
    """Starts a server, has everybody press, and asks it for an audit."""
    with tempfile.TemporaryDirectory(prefix="lastunit-rush-") as name:
        folder = Path(name)
        policy = folder / "policy.toml"
        policy.write_text(POLICY)
        most = buyers + SPARE_FILES
        flags = [*stock.server_flags(folder), "--policy", str(policy), "--log-level", "error"]
        for key in ("connections_max", "connections_per_address_max"):
            flags += ["--set", f"limits.{key}={most}"]
        command = [sys.executable, "-m", "lastunit_server", "serve", *flags]
        with front.started("lastunit", command) as server:
            addresses = server.addresses
            supply(addresses["settlement"])
            words = (addresses[door], str(buyers), str(connections), stock.SALE, stock.SKU)
            cpu = machine.cpu_seconds(server.pid)
            with Memory(server.pid) as memory:
                before = memory.now()
                done = subprocess.run([example("rush"), *words], check=True, stdout=subprocess.PIPE)
            found: dict[str, Any] = json.loads(done.stdout)
            proof = audit(addresses["settlement"])
            found |= {
                "buyers": buyers,
                "connections": connections,
                "server_cpu_us_a_buyer": 1e6 * (machine.cpu_seconds(server.pid) - cpu) / buyers,
                "memory_mib": {"before": before / MEBIBYTE, "peak": memory.peak / MEBIBYTE},
                "held": sum(pool.counters.held for pool in proof.pools),
                "holds": proof.holds,
            }
    return found


def is_right(found: dict[str, Any]) -> bool:
    """Whether everybody was answered, and exactly the units there are were won."""
    won = min(UNITS, found["buyers"])
    answers = {"OK": won, "SOLD_OUT": found["buyers"] - won}
    answers = {word: count for word, count in answers.items() if count}
    return bool(found["answers"] == answers and found["held"] == won and found["holds"])


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    table = Table(title=f"{UNITS:,} units of one SKU, everybody at once, durable")
    headings = ("front, connections", "buyers", "answers", "p50 ms", "p99 ms", "last ms")
    for heading in (*headings, "connected s", "CPU us a buyer", "MiB before", "at most"):
        table.add_column(heading, justify="left" if heading in headings[::2] else "right")
    for name, row in rows.items():
        answers = ", ".join(f"{word} {count:,}" for word, count in row["answers"].items())
        table.add_row(
            f"{name}, {row['connections']:,}",
            f"{row['buyers']:,}",
            answers,
            *(f"{row[key]:,.0f}" for key in ("p50_ms", "p99_ms", "last_ms")),
            f"{row['connect_seconds']:.1f}",
            f"{row['server_cpu_us_a_buyer']:.0f}",
            *(f"{row['memory_mib'][key]:,.0f}" for key in ("before", "peak")),
        )
    Console(width=150).print(table)


def main() -> None:
    """Measures both fronts, prints the table and writes the raw file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--buyers", type=int, default=BUYERS, help=f"default {BUYERS:,}")
    parser.add_argument("--front", choices=["native", "grpcio"], help="one of them alone")
    parser.add_argument("--output", type=Path, default=RESULTS / "rush.json")
    options = parser.parse_args()
    if not 1 <= options.buyers <= stock.UNITS_PER_SUPPLY:
        parser.error(f"--buyers is 1 to {stock.UNITS_PER_SUPPLY:,}")
    each = connections_max(options.buyers)
    rows: dict[str, dict[str, Any]] = {}
    for name, door in (("native", "native_data"), ("grpcio", "data")):
        for connections in (each, min(each, FEW_CONNECTIONS)):
            if options.front in {None, name}:
                print(f"{name}, {connections:,} connections", file=sys.stderr, flush=True)
                label = "one each" if connections == each else "few"
                rows[f"{name}, {label}"] = rush(door, options.buyers, connections)
    command = " ".join(["python -m bench.rush", f"--buyers {options.buyers}"])
    facts = machine.facts() | {"load_average": os.getloadavg()}
    record = {"machine": facts, "command": command, "units": UNITS, "rows": rows}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    show(rows)
    wrong = [name for name, row in rows.items() if not is_right(row)]
    if wrong:
        sys.exit(f"bench: not everybody was answered rightly: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
