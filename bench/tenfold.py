"""Offers ten times the admitted budget through each door, open-loop, and shows what comes of it.

Owns the table "goodput, settlement, memory and CPU under ten times the budget": the grpcio and the
native data listener with single calls, and Exchange streams over both; with callers of the client
library and with hostile ones that ignore push-back (for single calls the example
`core_rs/front/examples/flood.rs`, which takes a small part of a core). Each row has a server of its
own and three phases with the same settlement beside, on both settlement listeners: nothing else,
nine tenths of the budget, ten times the budget. Server and settlement share one core and the
callers have another, as theirs would be other machines. What accepting and refusing cost is the
difference of the server's CPU between them. The sales forget what ended after seconds, so memory
has a level to be flat at.
Run it as `python -m bench.tenfold --seconds 600` (two hours); `--only native` takes rows by name.
Next: `tenfold_callers`.
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
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import duration_pb2
from rich.console import Console
from rich.table import Table

from bench import front, machine, stock
from bench.example import example
from bench.settlement_under_flood import prepare, settle
from bench.tenfold_callers import SALE, SKU
from lastunit.admission.v1 import admission_service_pb2 as admission
from lastunit.admission.v1.admission_service_pb2_grpc import AdmissionServiceStub
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

RESULTS = machine.ROOT / "bench" / "results"
TENFOLD = 10.0
FITTING = 0.9
# Of one core, as the open-loop trials pinned the design found it: beyond, answers come too late.
USABLE_CORE_SHARE = 0.6
# On each of the two listeners.
SETTLED_PER_SECOND = 20.0
SETTLEMENT_LISTENERS = ("settlement", "native_settlement")
SERVER_CORE, CALLERS_CORE = 0, 1
CALM_SECONDS_MAX = 30.0
FORGET_SECONDS = 10
# Long enough to prepare the settlement of ten minutes.
SETTLED_FORGET_SECONDS = 60
MEMORY_SKIP_SHARE = 0.25
# Callers that need more of their core are late by themselves.
CALLERS_CORE_MAX = 0.8
SUPPLIES = 8
MEBIBYTE = 1024.0 * 1024.0
FLOOD_CONNECTIONS = 4


@dataclass(frozen=True)
class Row:
    """One door with one kind of callers.

    Attributes:
        name: In the result.
        door: Key of its address in the server's ready line.
        kind: Of callers: `flood`, or one of `tenfold_callers`.
        budget: Reservations a second that the policy lets in.
    """

    name: str
    door: str
    kind: str
    budget: float


ROWS = (
    Row("grpcio data, library", "data", "library", 50),
    Row("grpcio data, hostile", "data", "flood", 50),
    Row("native data, library", "native_data", "library", 50),
    Row("native data, hostile", "native_data", "flood", 150),
    Row("Exchange on grpcio, library", "data", "library-exchange", 200),
    Row("Exchange on grpcio, hostile", "data", "hostile-exchange", 1_000),
    Row("Exchange on native, library", "native_data", "library-exchange", 200),
    Row("Exchange on native, hostile", "native_data", "hostile-exchange", 1_000),
)


@dataclass
class Samples:
    """What was seen of the server during a phase, once a second."""

    resident_bytes: list[float] = field(default_factory=list)
    in_flight: list[float] = field(default_factory=list)
    open_calls: list[float] = field(default_factory=list)


class Watched:
    """A server that is looked at."""

    def __init__(self, pid: int, ready: dict[str, Any]) -> None:
        self.pid, self.ready = pid, ready

    def cpu(self) -> float:
        """Returns the CPU seconds that it has used."""
        return machine.cpu_seconds(self.pid)

    @contextmanager
    def sampling(self) -> Iterator[Samples]:
        """Looks at memory and what is in flight while the block runs."""
        samples, is_over = Samples(), threading.Event()

        def look() -> None:
            while not is_over.wait(1.0):
                self._look(samples)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield samples
        finally:
            is_over.set()
            thread.join()

    def _look(self, samples: Samples) -> None:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        samples.resident_bytes.append(pages * 4096.0)
        address = self.ready["metrics"]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        for line in lines:
            if line.startswith('lastunit_admission_in_flight{lane="reservation"}'):
                samples.in_flight.append(float(line.rsplit(" ", 1)[1]))
        calls = [line for line in lines if line.startswith("lastunit_listener_open_calls{")]
        samples.open_calls.append(sum(float(line.rsplit(" ", 1)[1]) for line in calls))


@contextmanager
def served(folder: Path) -> Iterator[Watched]:
    """Starts a server with its metrics and both sales."""
    command = [sys.executable, "-m", "lastunit_server", "serve", *stock.server_flags(folder)]
    command += ["--metrics-address", "127.0.0.1:0", "--log-level", "error"]
    with front.started("lastunit", command) as server:
        stock.supply(server.addresses["settlement"], forgetting(600, SETTLED_FORGET_SECONDS))
        open_flood_sale(server.addresses["settlement"])
        yield Watched(server.pid, server.addresses)


def open_flood_sale(settlement_address: str) -> None:
    """Opens a sale that forgets: what it sold is of the past within seconds."""
    policy = forgetting(FORGET_SECONDS // 2, FORGET_SECONDS)
    who: Any = {"sale_id": SALE, "actor": stock.ACTOR, "reason": stock.REASON}
    pool: Any = {**who, "sku": SKU, "pool": stock.POOL}
    with grpc.insecure_channel(settlement_address) as channel:
        stub = StockAdminServiceStub(channel)
        stub.PutSale(admin.PutSaleRequest(request_id="flood-sale", policy=policy, **who))
        stub.PutPool(admin.PutPoolRequest(request_id="flood-pool", is_offered=True, **pool))
        for number in range(SUPPLIES):
            stub.SupplyStock(
                admin.SupplyStockRequest(
                    request_id=f"flood-{number}", units=stock.UNITS_PER_SUPPLY, **pool
                )
            )


def forgetting(life_seconds: int, forget_seconds: int) -> sale_pb2.SalePolicy:
    """Returns the policy of a sale that forgets what ended, so that memory has a level."""
    span = duration_pb2.Duration
    return sale_pb2.SalePolicy(
        reservation_ttl=span(seconds=life_seconds),
        settle_by=span(seconds=2 * life_seconds),
        max_life=span(seconds=3 * life_seconds),
        retry_grace=span(seconds=1),
        forget_after=span(seconds=forget_seconds),
        does_forget_while_open=True,
    )


def put_budget(settlement_address: str, budget: float) -> None:
    """Lets so many reservations in."""
    burst = max(1, round(budget / 10))
    document = f"version = 1\n[lanes.reservation]\nrate_per_second = {budget}\nburst = {burst}\n"
    request = admission.PutPolicyRequest(document=document, actor=stock.ACTOR, reason=stock.REASON)
    with grpc.insecure_channel(settlement_address) as channel:
        AdmissionServiceStub(channel).PutPolicy(request)


def caller_command(row: Row, address: str, rate: float, seconds: float) -> list[str]:
    """Returns the command of the callers of a row."""
    pinned = ("taskset", "-c", str(CALLERS_CORE))
    if row.kind == "flood":
        load = (address, str(rate), str(seconds), str(FLOOD_CONNECTIONS), SALE, SKU)
        return [*pinned, example("flood"), *load]
    own = [*pinned, sys.executable, "-m", "bench.tenfold_callers", row.kind]
    return [*own, address, str(rate), str(seconds)]


@dataclass
class Phase:
    """What came of one phase."""

    seconds: float
    cpu_seconds: float
    callers_cpu_seconds: float
    settlement: dict[str, dict[str, Any]]
    calls: dict[str, Any]
    samples: Samples


def run_phase(row: Row, server: Watched, facts: list[Any], rate: float, seconds: float) -> Phase:
    """Runs callers at a rate, none at 0, beside settlement."""
    ready = server.ready
    # First of all: the first time it builds the callers.
    command = caller_command(row, ready[row.door], rate, seconds)
    begun, cpu, callers_cpu = time.monotonic(), server.cpu(), callers_cpu_seconds()
    callers = None
    with server.sampling() as samples:
        if rate:
            callers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=machine.ROOT)
        settlement = settle_everywhere(ready, facts)
        output = callers.communicate()[0] if callers else ""
    if callers and callers.returncode:
        sys.exit(f"bench: the callers failed: {' '.join(command)}")
    return Phase(
        seconds=time.monotonic() - begun,
        cpu_seconds=server.cpu() - cpu,
        callers_cpu_seconds=callers_cpu_seconds() - callers_cpu,
        settlement=settlement,
        calls=json.loads(output) if callers else {},
        samples=samples,
    )


def callers_cpu_seconds() -> float:
    """Returns the CPU seconds of all callers that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def settle_everywhere(ready: dict[str, Any], facts: list[Any]) -> dict[str, dict[str, Any]]:
    """Reports facts on each settlement listener at the same time, every listener its share."""
    count = len(SETTLEMENT_LISTENERS)

    def one(number: int) -> dict[str, Any]:
        address = ready[SETTLEMENT_LISTENERS[number]]
        return settle(address, facts[number::count], SETTLED_PER_SECOND).facts()

    with ThreadPoolExecutor(count) as threads:
        found = threads.map(one, range(count))
        return dict(zip(SETTLEMENT_LISTENERS, found, strict=True))


