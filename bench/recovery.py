"""Measures a node with many live reservations: recovery, memory, and calls while it is busy.

Owns: `python -m bench.recovery`. Each step is a process of its own over one data directory (see
`core_rs/node/examples/recovery.rs`), so that its memory is its own. Recovery is measured with and
without a snapshot, from files that are in the page cache; pauses with callers on a schedule of
their own, so that a stall counts for every call that it delays.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine

RESULTS = machine.ROOT / "bench" / "results"
Facts = dict[str, Any]


def build_example() -> Path:
    """Builds the example and returns its program."""
    command = ["cargo", "build", "--release", "--locked", "-p", "lastunit-node"]
    command += ["--example", "recovery", "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=machine.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        target = message.get("target", {})
        if target.get("name") == "recovery" and message.get("executable"):
            return Path(message["executable"])
    sys.exit("bench: cargo named no program; run it by hand to see why")


class Steps:
    """Runs steps over one directory and keeps what they say.

    Args:
        program: The built example.
        directory: Where the journal is.
        count: Live reservations.
    """

    def __init__(self, program: Path, directory: Path, count: int) -> None:
        self._program = program
        self._directory = directory
        self._count = count
        self.lines: list[Facts] = []

    def run(self, step: str, *arguments: str, label: str = "") -> Facts:
        """Runs one step; returns its line of figures."""
        command = [str(self._program), step, str(self._directory), str(self._count), *arguments]
        print(f"{label or step} ...", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"bench: {' '.join(command)} ended with {done.returncode}")
        facts: Facts = json.loads(done.stdout)
        facts["label"] = label or step
        self.lines.append(facts)
        print(f"  {json.dumps(facts)}", file=sys.stderr, flush=True)
        return facts


def measure(steps: Steps, options: argparse.Namespace) -> None:
    """Runs every step."""
    steps.run("build")
    for run in range(options.runs):
        steps.run("open", label=f"open without snapshot, run {run + 1}")
    steps.run("close")
    for run in range(options.runs):
        steps.run("open", label=f"open with snapshot, run {run + 1}")
    rate, expiring = str(options.rate), str(options.expiring)
    for durability in options.durability.split(","):
        for what in (["snapshot"], ["audit"], ["expiry", expiring]):
            label = f"{what[0]}, {durability}"
            steps.run("steady", durability, rate, *what, label=label)


def show(lines: list[Facts], count: int) -> None:
    """Prints what was found."""
    opened = Table(title=f"opening {count:,} live reservations")
    for heading in (
        "step",
        "first answer s",
        "replayed events",
        "RSS B/reservation",
        "peak RSS GB",
    ):
        opened.add_column(heading, justify="left" if heading == "step" else "right")
    waits = Table(title="wait of calls on a schedule, ms")
    for heading in ("while", "call", "p50", "p99", "p99.9", "max", "max before", "lasted s"):
        waits.add_column(heading, justify="left" if heading in ("while", "call") else "right")
    for line in lines:
        if line["step"] == "open":
            opened.add_row(
                line["label"],
                f"{line['first_answer_seconds']:.2f}",
                f"{line['replayed_event_count']:,}",
                f"{line['rss_bytes_per_reservation']:,}",
                f"{line['rss_peak_bytes'] / 1e9:.2f}",
            )
        for call, spread in line.get("wait_ms_during", {}).items():
            before = line["wait_ms_before"][call]["max"]
            figures = [spread[key] for key in ("p50", "p99", "p999", "max")]
            waits.add_row(
                line["label"],
                call,
                *(f"{figure:.2f}" for figure in (*figures, before)),
                f"{line['seconds']:.1f}",
            )
    console = Console(width=140)
    console.print(opened)
    console.print(waits)
    for line in lines:
        if line.get("what") == "snapshot":
            frozen = line["freeze_micros"] / 1000
            console.print(
                f"{line['label']}: the lock was held {frozen:.2f} ms to freeze the ledger"
            )


def main() -> None:
    """Measures, prints the tables and writes the raw file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--count", type=int, default=10_000_000, help="live reservations (default 10 million)"
    )
    parser.add_argument(
        "--expiring", type=int, default=1_000_000, help="that end in one second (default 1 million)"
    )
    parser.add_argument("--rate", type=int, default=200, help="calls a second of each caller (200)")
    parser.add_argument("--runs", type=int, default=3, help="openings of each kind (default 3)")
    parser.add_argument(
        "--durability", default="written,flushed", help="of the steady runs (written,flushed)"
    )
    parser.add_argument("--folder", type=Path, help="where the journal is made (a temporary one)")
    parser.add_argument("--output", type=Path, help="raw file (bench/results/recovery-COUNT.json)")
    options = parser.parse_args()
    program = build_example()
    with tempfile.TemporaryDirectory(prefix="lastunit-bench-", dir=options.folder) as folder:
        steps = Steps(program, Path(folder) / "data", options.count)
        measure(steps, options)
    output = options.output or RESULTS / f"recovery-{options.count}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    command = f"python -m bench.recovery --count {options.count} --expiring {options.expiring}"
    command += f" --rate {options.rate} --runs {options.runs} --durability {options.durability}"
    record = {
        "machine": machine.facts(),
        "load_average": os.getloadavg(),
        "command": command,
        "steps": steps.lines,
    }
    output.write_text(json.dumps(record, indent=1) + "\n")
    show(steps.lines, options.count)
    print(f"raw figures: {output}", file=sys.stderr)


if __name__ == "__main__":
    main()
