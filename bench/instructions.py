"""Counts the instructions of an operation and fails when one costs more than what is recorded.

Owns: `make instructions`. Instructions do not depend on what else the machine does, so they can
guard in CI where a time could not. Each figure is the difference of two runs under valgrind, one
with a number of operations and one with none, divided by that number.

Exit status: 0 within the bound, or not comparable and told why; 1 a rise above it; 2 wrong use.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine

RECORD = machine.ROOT / "bench" / "results" / "instructions.json"
# The most that a figure may rise above its record without a reason that is recorded with it.
RISE_PERCENT_MAX = 5.0
RUN_SECONDS_MAX = 300
INSTALL = "install it with `apt-get install valgrind`"
_COUNTED = re.compile(r"Collected\s*:\s*(\d+)")


@dataclass(frozen=True)
class Operation:
    """One operation that is counted.

    Attributes:
        name: As it is recorded.
        package: The crate of the example that runs it.
        example: The example.
        arguments: What it is told before the number of operations.
        count: Operations of the longer run, 1 or more.
    """

    name: str
    package: str
    example: str
    arguments: tuple[str, ...]
    count: int


def _engine(kind: str) -> Operation:
    return Operation(f"engine {kind}", "lastunit-engine", "instructions", (kind,), 4_000)


def _admission(kind: str, name: str) -> Operation:
    arguments = ("--instructions", kind)
    return Operation(name, "lastunit-admission", "decision_cost", arguments, 20_000)


OPERATIONS = (
    _engine("reserve"),
    _engine("reserve_sold_out"),
    _engine("reserve_repeated"),
    _engine("begin_payment"),
    _engine("settle_payment"),
    _engine("confirm"),
    _engine("expire"),
    _admission("door_admitted", "admission decision, admitted"),
    _admission("door", "admission decision, most refused"),
    Operation("Exchange, a pair of 256 a message", "lastunit-wire", "exchange", (), 4_096),
)


def compiler() -> dict[str, str]:
    """Returns what makes figures comparable: the compiler and the kind of processor."""
    shown = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    rows = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
    return {"rustc": rows["release"], "host": rows["host"]}


def build() -> Path:
    """Builds the examples as they are shipped; returns their folder.

    What the environment says about profiles is left out: it would change every figure.
    """
    names = [name for name in os.environ if not name.startswith("CARGO_PROFILE_")]
    environment = {name: os.environ[name] for name in names if name != "RUSTFLAGS"}
    for package, example in sorted({(it.package, it.example) for it in OPERATIONS}):
        command = ["cargo", "build", "--release", "--locked", "-p", package, "--example", example]
        subprocess.run(command, check=True, cwd=machine.ROOT, env=environment)
    target = Path(os.environ.get("CARGO_TARGET_DIR", machine.ROOT / "target"))
    return target / "release" / "examples"


def has_valgrind() -> bool:
    """Tells whether instructions can be counted here."""
    return shutil.which("valgrind") is not None


def counted(command: list[str]) -> int:
    """Returns how many instructions a command takes.

    Raises:
        SystemExit: It failed, or valgrind says nothing that reads.
    """
    with tempfile.TemporaryDirectory(prefix="lastunit-instructions-") as folder:
        # An environment of its own: its size moves what the first instructions do.
        outcome = subprocess.run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS_MAX,
            env={"PATH": os.environ["PATH"]},
        )
    found = _COUNTED.search(outcome.stderr)
    if outcome.returncode != 0 or found is None:
        sys.exit(f"instructions: `{' '.join(command)}` failed:\n{outcome.stderr[-2000:]}")
    return int(found[1])


def count(operation: Operation, folder: Path) -> float:
    """Returns the instructions of one operation."""
    command = [str(folder / operation.example), *operation.arguments]
    with_them = counted([*command, str(operation.count)])
    without = counted([*command, "0"])
    return round((with_them - without) / operation.count, 1)


def percent(figure: float, recorded: float) -> float:
    """Returns by how much a figure lies above its record."""
    return (figure / recorded - 1) * 100


def judged(figures: dict[str, float], record: dict[str, Any]) -> list[str]:
    """Returns what is wrong, a sentence each: a rise above the bound, or no record."""
    wrong = []
    for name, figure in figures.items():
        row = record["operations"].get(name)
        if row is None:
            wrong.append(f"{name} is not recorded; record it with --record --reason")
            continue
        rise = percent(figure, row["instructions"])
        if rise > RISE_PERCENT_MAX:
            wrong.append(
                f"{name} takes {figure:,.0f} instructions, {rise:.1f} % more than the"
                f" {row['instructions']:,.0f} recorded; make it cheaper, or record it with --record"
                " --reason and say in the commit what it buys"
            )
    gone = sorted(set(record["operations"]) - set(figures))
    return wrong + [f"{name} is recorded and no longer counted" for name in gone]


def recorded(
    figures: dict[str, float], before: dict[str, Any] | None, made_by: dict[str, str], reason: str
) -> dict[str, Any]:
    """Returns a new record; a figure that has not moved keeps its reason."""
    rows = before["operations"] if before and before["made_by"] == made_by else {}
    operations = {}
    for name, figure in figures.items():
        row = rows.get(name)
        is_kept = row is not None and row["instructions"] == figure
        operations[name] = row if is_kept else {"instructions": figure, "reason": reason}
    return {"made_by": made_by, "operations": operations}


def show(figures: dict[str, float], record: dict[str, Any] | None) -> None:
    """Prints each figure beside its record."""
    for name, figure in figures.items():
        row = record["operations"].get(name) if record else None
        beside = f"{percent(figure, row['instructions']):+6.1f} %" if row else "   new"
        is_cheaper = row is not None and percent(figure, row["instructions"]) < -RISE_PERCENT_MAX
        note = " (record it, or a later rise hides in it)" if is_cheaper else ""
        print(f"{name:<42}{figure:>10,.1f} instructions {beside}{note}")


def main() -> None:
    """Counts, compares, and with `--record` writes the figures down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", action="store_true", help="write the figures down")
    parser.add_argument("--reason", default="", help="why they changed, for --record")
    options = parser.parse_args()
    if options.record and not options.reason:
        parser.error("--record needs --reason: what the instructions buy")
    if not has_valgrind():
        print(f"instructions: not counted, there is no valgrind; {INSTALL}", file=sys.stderr)
        sys.exit(2 if options.record else 0)
    folder = build()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        counts = threads.map(lambda operation: count(operation, folder), OPERATIONS)
        figures = {it.name: figure for it, figure in zip(OPERATIONS, counts, strict=True)}
    record = json.loads(RECORD.read_text()) if RECORD.exists() else None
    show(figures, record)
    made_by = compiler()
    if options.record:
        text = json.dumps(recorded(figures, record, made_by, options.reason), indent=1)
        RECORD.write_text(text + "\n")
        return
    if record is None:
        sys.exit(f"instructions: there is no {RECORD}; write it with --record --reason")
    if record["made_by"] != made_by:
        # Another compiler makes other instructions of the same code.
        text = f"recorded with {record['made_by']}, this is {made_by}"
        print(f"instructions: not compared: {text}; record anew with --record", file=sys.stderr)
        return
    wrong = judged(figures, record)
    if wrong:
        sys.exit("\n".join(f"instructions: {sentence}" for sentence in wrong))


if __name__ == "__main__":
    main()
