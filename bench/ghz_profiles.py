"""Runs every ghz profile of `bench/ghz` in its order, on a ledger of its own, and prints one table.

Owns: which profiles there are, and their run. Must not hold what they say: that is in the files, so
that ghz can be used without this. Run it as `python -m bench.ghz_profiles`; `--only reserve` takes
those by name and what they build on, `--front native` the other front.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import front, ghz, stock

FOLDER = Path(__file__).resolve().parent / "ghz"
# What the files say of a ledger that was started with defaults, and the name of that listener.
LISTENERS = {"127.0.0.1:7400": "data", "127.0.0.1:7401": "settlement"}
# The sale and its units, on which everything else builds.
FOUNDATION = 11
NANOSECONDS = 1e6


def profiles() -> dict[str, dict[str, Any]]:
    """Returns what the files hold, by their names without ending, in the order of their numbers."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def run(name: str, address: str) -> dict[str, Any]:
    """Runs one profile against an address; returns ghz's own report."""
    command = [ghz.binary(), "--config", str(FOLDER / f"{name}.json"), "-O", "json", address]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=ghz.RUN_SECONDS_MAX
    )
    if done.returncode or not done.stdout.startswith("{"):
        sys.exit(f"bench: ghz failed on {name}: {done.stderr or done.stdout}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def row(name: str, report: dict[str, Any]) -> list[str]:
    """Returns the cells of a profile's line."""
    spread = {each["percentage"]: each["latency"] for each in report["latencyDistribution"] or ()}
    times = [f"{spread[part] / NANOSECONDS:.2f}" if part in spread else "" for part in (50, 99)]
    statuses = ", ".join(
        f"{code} {count:,}" for code, count in report["statusCodeDistribution"].items()
    )
    return [name, f"{report['count']:,}", statuses, f"{report['rps']:,.0f}", *times]


def main() -> None:
    """Runs the profiles and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="profiles whose name has this")
    parser.add_argument("--front", choices=["grpcio", "native"], default="grpcio")
    options = parser.parse_args()
    table = Table(title=f"bench/ghz on the {options.front} front, one ledger, flushed")
    for heading in ("profile", "calls", "answers", "a second", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading in {"profile", "answers"} else "right")
    prefix = "native_" if options.front == "native" else ""
    with tempfile.TemporaryDirectory(prefix="lastunit-ghz-") as folder:
        own = [sys.executable, "-m", "lastunit_server", "serve", "--log-level", "error"]
        with front.started("lastunit", [*own, *stock.server_flags(Path(folder))]) as server:
            for number, (name, profile) in enumerate(profiles().items(), start=1):
                if options.only not in name and number > FOUNDATION:
                    continue
                print(name, file=sys.stderr, flush=True)
                address = server.addresses[prefix + LISTENERS[profile["host"]]]
                table.add_row(*row(name, run(name, address)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
