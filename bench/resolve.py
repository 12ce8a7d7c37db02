"""Measures what it costs to know who stands behind an account.

Owns: `python -m bench.resolve`. First the cost of a ResolvePerson call, cold from the database and
warm from memory, against an account service process of its own; then the hit rates of both
memories, the account service's and the order service's, over a whole sale (`lastunit run`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import machine
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.client.peer import PeerClient
from lastunit.run.job import Job, JobOptions
from lastunit.run.opening import register_accounts
from lastunit.run.sale import load_sale, resized
from lastunit.run.view import View
from lastunit.service.children import Child, stop_all

RESULT = machine.ROOT / "bench" / "results" / "resolve.json"
RESOLVE = "/lastunit.account.v1.AccountService/ResolvePerson"
BUYERS = 20_000
PER_CALL = (1, 16, 256)

# Callers at once: as many calls as the order service has under way.
CALLERS = 2


async def resolve_all(address: str, accounts: list[str], per_call: int) -> list[float]:
    """Resolves every account once; returns the milliseconds of each call."""
    peer = PeerClient(address)
    queue = [accounts[start : start + per_call] for start in range(0, len(accounts), per_call)]
    taken: list[float] = []

    async def caller() -> None:
        while queue:
            request = pb.ResolvePersonRequest(account_ids=queue.pop())
            began = time.perf_counter()
            answer = await peer.call(RESOLVE, request, pb.ResolvePersonResponse)
            taken.append((time.perf_counter() - began) * 1_000)
            assert all(each.home_person_id for each in answer.persons)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    await peer.close()
    return sorted(taken)


async def measure_calls(directory: Path, count: int) -> list[dict[str, Any]]:
    """Measures calls of several sizes, each cold after a restart and then warm."""
    words = ["account", "serve", "--proofs", "none", "--address", "127.0.0.1:0"]
    command = [sys.executable, "-m", "lastunit.cli", *words, "--log-level", "WARNING"]
    command += ["--data-directory", str(directory / "account")]
    service = Child("account", command, log_directory=directory)
    rows = []
    try:
        ready = await service.start()
        address = str(ready["address"])
        accounts = await register_accounts(address, count, on_progress=lambda _: None)
        for per_call in PER_CALL:
            # With one account a call, fewer of them: the calls are what is counted.
            some = accounts[: min(count, per_call * 2_000)]
            await stop_all([service])
            ready = await service.start()
            for memory in ("cold", "warm"):
                before = service.cpu_seconds()
                taken = await resolve_all(str(ready["address"]), some, per_call)
                cpu_seconds = service.cpu_seconds() - before
                rows.append(
                    {
                        "accounts_per_call": per_call,
                        "memory": memory,
                        "calls": len(taken),
                        "median_ms": round(taken[len(taken) // 2], 3),
                        "p99_ms": round(taken[len(taken) * 99 // 100], 3),
                        "service_cpu_us_per_call": round(cpu_seconds / len(taken) * 1e6),
                        "service_cpu_us_per_account": round(cpu_seconds / len(some) * 1e6, 1),
                    }
                )
    finally:
        await stop_all([service])
    return rows


def scrape(address: str) -> dict[str, float]:
    """Returns the samples of a service by name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as page:
        text = page.read().decode()
    samples = re.findall(r"^([^#\s]+(?:\{[^}]*\})?) ([0-9.e+-]+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in samples}


async def measure_sale(directory: Path, count: int) -> dict[str, Any]:
    """Runs the sale of `lastunit run` and reads both memories' counters at its end."""
    file = resized(
        load_sale(machine.ROOT / "examples" / "flash-sale.toml"), buyers=count, units=None
    )
    options = JobOptions(directory=directory / "sale", html=directory / "sale.html")
    options.directory.mkdir()
    job = Job(file, options, View(file, is_json=True))
    try:
        await job.run()
        order = scrape(job.services.metrics_addresses["order"])
        account = scrape(job.services.metrics_addresses["account"])
    finally:
        await job.stop()
    asked = 'lastunit_order_person_answers_total{source="%s"}'
    hits, misses = order[asked % "memory"], order[asked % "account service"]
    resolved = 'lastunit_account_resolved_total{source="%s"}'
    found, read = account[resolved % "memory"], account[resolved % "database"]
    calls = order["lastunit_order_person_calls_total"]
    return {
        "buyers": file.buyers.count,
        "sale_seconds": round(job.seconds, 1),
        "checks_hold": all(job.outcome.checks.values()),
        "order_questions": int(hits + misses),
        "order_hit_rate": round(hits / max(1, hits + misses), 4),
        "resolve_calls": int(calls),
        "accounts_per_resolve_call": round(misses / max(1, calls), 1),
        "account_hit_rate": round(found / max(1, found + read), 4),
    }


def main() -> None:
    """Measures, prints and keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=BUYERS, help="also the buyers of the sale")
    parser.add_argument("--no-sale", action="store_true", help="only the cost of calls")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lastunit-resolve-") as name:
        directory = Path(name)
        result: dict[str, Any] = {
            "machine": machine.facts(),
            "calls": asyncio.run(measure_calls(directory, arguments.accounts)),
        }
        if not arguments.no_sale:
            result["sale"] = asyncio.run(measure_sale(directory, arguments.accounts))
    Console().print_json(json.dumps(result))
    if not arguments.no_sale and arguments.accounts == BUYERS:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
