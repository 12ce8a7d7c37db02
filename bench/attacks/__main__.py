"""Measures a good client while the door is attacked, with the limits off and on.

Owns: the figures of "a flood does not move a good client's p99 by more than a few times". Each row
is one server of its own: a good client calls both listeners at a steady rate, alone for the first
half and beside the attack for the second. Run it as `python -m bench.attacks`; it prints a table
and keeps JSON in bench/results. `--front` and `--listener` choose what is attacked, `--source` the
address of loopback that the attack comes from: the good client's own by default, which is the worse
case, as a network address translator makes it. `--streams` tries other numbers of calls.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine, stock
from bench.attacks.attacker import ATTACKS

__all__ = ["Server", "main"]

RESULTS = machine.ROOT / "bench" / "results"
OUTLAST_SECONDS = 0.5
SAMPLE_SECONDS = 0.02
MEBIBYTE_KIBIBYTES = 1024


class Server:
    """A ledger under attack, with its memory watched.

    Args:
        folder: For its journal and log.
        is_limited: Whether our limits hold, or gRPC's defaults.
        flags: More flags of `serve`.
    """

    def __init__(self, folder: Path, *, is_limited: bool, flags: tuple[str, ...] = ()) -> None:
        module = "lastunit_server" if is_limited else "bench.attacks.unlimited"
        self._log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "serve", *stock.server_flags(folder), *flags],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=machine.ROOT,
        )
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.process.stdout.close()
        stock.supply(self.ready["settlement"])
        self.peak_mib = 0.0
        self._is_over = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def memory_mib(self) -> float:
        """Returns what the process keeps in memory now."""
        if self.process.poll() is not None:
            return 0.0
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+)", text)
        return int(match[1]) / MEBIBYTE_KIBIBYTES if match else 0.0

    def cpu_seconds(self) -> float:
        """Returns the CPU time that it has used; 0 if the attack has ended it."""
        return machine.cpu_seconds(self.process.pid) if self.process.poll() is None else 0.0

    def _sample(self) -> None:
        while not self._is_over.wait(SAMPLE_SECONDS):
            if self.process.poll() is not None:
                return
            self.peak_mib = max(self.peak_mib, self.memory_mib())

    def stop(self) -> int:
        """Ends it; returns the exit status."""
        self._is_over.set()
        self._watch.join()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._log.close()
        return code


def start(module: str, *arguments: object) -> subprocess.Popen[str]:
    """Starts one of our processes."""
    return subprocess.Popen(
        [sys.executable, "-m", f"bench.attacks.{module}", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=machine.ROOT,
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for the JSON line of one of our processes."""
    text, _ = process.communicate()
    found: dict[str, Any] = json.loads(text) if text.strip() else {"exit": process.returncode}
    return found


def measure(
    name: str, door: str, options: argparse.Namespace, *, is_limited: bool
) -> dict[str, Any]:
    """Measures one attack against one listener of one server."""
    front, _, listener = door.partition(" ")
    flags: tuple[str, ...] = ("--durability", options.durability)
    if options.streams:
        flags += ("--set", f"data.max_concurrent_streams={options.streams}")
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder), is_limited=is_limited, flags=flags)
        prefix = "native_" if front == "native" else ""
        address = (server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])
        port = server.ready[f"{prefix}{listener}"].rpartition(":")[2]
        quiet = result(start("good_client", *address, options.seconds, options.rate))
        before, cpu = server.memory_mib(), server.cpu_seconds()
        server.peak_mib = before
        # The attack begins before the client and outlasts it.
        attack_seconds = options.seconds + 2 * OUTLAST_SECONDS
        attack = start("attacker", name, port, attack_seconds, options.source)
        time.sleep(OUTLAST_SECONDS)
        beside = result(start("good_client", *address, options.seconds, options.rate))
        seen = result(attack)
        cpu = server.cpu_seconds() - cpu
        after = server.memory_mib()
        peak = server.peak_mib
        exit_status = server.stop()
    return {
        "door": door,
        "attack": name,
        "is_limited": is_limited,
        "quiet": quiet,
        "attacked": beside,
        "attacker": seen,
        "server_cpu_seconds": round(cpu, 2),
        "memory_mib": {"before": round(before), "peak": round(peak), "after": round(after)},
        "exit_status": exit_status,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Prints the table."""
    table = Table(title="a good client beside each attack; milliseconds")
    columns = (
        "door",
        "attack",
        "limits",
        "data p99 quiet/attacked",
        "settlement p99",
        "failed",
        "CPU s",
    )
    for column in (*columns, "MiB before/peak/after", "attacker sent/closed"):
        table.add_column(
            column, justify="left" if column in {"door", "attack", "limits"} else "right"
        )
    for row in rows:
        quiet, beside, memory = row["quiet"], row["attacked"], row["memory_mib"]
        failed = sum(beside[door]["failed"] for door in ("data", "settlement"))
        total = failed + sum(beside[door]["served"] for door in ("data", "settlement"))
        sent = row["attacker"].get("sent", row["attacker"].get("connections", 0))
        table.add_row(
            row["door"],
            row["attack"],
            "on" if row["is_limited"] else "off",
            *(f"{quiet[d]['p99_ms']} / {beside[d]['p99_ms']}" for d in ("data", "settlement")),
            f"{failed} of {total}",
            str(row["server_cpu_seconds"]),
            f"{memory['before']} / {memory['peak']} / {memory['after']}",
            f"{sent} / {row['attacker'].get('closed_by_server', 0)}",
        )
    Console(width=190).print(table)


def main() -> None:
    """Measures, prints and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attack", action="append", choices=sorted(ATTACKS), help="only these")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half")
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second, each listener")
    parser.add_argument("--front", choices=("grpcio", "native", "both"), default="both")
    parser.add_argument("--source", default="127.0.0.1", help="where the attack comes from")
    parser.add_argument("--listener", choices=("data", "settlement", "both"), default="data")
    parser.add_argument("--limits", choices=("both", "on", "off"), default="both")
    parser.add_argument("--streams", type=int, help="data.max_concurrent_streams")
    parser.add_argument("--durability", default="flushed")
    parser.add_argument("--no-keep", action="store_true", help="write no file")
    options = parser.parse_args()
    kinds = {"both": (False, True), "on": (True,), "off": (False,)}[options.limits]
    fronts = ("grpcio", "native") if options.front == "both" else (options.front,)
    listeners = ("data", "settlement") if options.listener == "both" else (options.listener,)
    rows = []
    doors = [f"{front} {listener}" for front in fronts for listener in listeners]
    for door, name in itertools.product(doors, options.attack or ATTACKS):
        for is_limited in kinds:
            rows.append(measure(name, door, options, is_limited=is_limited))
            said = f"{door}, {name}, limits {'on' if is_limited else 'off'}: done"
            Console(stderr=True).print(said)
    show(rows)
    if not options.no_keep:
        stamp = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%SZ")
        facts = {"machine": machine.facts(), "options": vars(options), "rows": rows}
        file = RESULTS / f"attacks-{stamp}.json"
        file.write_text(json.dumps(facts, indent=1) + "\n")
        Console(stderr=True).print(f"kept in {file}")


if __name__ == "__main__":
    main()