def measure(row: Row, seconds: float, budget_share: float) -> dict[str, Any]:
    """Runs a row."""
    calm_seconds = min(seconds, CALM_SECONDS_MAX)
    budget = row.budget * budget_share
    spans = (calm_seconds, calm_seconds, seconds)
    settled_per_second = SETTLED_PER_SECOND * len(SETTLEMENT_LISTENERS)
    with (
        tempfile.TemporaryDirectory(prefix="lastunit-tenfold-") as folder,
        served(Path(folder)) as server,
    ):
        count = int(sum(spans) * settled_per_second)
        facts = prepare(server.ready["data"], count, SETTLED_FORGET_SECONDS - 1)
        put_budget(server.ready["settlement"], budget)
        phases = []
        for span, rate in zip(spans, (0.0, FITTING * budget, TENFOLD * budget), strict=True):
            part, facts = cut(facts, int(span * settled_per_second))
            phases.append(run_phase(row, server, part, rate, span))
    return {"budget_per_second": budget, **summed(budget, seconds, *phases)}


def cut(facts: list[Any], count: int) -> tuple[list[Any], list[Any]]:
    """Returns the first so many, and the rest."""
    return facts[:count], facts[count:]


def summed(
    budget: float, seconds: float, calm: Phase, fitting: Phase, flood: Phase
) -> dict[str, Any]:
    """Reckons what the door reaches and what it costs."""
    idle = calm.cpu_seconds / calm.seconds
    accepted = answered(fitting)
    accept = (fitting.cpu_seconds - idle * fitting.seconds) / max(1, accepted)
    refused = flood.calls["refused_tries"]
    spent = flood.cpu_seconds - idle * flood.seconds - accept * answered(flood)
    refuse = spent / max(1, refused)
    usable = USABLE_CORE_SHARE - idle
    memory = flood.samples.resident_bytes
    level = memory[int(MEMORY_SKIP_SHARE * len(memory)) :]
    half = len(level) // 2
    return {
        "offered_per_second": round(flood.calls["sent"] / seconds, 1),
        "goodput_share": round(flood.calls["in_time"] / (budget * seconds), 3),
        "calls": flood.calls,
        "cpu_us_per_acceptance": round(1e6 * accept, 1),
        "cpu_us_per_refusal": round(1e6 * refuse, 1),
        **headroom(budget, usable, accept, refuse),
        "server_cores": round(flood.cpu_seconds / flood.seconds, 2),
        "callers_cores": round(flood.callers_cpu_seconds / flood.seconds, 2),
        "settlement": {name: compared(name, calm, flood) for name in SETTLEMENT_LISTENERS},
        "memory_mib": {
            "after_the_first_quarter": [
                round(fmean(part) / MEBIBYTE, 1) for part in halves(level, half)
            ],
            "peak": round(max(memory, default=0.0) / MEBIBYTE, 1),
        },
        "in_flight_max": max(flood.samples.in_flight, default=0.0),
        "open_calls_max": max(flood.samples.open_calls, default=0.0),
    }


