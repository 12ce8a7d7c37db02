"""PostgreSQL: a cluster of its own, the functions of `schema.sql`, and pgbench as the load."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.peers.cpu import tree_cpu_seconds
from bench.peers.shape import Absent, Figures, Shape, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).parent
WAY = "PostgreSQL function"
USER = "postgres"
UNITS = 1_000_000_000
# Backends end after pgbench does, and only then their CPU is their parent's.
SETTLE_SECONDS = 0.3
# So many backends take seconds to start and to plan their first statements.
MANY_WORKERS, MANY_SECONDS_MIN = 256, 8
# Where a latency stands in a line of pgbench's log, in microseconds.
_LATENCY = 2
SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 600
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 30min
wal_level = minimal
max_wal_senders = 0
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster's tools and place."""

    binaries: Path
    folder: Path
    port: int

    def run(self, *command: str) -> None:
        """Runs a tool as who may run a server: root may not.

        Raises:
            SystemExit: It failed; says what it said.
        """
        outcome = subprocess.run(
            [str(self.binaries / command[0]), *command[1:]],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            user=USER if os.geteuid() == 0 else None,
            group=USER if os.geteuid() == 0 else None,
        )
        if outcome.returncode != 0:
            sys.exit(f"bench: {command[0]} failed: {outcome.stderr.strip()}")

    def sql(self, *arguments: str) -> str:
        """Runs psql; returns what it prints."""
        command = ["psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", "postgres"]
        command += ["-qAtX", "-v", "ON_ERROR_STOP=1", *arguments]
        outcome = subprocess.run(command, check=True, capture_output=True, text=True)
        return outcome.stdout.strip()


class PostgresPeer:
    """A cluster that is up."""

    name = "PostgreSQL"

    def __init__(self, cluster: Cluster, pid: int) -> None:
        self._cluster = cluster
        self._pid = pid
        self.version = cluster.sql("-c", "SHOW server_version").split()[0]

    def shapes(self) -> Sequence[Shape]:
        """One hot row, an operation a commit; then a thousand of them in one."""
        alone = [Shape(way=WAY, workers=workers) for workers in (1, 64, 512)]
        return [*alone, *(Shape(way=WAY, workers=it, batch=1000) for it in (1, 8))]

    def open_shapes(self) -> Sequence[Shape]:
        """An operation a commit."""
        return [Shape(way=WAY, workers=64)]

    def measure(self, shape: Shape, seconds: float) -> Figures:
        """Runs pgbench; checks that no unit came or went."""
        logs = self._cluster.folder / "log-of-pgbench"
        logs.mkdir(exist_ok=True)
        before = tree_cpu_seconds(self._pid)
        outcome = subprocess.run(
            self._command(shape, seconds, logs), check=False, capture_output=True, text=True
        )
        time.sleep(SETTLE_SECONDS)
        used = tree_cpu_seconds(self._pid) - before
        found = re.search(r"^tps = ([\d.]+)", outcome.stdout, re.MULTILINE)
        made = re.search(r"transactions actually processed: (\d+)", outcome.stdout)
        if outcome.returncode != 0 or found is None or made is None:
            sys.exit(f"bench: pgbench failed: {(outcome.stderr + outcome.stdout)[-2000:]}")
        total = self._cluster.sql("-c", "SELECT available + held + sold FROM stock")
        if int(total) != UNITS:
            sys.exit(f"bench: PostgreSQL holds {total} units and not {UNITS}")
        latencies = sorted(_latencies(logs))
        return Figures(
            pairs_per_second=float(found[1]) * shape.batch,
            # pgbench times a script, which is a pair.
            call_p50_ms=None,
            call_p99_ms=None,
            pair_p50_ms=latencies[len(latencies) // 2] / 1e3,
            pair_p99_ms=latencies[(len(latencies) - 1) * 99 // 100] / 1e3,
            server_cpu_us=used * 1e6 / (int(made[1]) * shape.batch),
        )

    def _command(self, shape: Shape, seconds: float, logs: Path) -> list[str]:
        script = HERE / ("pair.sql" if shape.batch == 1 else "batch.sql")
        command = ["pgbench", "-n", "-h", "127.0.0.1", "-p", str(self._cluster.port), "-U", USER]
        command += ["-M", "prepared", "-l", "--log-prefix", str(logs / "latency")]
        command += ["-c", str(shape.workers), "-j", "1", "-D", f"batch={shape.batch}"]
        least = MANY_SECONDS_MIN if shape.workers >= MANY_WORKERS else 1
        command += ["-T", str(max(least, round(seconds))), "-f", str(script)]
        if shape.rate is not None:
            # Its latencies then count from when a pair was due.
            command += ["-R", str(shape.rate / shape.batch)]
        return [*command, "postgres"]


def _latencies(logs: Path) -> Iterator[int]:
    for path in logs.iterdir():
        with path.open() as lines:
            yield from (int(line.split(None, _LATENCY + 1)[_LATENCY]) for line in lines)
        path.unlink()


@contextmanager
def started(folder: Path) -> Iterator[PostgresPeer]:
    """Makes and starts a cluster in `folder`.

    Raises:
        Absent: There is no PostgreSQL server or no pgbench.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    named = os.environ.get("PGBIN")
    if (not found and not named) or shutil.which("pgbench") is None:
        hint = "`apt-get install postgresql postgresql-contrib`, or set PGBIN to its folder"
        raise Absent(f"PostgreSQL is left out: {hint}")
    cluster = Cluster(Path(named) if named else found[-1].parent, folder, free_port())
    if os.geteuid() == 0:
        folder.chmod(0o755)
        shutil.chown(folder, USER, USER)
    data = folder / "cluster"
    flags = ["-A", "trust", "--no-locale", "-E", "UTF8"]
    cluster.run("initdb", "-D", str(data), "-U", USER, *flags)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS)
        settings.write(f"port = {cluster.port}\nunix_socket_directories = '{folder}'\n")
    cluster.run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "start")
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        cluster.sql("-f", str(HERE / "schema.sql"))
        cluster.sql("-c", "VACUUM ANALYZE")
        yield PostgresPeer(cluster, pid)
    finally:
        cluster.run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
