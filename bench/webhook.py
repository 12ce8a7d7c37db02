"""Measures the webhook under callbacks at a stated rate, and counts what a kill loses.

Owns: "200 answers p99 at 2,000 a second", CPU for a callback, and that every callback that was
answered 200 is on disk. Open loop: latency counts from the moment a callback was due, so a stall
can't hide. A provider repeats what was not answered 200, and so does this one. Run it as
`python -m bench.webhook`; `--directory` on the disk that counts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine
from lastunit.payment.signature import sign

RESULTS = machine.ROOT / "bench" / "results"
KEY = "a key for the measurement"
CONNECTIONS = 64
WARM_SECONDS = 2.0
# How long a provider of this measurement waits before it says again what was not taken.
RETRY_SECONDS = 0.1
PATIENCE_SECONDS = 60.0
PERCENTILES = (50, 90, 99, 99.9, 100)


@dataclass
class Tally:
    """What was answered.

    Attributes:
        seconds: From the moment a callback was due until its 200, of those taken at the first try.
        late_seconds: The same, of those that had to be repeated.
        tries: Answers and failures of all tries, by what they were.
        answered: Events that were answered 200.
    """

    seconds: list[float] = field(default_factory=list)
    late_seconds: list[float] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)


class Webhook:
    """Is the webhook in a process of its own, on an address that outlives it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address = "127.0.0.1:0"
        self.cpu_seconds = 0.0
        self.start()

    def start(self) -> None:
        """Starts it, again on the same address, and waits until it can be called."""
        words = ["--data-directory", str(self._directory), "--address", self.address]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lastunit.payment.cli", "webhook", *words],
            stdout=subprocess.PIPE,
            env=os.environ | {"LASTUNIT_WEBHOOK_KEYS": KEY},
        )
        assert self.process.stdout is not None
        self.address = json.loads(self.process.stdout.readline())["address"]

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.cpu_seconds += machine.cpu_seconds(self.process.pid)
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Asks it to end."""
        self.cpu_seconds += machine.cpu_seconds(self.process.pid)
        self.process.terminate()
        self._reap()

    def used_seconds(self) -> float:
        """Returns the CPU that it has used so far, with those before it."""
        return self.cpu_seconds + machine.cpu_seconds(self.process.pid)

    def _reap(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(30)


def request_of(event_id: str, number: int) -> bytes:
    """Returns the bytes of one signed callback over HTTP."""
    body = json.dumps(
        {
            "event_id": event_id,
            "type": "payment.succeeded",
            "merchant_no": f"order-{number}:1",
            "provider_no": f"sandbox-{number}",
            "amount_minor": 84_000,
            "currency": "CNY",
            "occurred_at": time.time_ns() // 1_000_000,
            "state_version": 2,
        },
        separators=(",", ":"),
    ).encode()
    timestamp = str(int(time.time()))
    head = (
        "POST /v1/callbacks/sandbox HTTP/1.1\r\nhost: webhook\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"x-timestamp: {timestamp}\r\nx-event-id: {event_id}\r\n"
        f"x-signature: {sign(KEY.encode(), timestamp=timestamp, raw_body=body)}\r\n\r\n"
    )
    return head.encode() + body


class Provider:
    """Sends callbacks when they are due, over a bounded number of connections."""

    def __init__(self, webhook: Webhook, tally: Tally) -> None:
        self._webhook = webhook
        self._tally = tally
        self._due: asyncio.Queue[tuple[float, str, bytes]] = asyncio.Queue()

    async def run(self, *, name: str, rate: int, seconds: float) -> None:
        """Sends at a rate for so long, and until every callback was answered 200."""
        senders = [asyncio.create_task(self._send_all()) for _ in range(CONNECTIONS)]
        begin = time.perf_counter()
        for number in range(round(rate * seconds)):
            due = begin + number / rate
            wait = due - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            event_id = f"{name}-{number}"
            self._due.put_nowait((due, event_id, request_of(event_id, number)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._due.join()
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)

    async def _send_all(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while True:
                due, event_id, request = await self._due.get()
                is_first = True
                while True:
                    if connection is None:
                        connection = await self._connected()
                    try:
                        status = await _post(connection, request)
                    except (OSError, asyncio.IncompleteReadError):
                        connection[1].close()
                        connection, status = None, "broken off"
                    self._tally.tries[status] += 1
                    if status == "200":
                        break
                    is_first = False
                    await asyncio.sleep(RETRY_SECONDS)
                span = time.perf_counter() - due
                (self._tally.seconds if is_first else self._tally.late_seconds).append(span)
                self._tally.answered.add(event_id)
                self._due.task_done()
        finally:
            if connection is not None:
                connection[1].close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, _, port = self._webhook.address.rpartition(":")
        while True:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(host, int(port))
            self._tally.tries["no connection"] += 1
            await asyncio.sleep(RETRY_SECONDS)


async def _post(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes
) -> str:
    """Sends one request and returns the status of its answer."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = next(line for line in head.split("\r\n") if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return head.split(" ", 2)[1]