def compared(listener: str, calm: Phase, flood: Phase) -> dict[str, Any]:
    """Sets what settlement took in the flood beside what it took before."""
    unloaded, flooded = calm.settlement[listener], flood.settlement[listener]
    p99 = unloaded["p99_ms"], flooded["p99_ms"]
    ratio = round(p99[1] / p99[0], 2) if all(p99) else None
    return {"p99_ratio": ratio, "unloaded": unloaded, "flooded": flooded}


def headroom(budget: float, usable: float, accept: float, refuse: float) -> dict[str, Any]:
    """Reckons how many times its budget a door bears, and which budget it bears ten times."""
    if refuse <= 0:
        # What was not answered at all costs too, or the machine did other things: nothing follows.
        return {"headroom_factor": None, "budget_that_fits_tenfold": None}
    return {
        "headroom_factor": round(1 + (usable - budget * accept) / (budget * refuse), 1),
        "budget_that_fits_tenfold": round(usable / (accept + (TENFOLD - 1) * refuse), 1),
    }


def answered(phase: Phase) -> int:
    """Counts what the ledger granted."""
    return int(phase.calls["in_time"] + phase.calls["late"])


def halves(level: list[float], half: int) -> list[list[float]]:
    """Returns both halves of what was sampled; of nothing, nothing."""
    return [part for part in (level[:half], level[half:]) if part]


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    table = Table(title="ten times the budget, open-loop; CPU is the server's")
    headings = (
        *("door, callers", "budget/s", "offered/s", "goodput", "accept us", "refuse us"),
        *("headroom", "settle p99 ms", "natively", "MiB", "in flight"),
    )
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for name, row in rows.items():
        memory = row["memory_mib"]["after_the_first_quarter"]
        table.add_row(
            name,
            f"{row['budget_per_second']:g}",
            f"{row['offered_per_second']:g}",
            f"{100 * row['goodput_share']:.1f} %{' !' if is_callers_fault(row) else ''}",
            f"{row['cpu_us_per_acceptance']:.0f}",
            f"{row['cpu_us_per_refusal']:.1f}",
            f"{row['headroom_factor']}",
            *(step_of_p99(row["settlement"][listener]) for listener in SETTLEMENT_LISTENERS),
            " → ".join(f"{part:.0f}" for part in memory),
            f"{row['in_flight_max']:.0f}",
        )
    Console(width=150).print(table)
    if any(map(is_callers_fault, rows.values())):
        print("!  the callers had no room on their core: this row says nothing of the door")


