"""The load that lastunit and Redis get: `core_rs/front/examples/pairs`, one thread for each peer.

Owns: running it, and reading its figures. Where next: `shape.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.example import example
from bench.peers.cpu import tree_cpu_seconds
from bench.peers.shape import REFUSED_SHARE_MAX, Figures

if TYPE_CHECKING:
    from bench.peers.shape import Shape

# Connections of gRPC; many calls share one. Redis takes one a worker.
CONNECTIONS = 4
# An open load is given up by itself after three times its time.
RUN_SECONDS_MAX = 120


def run(kind: str, addresses: str, shape: Shape, seconds: float, *, server: int) -> Figures:
    """Runs one load.

    Args:
        kind: `redis`, `unary` or `exchange`.
        addresses: Where it goes; `data,settlement` for unary.
        shape: What is sent.
        seconds: How long, 1 or more.
        server: Process id of the server.
    """
    numbers = [shape.workers, shape.batch, CONNECTIONS, seconds]
    if shape.rate is not None:
        numbers.append(shape.rate)
    return measured([example("pairs"), kind, addresses, *map(str, numbers)], server=server)


def python_run(arguments: list[str], *, server: int) -> Figures:
    """Runs one load from a Python process, `bench.peers.python_caller`."""
    module = [sys.executable, "-m", "bench.peers.python_caller"]
    return measured([*module, *arguments], server=server)


def measured(command: list[str], *, server: int) -> Figures:
    """Runs a driver that prints its figures as JSON; adds the server's CPU."""
    before = tree_cpu_seconds(server)
    outcome = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS_MAX,
        cwd=machine.ROOT,
    )
    used = tree_cpu_seconds(server) - before
    if outcome.returncode != 0:
        sys.exit(f"bench: `{' '.join(command)}` failed: {outcome.stderr.strip()[-2000:]}")
    seen: dict[str, Any] = json.loads(outcome.stdout.splitlines()[-1])
    pairs = seen["pairs"]
    if seen["refused"] > REFUSED_SHARE_MAX * pairs:
        sys.exit(f"bench: {seen['refused']} of {pairs} pairs were refused: `{' '.join(command)}`")
    return Figures(
        pairs_per_second=pairs / seen["seconds"],
        call_p50_ms=seen["call_p50_ms"],
        call_p99_ms=seen["call_p99_ms"],
        pair_p50_ms=seen["pair_p50_ms"],
        pair_p99_ms=seen["pair_p99_ms"],
        server_cpu_us=used * 1e6 / pairs,
        unserved=seen.get("unserved", 0),
    )
