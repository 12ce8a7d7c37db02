"""Redis with a Function library, its append-only file flushed before each answer."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from bench.peers import driver
from bench.peers.shape import Absent, Figures, Shape, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WAY = "Redis function"
START_SECONDS_MAX = 10
UNITS = 10**12


class RedisPeer:
    """A Redis server that is up."""

    name = "Redis"

    def __init__(self, pid: int, port: int, version: str) -> None:
        self._pid = pid
        self._address = f"127.0.0.1:{port}"
        self.version = version

    def shapes(self) -> Sequence[Shape]:
        """One call at a time, then pipelines, then Python in front."""
        alone = [Shape(way=WAY, workers=workers) for workers in (1, 64, 512)]
        pipelines = [(64, 16), (8, 256), (4, 4096)]
        piped = [Shape(way=WAY, workers=workers, batch=batch) for workers, batch in pipelines]
        python = Shape(way=f"{WAY} from Python", workers=2, batch=256, is_python=True)
        return [*alone, *piped, python]

    def open_shapes(self) -> Sequence[Shape]:
        """Calls that share no pipeline."""
        return [Shape(way=WAY, workers=256)]

    def measure(self, shape: Shape, seconds: float) -> Figures:
        """Runs one load."""
        if shape.is_python:
            arguments = ["redis", self._address, str(shape.batch), str(seconds)]
            return driver.python_run(arguments, server=self._pid)
        return driver.run("redis", self._address, shape, seconds, server=self._pid)


@contextmanager
def started(folder: Path) -> Iterator[RedisPeer]:
    """Starts a server of its own with its files in `folder`, and supplies it.

    Raises:
        Absent: There is no redis-server.
    """
    binary = shutil.which("redis-server")
    if binary is None:
        raise Absent("Redis is left out: install it with `apt-get install redis-server`")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    # No rewrite of the file in the middle of a load.
    command += ["--auto-aof-rewrite-percentage", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            _await(client)
            library = (Path(__file__).parent / "stock.lua").read_text()
            client.function_load(library, replace=True)
            client.hset("stock:unit", mapping={"available": UNITS, "held": 0, "sold": 0})
            version = str(client.info("server")["redis_version"])
        yield RedisPeer(process.pid, port, version)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _await(client: redis.Redis) -> None:
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
