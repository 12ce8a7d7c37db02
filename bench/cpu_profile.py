"""Shows where the server's CPU goes while it makes pairs, sampled by `perf`.

Owns: `python -m bench.cpu_profile`. Each load of `bench.peers` that is named runs alone against a
server of its own; `perf` looks a thousand times a CPU second at what the server does. A sample in
the kernel belongs to the system call that it came through, any other to the crate whose function
was running: functions that the compiler has put into their caller count as the caller's. Raw in
`bench/results/cpu-profile.json`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bench import front, machine
from bench.peers import ledger_peer
from bench.peers.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SAMPLES_PER_SECOND = 997
WARM_SECONDS = 2.0
SYMBOLS_KEPT = 40
LOADS = {
    "one call an operation": Shape(way=ledger_peer.NATIVE, workers=64),
    "Exchange, 256 a message": Shape(way=ledger_peer.EXCHANGE, workers=8, batch=256),
    "Exchange, 4,096 a message": Shape(way=ledger_peer.EXCHANGE, workers=4, batch=4096),
}
# Whoever comes first takes the sample. Of the kernel the system call, of the rest the function.
CALLS = (
    ("flush and write of the journal", r"fdatasync|fsync|pwrite|sys_write$|copy_file|fallocate"),
    ("sockets", r"send|recv|writev|sys_read|readv|epoll|accept|poll"),
    ("waits and wake-ups between threads", r"futex|sched_yield|nanosleep|exit_to_user"),
)
FUNCTIONS = (
    (
        "memory: allocate and free",
        r"^(_int_)?(malloc|free|cfree|realloc|calloc)|malloc_con|unlink_",
    ),
    ("memory: copy, compare, clear", r"mem(cpy|move|cmp|set|chr)|bcmp"),
    ("ledger (engine)", r"lastunit_engine"),
    ("admission", r"lastunit_admission"),
    ("journal", r"lastunit_journal|crc32c"),
    ("messages in and out (wire)", r"lastunit_wire|prost"),
    ("node", r"lastunit_node"),
    ("gRPC: HTTP/2, connections, tasks", r"\b(h2|hyper\w*|tonic\w*|tower\w*|http|tokio\w*|mio)::"),
    ("front", r"lastunit_front|_native::"),
)
KERNEL_OTHER, OTHER = "kernel, other", "other"
_NETWORK_BELOW = re.compile(r"net_rx_action|tcp_v4_rcv|process_backlog")


def part_of(frames: Sequence[tuple[str, str]]) -> str:
    """Returns whose a sample is.

    Args:
        frames: Function and file of each call, the innermost first.
    """
    kernel = [name for name, file in frames if "kernel" in file]
    if not kernel:
        return _first(FUNCTIONS, frames[0][0]) or OTHER
    if any(_NETWORK_BELOW.search(name) for name in kernel):
        return "sockets"
    calls = (name for name in kernel if name.startswith(("__x64_sys_", "__se_sys_", "ksys_")))
    return next(filter(None, (_first(CALLS, name) for name in calls)), KERNEL_OTHER)


def _first(table: Iterable[tuple[str, str]], name: str) -> str:
    return next((part for part, pattern in table if re.search(pattern, name)), "")


def samples(text: str) -> Iterator[list[tuple[str, str]]]:
    """Reads what `perf script -F ip,sym,dso` says, sample by sample."""
    frames: list[tuple[str, str]] = []
    for line in text.splitlines():
        found = re.match(r"\s+[0-9a-f]+ (.*) \((.*)\)$", line)
        if found:
            frames.append((found[1], found[2]))
        elif frames:
            yield frames
            frames = []
    if frames:
        yield frames


def watched(peer: ledger_peer.LedgerPeer, shape: Shape, seconds: float, data: Path) -> float:
    """Runs a load under the eyes of `perf`; returns the server's CPU for a pair in µs."""
    command = ["perf", "record", "--quiet", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "-g"]
    with subprocess.Popen([*command, "-p", str(peer.pid), "-o", str(data)]) as perf:
        try:
            figures = peer.measure(shape, seconds)
        finally:
            perf.send_signal(SIGINT)
            perf.wait(60)
    return figures.server_cpu_us


def profile(shape: Shape, seconds: float) -> dict[str, Any]:
    """Profiles one load against a server of its own."""
    with tempfile.TemporaryDirectory(prefix="lastunit-profile-") as name:
        folder = Path(name)
        with ledger_peer.started(folder) as peer:
            peer.measure(shape, WARM_SECONDS)
            cpu_us = watched(peer, shape, seconds, folder / "perf.data")
        script = ["perf", "script", "--no-inline", "-F", "ip,sym,dso", "-i"]
        text = subprocess.run(
            [*script, str(folder / "perf.data")], check=True, capture_output=True, text=True
        ).stdout
    parts: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames in samples(text):
        parts[part_of(frames)] += 1
        functions[frames[0][0]] += 1
    count = parts.total()
    return {
        "server_cpu_us_a_pair": cpu_us,
        "samples": count,
        "parts": {part: seen / count for part, seen in parts.most_common()},
        "functions": {it: seen / count for it, seen in functions.most_common(SYMBOLS_KEPT)},
    }


def show(figures: dict[str, dict[str, Any]]) -> None:
    """Prints µs of CPU a pair, part by part."""
    table = Table(title="server CPU for a pair, µs")
    table.add_column("part")
    for label in figures:
        table.add_column(label, justify="right")
    parts = {part for found in figures.values() for part in found["parts"]}
    last = list(figures.values())[-1]["parts"]
    for part in sorted(parts, key=lambda part: -last.get(part, 0.0)):
        shares = (
            (found["parts"].get(part, 0.0), found["server_cpu_us_a_pair"])
            for found in figures.values()
        )
        table.add_row(part, *(f"{share * cpu:.2f}  {share:4.0%}" for share, cpu in shares))
    table.add_row("all", *(f"{found['server_cpu_us_a_pair']:.1f}" for found in figures.values()))
    Console(width=120).print(table)


def main() -> None:
    """Profiles every load and writes the raw file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load, 1 or more")
    parser.add_argument("--output", type=Path, default=front.RESULTS / "cpu-profile.json")
    options = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("bench: there is no perf; Debian has it as linux-perf")
    figures = {label: profile(shape, options.seconds) for label, shape in LOADS.items()}
    command = " ".join(["python -m bench.cpu_profile", *sys.argv[1:]])
    record = {"machine": machine.facts(), "command": command, "loads": figures}
    options.output.write_text(json.dumps(record, indent=1) + "\n")
    show(figures)
    print(f"raw figures: {options.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