def figures(seconds: list[float]) -> dict[str, float]:
    """Returns the percentiles of spans, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "max" if each == PERCENTILES[-1] else f"p{each}": round(
            1_000 * ordered[min(len(ordered) - 1, int(len(ordered) * each / 100))], 2
        )
        for each in PERCENTILES
        if ordered
    }


def stored_in(directory: Path) -> set[str]:
    """Returns the events that are on disk."""
    with contextlib.closing(sqlite3.connect(directory / "inbox.sqlite")) as connection:
        return {row[0] for row in connection.execute("SELECT event_id FROM inbox")}


async def measure(directory: Path, *, rate: int, seconds: float, is_killed: bool) -> dict[str, Any]:
    """Sends callbacks at a rate, with a kill in the middle if asked for; returns the figures."""
    webhook = Webhook(directory)
    await Provider(webhook, Tally()).run(name="warm", rate=rate, seconds=WARM_SECONDS)
    tally = Tally()
    cpu_before = webhook.used_seconds()

    async def kill_later() -> None:
        await asyncio.sleep(seconds / 2)
        webhook.kill()
        await asyncio.to_thread(webhook.start)

    killing = asyncio.create_task(kill_later()) if is_killed else None
    begin = time.perf_counter()
    await Provider(webhook, tally).run(name="event", rate=rate, seconds=seconds)
    span = time.perf_counter() - begin
    if killing is not None:
        await killing
    cpu = webhook.used_seconds() - cpu_before
    webhook.stop()
    lost = tally.answered - stored_in(directory)
    count = len(tally.answered)
    return {
        "is_killed": is_killed,
        "rate_asked": rate,
        "rate_had": round(count / span, 1),
        "callbacks": count,
        "milliseconds": figures(tally.seconds),
        "milliseconds_of_repeated": figures(tally.late_seconds),
        "tries": dict(tally.tries),
        "cpu_microseconds_for_a_callback": round(1_000_000 * cpu / count, 1),
        "answered_and_lost": len(lost),
    }


def main() -> int:
    """Runs it quietly and killed; returns 1 if anything that was answered 200 is lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2_000, help="callbacks a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run")
    parser.add_argument("--runs", type=int, default=3, help="without a kill; one more has it")
    parser.add_argument("--directory", type=Path, help="for the inbox; a temporary one if left out")
    parser.add_argument("--no-record", action="store_true", help="write no file into results/")
    options = parser.parse_args()
    runs = []
    for number in range(options.runs + 1):
        is_killed = number == options.runs
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            run = asyncio.run(
                measure(
                    Path(directory),
                    rate=options.rate,
                    seconds=options.seconds,
                    is_killed=is_killed,
                )
            )
        print(json.dumps(run), flush=True)
        runs.append(run)
    if not options.no_record:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        command = " ".join(["python", "-m", "bench.webhook", *sys.argv[1:]])
        record = {"machine": machine.facts(), "command": command, "runs": runs}
        (RESULTS / f"webhook-{stamp}.json").write_text(json.dumps(record, indent=1) + "\n")
    return 1 if any(run["answered_and_lost"] for run in runs) else 0


if __name__ == "__main__":
    raise SystemExit(main())