def is_callers_fault(row: dict[str, Any]) -> bool:
    """Tells whether the callers had no room on their core: then a row says nothing of the door."""
    return bool(row["callers_cores"] > CALLERS_CORE_MAX)


def step_of_p99(settlement: dict[str, Any]) -> str:
    """Shows what a listener's settlement took without and with the flood."""
    return f"{settlement['unloaded']['p99_ms']} → {settlement['flooded']['p99_ms']}"


def main() -> None:
    """Measures, prints the table and writes the raw file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the flood of each row")
    parser.add_argument("--only", default="", help="rows whose name has this")
    parser.add_argument("--budget-share", type=float, default=1.0, help="of each row's budget")
    parser.add_argument("--output", type=Path, default=RESULTS / "tenfold.json")
    options = parser.parse_args()
    if not {SERVER_CORE, CALLERS_CORE} <= os.sched_getaffinity(0):
        sys.exit("bench: this needs two cores, one for the server and one for its callers")
    os.sched_setaffinity(0, {SERVER_CORE})
    rows: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        if options.only in row.name:
            print(row.name, file=sys.stderr, flush=True)
            rows[row.name] = measure(row, options.seconds, options.budget_share)
            print(json.dumps(rows[row.name]), file=sys.stderr, flush=True)
    command = " ".join(["python -m bench.tenfold", *sys.argv[1:]])
    facts = machine.facts() | {"load_average": os.getloadavg()}
    record = {"machine": facts, "command": command, "rows": rows}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    show(rows)


if __name__ == "__main__":
    main()
