"""TigerBeetle, where its binary is given by path: one replica.

Two loads. Its own `benchmark` command moves between one hot account and others: plain transfers,
because it can't post what is pending; two of them are counted as a pair, which flatters it. From
Python its PyPI client makes real pairs: a pending transfer from the sku's account to the buyer's,
then its post; the accounts' flags hold stock and limit.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench import machine
from bench.peers import driver
from bench.peers.cpu import tree_cpu_seconds
from bench.peers.shape import Absent, Figures, Shape, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

WAY = "TigerBeetle, its own benchmark"
PYTHON = "TigerBeetle from Python"
BATCH_MAX = 8189
# What a second brings at most, so that a load of N seconds takes about that.
TRANSFERS_PER_SECOND = {1: 2_000, BATCH_MAX: 250_000}
ACCOUNTS = 10_000
START_SECONDS_MAX = 60
RUN_SECONDS_MAX = 300


def _has_client() -> bool:
    return importlib.util.find_spec("tigerbeetle") is not None


class TigerBeetlePeer:
    """A replica that is up."""

    name = "TigerBeetle"

    def __init__(self, binary: str, pid: int, address: str) -> None:
        self._binary = binary
        self._pid = pid
        self._address = address
        shown = subprocess.run([binary, "version"], check=True, capture_output=True, text=True)
        self.version = shown.stdout.split()[-1]

    def shapes(self) -> Sequence[Shape]:
        """Its own benchmark, then Python in front where its client is installed."""
        own = [Shape(way=WAY, workers=1, batch=it) for it in TRANSFERS_PER_SECOND]
        if not _has_client():
            return own
        sizes = (256, BATCH_MAX)
        return [*own, *(Shape(way=PYTHON, workers=2, batch=it, is_python=True) for it in sizes)]

    def open_shapes(self) -> Sequence[Shape]:
        """None: its benchmark has no times at which transfers are due."""
        return []

    def measure(self, shape: Shape, seconds: float) -> Figures:
        """Runs one load."""
        if shape.is_python:
            arguments = ["tigerbeetle", self._address, str(shape.batch), str(seconds)]
            return driver.python_run(arguments, server=self._pid)
        count = max(shape.batch, round(TRANSFERS_PER_SECOND[shape.batch] * seconds))
        command = [self._binary, "benchmark", f"--addresses={self._address}"]
        command += [f"--account-count={ACCOUNTS}", "--account-count-hot=1"]
        command += [f"--transfer-batch-count={shape.batch}", f"--transfer-count={count}"]
        command += ["--query-count=0"]
        before = tree_cpu_seconds(self._pid)
        outcome = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS_MAX
        )
        used = tree_cpu_seconds(self._pid) - before
        text = outcome.stdout + outcome.stderr
        rate = re.search(r"load accepted = (\d+) tx/s", text)
        percentiles = dict(re.findall(r"batch latency p(\d+)\s*= (\d+) ms", text))
        if outcome.returncode != 0 or rate is None or not {"50", "99"} <= set(percentiles):
            sys.exit(f"bench: `{' '.join(command)}` failed: {text.strip()[-2000:]}")
        p50, p99 = float(percentiles["50"]), float(percentiles["99"])
        return Figures(
            pairs_per_second=int(rate[1]) / 2,
            call_p50_ms=p50,
            call_p99_ms=p99,
            pair_p50_ms=2 * p50,
            pair_p99_ms=2 * p99,
            # With the making of the accounts, which is a few hundredths of it.
            server_cpu_us=used * 1e6 / (count / 2),
        )


@contextmanager
def started(folder: Path, binary: str | None) -> Iterator[TigerBeetlePeer]:
    """Formats and starts a replica with its file in `folder`.

    Raises:
        Absent: No binary is named.
    """
    if binary is None:
        raise Absent("TigerBeetle is left out: name its binary with --tigerbeetle PATH")
    file = folder / "0_0.tigerbeetle"
    flags = ["--cluster=0", "--replica=0", "--replica-count=1"]
    subprocess.run([binary, "format", *flags, str(file)], check=True, capture_output=True)
    address = f"127.0.0.1:{free_port()}"
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [binary, "start", f"--addresses={address}", str(file)], stdout=output, stderr=output
        )
    try:
        end = time.monotonic() + START_SECONDS_MAX
        while "listening on" not in log.read_text():
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"bench: TigerBeetle did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        if _has_client():
            prepare = [sys.executable, "-m", "bench.peers.tigerbeetle_caller", address]
            subprocess.run(prepare, check=True, cwd=machine.ROOT)
        yield TigerBeetlePeer(binary, process.pid, address)
    finally:
        process.terminate()
        process.wait(timeout=30)
