"""Measures lastunit beside what else one could use, in one run on the same work.

Owns: `make bench-peers`: the order of the run. In each round every peer gets each of its loads
once, so that drift of a noisy machine hits all; open loops follow at shares of each way's own peak.
Writes raw JSON, tables and plots into bench/results. What survives a noisy machine is the server's
CPU for a pair.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.example import example
from bench.peers import (
    ledger_peer,
    plots,
    postgres_peer,
    redis_peer,
    report,
    tigerbeetle_peer,
)
from bench.peers.shape import Absent

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.peers.shape import Figures, Peer, Shape

RESULTS = machine.ROOT / "bench" / "results"
# Of the peak that the closed loop of 64 callers found.
OPEN_SHARES = (0.25, 0.5, 0.75, 0.95)
PEAK_WORKERS = 64
FLUSH_COUNT = 400
FLUSH_BYTES = 4096
Runs = dict["Shape", list["Figures"]]


def flush_ms(folder: Path) -> dict[str, float]:
    """Measures the disk's own flush: 4 KiB into a file that has its size already."""
    path = folder / "flush"
    path.write_bytes(bytes(FLUSH_BYTES * FLUSH_COUNT))
    seconds = []
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.fsync(descriptor)
        for number in range(FLUSH_COUNT):
            start = time.perf_counter()
            os.pwrite(descriptor, os.urandom(FLUSH_BYTES), number * FLUSH_BYTES)
            os.fdatasync(descriptor)
            seconds.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
    seconds.sort()
    return {"p50": seconds[FLUSH_COUNT // 2] * 1e3, "p99": seconds[FLUSH_COUNT * 99 // 100] * 1e3}


def start_all(
    stack: ExitStack, folder: Path, only: list[str], tigerbeetle: str | None
) -> tuple[list[Peer], list[str]]:
    """Starts every peer that is there; returns them, and why others are not."""

    def at(name: str) -> Path:
        (folder / name).mkdir()
        return folder / name

    starts: dict[str, Callable[[], AbstractContextManager[Peer]]] = {
        "lastunit": lambda: ledger_peer.started(at("lastunit")),
        "redis": lambda: redis_peer.started(at("redis")),
        "postgresql": lambda: postgres_peer.started(at("postgresql")),
        "tigerbeetle": lambda: tigerbeetle_peer.started(at("tigerbeetle"), tigerbeetle),
    }
    peers: list[Peer] = []
    absent = []
    for name, start in starts.items():
        if only and name not in only:
            absent.append(f"{name} was not asked for (--only)")
            continue
        try:
            peers.append(stack.enter_context(start()))
        except Absent as reason:
            absent.append(str(reason))
    return peers, absent


def run_closed(peers: list[Peer], runs: int, seconds: float) -> Runs:
    """Runs each closed loop of each peer in rounds."""
    figures: Runs = {}
    for run in range(runs):
        for peer in peers:
            for shape in peer.shapes():
                note = f"run {run + 1} of {runs}: {shape.way}, {shape.workers} x {shape.batch}"
                print(note, file=sys.stderr, flush=True)
                figures.setdefault(shape, []).append(peer.measure(shape, seconds))
    return figures


def peak(closed: Runs, way: str) -> float:
    """Returns what a way reached with 64 callers, pairs a second."""
    runs = next(
        runs
        for shape, runs in closed.items()
        if (shape.way, shape.workers, shape.batch) == (way, PEAK_WORKERS, 1)
    )
    return median(run.pairs_per_second for run in runs)


def run_open(peers: list[Peer], closed: Runs, runs: int, seconds: float) -> Runs:
    """Runs open loops at shares of each way's own peak, in rounds."""
    figures: Runs = {}
    for run in range(runs):
        for peer in peers:
            for way in peer.open_shapes():
                for share in OPEN_SHARES:
                    shape = way.at(round(share * peak(closed, way.way)))
                    note = f"run {run + 1} of {runs}: {shape.way}, {shape.rate:,.0f} a second"
                    print(note, file=sys.stderr, flush=True)
                    figures.setdefault(shape, []).append(peer.measure(shape, seconds))
    return figures


def rows_of(figures: Runs) -> list[dict[str, Any]]:
    """Returns what the raw file holds of each load."""
    rows = []
    for shape, seen in figures.items():
        runs = [asdict(run) for run in seen]
        rows.append({"shape": asdict(shape), "summary": report.spread(runs), "runs": runs})
    return rows


def options_of(arguments: list[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load (default 2)")
    peers = ("lastunit", "redis", "postgresql", "tigerbeetle")
    parser.add_argument("--only", nargs="*", choices=peers, default=[], help="leave out the others")
    parser.add_argument("--tigerbeetle", metavar="PATH", help="its binary; without it, left out")
    parser.add_argument("--folder", type=Path, help="for all data; the disk that is measured")
    parser.add_argument("--output", type=Path, default=RESULTS / "peers.json")
    options = parser.parse_args(arguments)
    if options.runs < 1 or options.seconds < 1:
        parser.error("--runs and --seconds are 1 or more: CPU is counted in ticks of 10 ms")
    return options


def command_of(options: argparse.Namespace) -> str:
    """Returns what was asked for, without the places of this machine."""
    words = ["python -m bench.peers", f"--runs {options.runs}", f"--seconds {options.seconds:g}"]
    words += ["--only", *options.only] if options.only else []
    words += ["--tigerbeetle PATH"] if options.tigerbeetle else []
    return " ".join(words)


def main() -> None:
    """Measures, prints the tables and writes all files."""
    options = options_of(sys.argv[1:])
    example("pairs")
    facts = machine.facts() | {"load_average": os.getloadavg()}
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="lastunit-peers-", dir=options.folder)
        folder = Path(stack.enter_context(temporary))
        # PostgreSQL runs as a user of its own, who must be able to come in.
        folder.chmod(0o755)
        flush = flush_ms(folder)
        peers, absent = start_all(stack, folder, options.only, options.tigerbeetle)
        closed = run_closed(peers, options.runs, options.seconds)
        opened = run_open(peers, closed, options.runs, options.seconds)
        versions = {peer.name: peer.version for peer in peers}
    record = {
        "machine": facts,
        "command": command_of(options),
        "runs": options.runs,
        "seconds": options.seconds,
        "flush_ms": flush,
        "versions": versions,
        "absent": absent,
        "rows": rows_of(closed) + rows_of(opened),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    text = report.markdown(record)
    options.output.with_suffix(".md").write_text(text)
    print(text)
    for path in plots.draw(record, options.output.with_suffix("")):
        print(path, file=sys.stderr)
    print(f"raw figures: {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
