"""Makes the order database three times slower in the middle of a full-rate run, twice.

Owns the figures "goodput of what the database can do", "settlement delay" and "time to recover":
once with the adaptive policy (bucket and credit window), once with the static bucket alone. Ledger,
account and order service are real processes; buyers press open-loop, 2.5 times as often as the
database can write, and give up after a second. A settlement is timed from the provider's word at
the ledger until the order shows it, so it includes one turn of the database.
Run it as `python -m bench.slow_database`: 20 s quick, 20 s slow, 20 s quick, for each policy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from bench import machine
from bench.slow_order import SLOWER
from lastunit.client.aio import StockClient
from lastunit.client.outcomes import PaymentResult
from lastunit.order.v1 import order_pb2, order_service_pb2_grpc
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.run.opening import open_sale, register_accounts
from lastunit.run.sale import Buyers, Pool, Provider, Run, Sale, SaleFile
from lastunit.service.children import Child, stop_all
from lastunit.stock.v1 import outcome_pb2

RESULTS = machine.ROOT / "bench" / "results"
SALE, SKU = "slow", "unit"
PATIENCE_SECONDS = 1.0
OFFERED_FACTOR = 2.5
BUCKET_SHARE = 0.95
PROBES_PER_SECOND = 2.0
PHASES = ("quick", "slow", "after")
BUCKET = "version = 1\n[lanes.reservation]\nrate_per_second = {rate}\nburst = {burst}\n"
FLOOR = "floor_rate_per_second = 1\nfloor_burst = 1\n"
WINDOW = "[window]\ncredits_max = {most}\ncredits_min = {least}\n" + FLOOR


@dataclass
class Seen:
    """What one run saw: seconds since its start, and what came then."""

    acknowledged: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    given_up: list[float] = field(default_factory=list)
    settled: list[tuple[float, float]] = field(default_factory=list)
    granted_count: int = 0
    written_count: int = 0


class Bench:
    """One run over one policy."""

    def __init__(self, arguments: argparse.Namespace, policy: str, directory: Path) -> None:
        self.rate, self.seconds = arguments.rate, arguments.seconds
        self.directory = directory
        directory.mkdir(parents=True)
        (directory / "policy.toml").write_text(policy)
        self.children: list[Child] = []
        self.seen = Seen()
        self.start = 0.0

    async def child(self, name: str, words: list[str]) -> dict[str, Any]:
        """Starts a process and returns its ready line."""
        child = Child(name, [sys.executable, "-m", *words], log_directory=self.directory)
        self.children.append(child)
        return dict(await child.start())

    async def run(self) -> Seen:
        """Runs all phases."""
        try:
            return await self._run()
        finally:
            await stop_all(list(reversed(self.children)))

    async def _run(self) -> Seen:
        any_port = "127.0.0.1:0"
        ledger = await self.child(
            "ledger",
            [
                *("lastunit_server", "serve", "--data-address", any_port),
                *("--settlement-address", any_port, "--metrics-address", ""),
                *("--set", "native.data_address=", "--set", "native.settlement_address="),
                *("--data-directory", str(self.directory / "ledger"), "--log-level", "warning"),
                *("--admission-file", str(self.directory / "policy.toml")),
            ],
        )
        account = await self.child(
            "account",
            [
                *("lastunit.cli", "account", "serve", "--address", any_port),
                *("--data-directory", str(self.directory / "account"), "--log-level", "WARNING"),
            ],
        )
        order = await self.child(
            "order",
            [
                *("bench.slow_order", "serve", "--address", any_port, "--price", f"{SKU}=1"),
                *("--ledger-address", ledger["data"]),
                *("--settlement-address", ledger["settlement"]),
                *("--account-address", account["address"], "--payment-address", "127.0.0.1:1"),
                *("--data-directory", str(self.directory / "order"), "--log-level", "ERROR"),
                *("--database-rate", str(self.rate)),
            ],
        )
        client = StockClient(
            ledger["data"], settlement_address=ledger["settlement"], caller="bench"
        )
        count = int(3 * self.seconds * self.rate * OFFERED_FACTOR) + 1_000
        await open_sale(client, sale_file(count))
        accounts = await register_accounts(
            account["address"], count, on_progress=lambda _count: None
        )
        async with grpc.aio.insecure_channel(order["address"]) as channel:
            stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
            await self._phases(stub, client, accounts)
        counters = (await client.get_availability(SALE)).response.availabilities[0].counters
        self.seen.granted_count = counters.held + counters.paying + counters.sold
        await client.close()
        return self.seen

    async def _phases(self, stub: Any, client: StockClient, accounts: list[str]) -> None:
        probes = await self._place_ahead(stub, accounts)
        self.start = time.monotonic()
        probing = asyncio.create_task(self._probe(stub, client, probes))
        switching = asyncio.create_task(self._switch())
        presses: set[asyncio.Task[None]] = set()
        interval = 1 / (self.rate * OFFERED_FACTOR)
        while (now := time.monotonic() - self.start) < 3 * self.seconds:
            for _ in range(int(now / interval) - len(presses)):
                presses.add(asyncio.create_task(self._press(stub, accounts.pop())))
            await asyncio.sleep(interval)
        await asyncio.gather(*presses)
        probing.cancel()
        await switching
        with contextlib.suppress(asyncio.CancelledError):
            await probing

    async def _place_ahead(self, stub: Any, accounts: list[str]) -> list[str]:
        """Places the orders that will be settled, before anybody presses."""
        orders: list[str] = []
        while len(orders) < 3 * self.seconds * PROBES_PER_SECOND + 10:
            account = accounts.pop()
            with contextlib.suppress(grpc.aio.AioRpcError):
                placed = await stub.PlaceOrder(press_of(account), timeout=10)
                orders.append(placed.order_id)
        return orders

    async def _switch(self) -> None:
        order = next(child for child in self.children if child.name == "order")
        await asyncio.sleep(self.start + self.seconds - time.monotonic())
        order.send(signal.SIGUSR1)
        await asyncio.sleep(self.start + 2 * self.seconds - time.monotonic())
        order.send(signal.SIGUSR2)

    async def _press(self, stub: Any, account: str) -> None:
        begun = time.monotonic() - self.start
        try:
            placed = await stub.PlaceOrder(press_of(account), timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            is_refusal = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            (self.seen.refused if is_refusal else self.seen.given_up).append(begun)
            return
        is_held = placed.outcome == outcome_pb2.OUTCOME_OK
        (self.seen.acknowledged if is_held else self.seen.refused).append(
            time.monotonic() - self.start
        )

    async def _probe(self, stub: Any, client: StockClient, orders: list[str]) -> None:
        for number, order_id in enumerate(orders):
            due = self.start + number / PROBES_PER_SECOND
            await asyncio.sleep(due - time.monotonic())
            attempt = f"{order_id}:1"
            begun = await client.begin_payment(attempt, reservation_id=order_id, provider="bench")
            if not begun.is_ok:
                continue
            told = time.monotonic()
            await client.settle_payment(
                f"settle-{attempt}",
                reservation_id=order_id,
                attempt_id=attempt,
                payment_result=PaymentResult.SUCCEEDED,
            )
            while True:
                shown = await stub.GetOrder(pb.GetOrderRequest(order_id=order_id))
                if shown.order.state == order_pb2.ORDER_STATE_PAID:
                    break
                await asyncio.sleep(0.005)
            self.seen.settled.append((told - self.start, time.monotonic() - told))


def press_of(account: str) -> pb.PlaceOrderRequest:
    """Makes the one request of an account."""
    request = pb.PlaceOrderRequest(request_id=f"p-{account}", account_id=account, sale_id=SALE)
    request.lines.add(sku=SKU, units=1)
    return request


def sale_file(count: int) -> SaleFile:
    """Makes a sale in which nobody is too late."""
    return SaleFile(
        sale=Sale(sale_id=SALE, sku=SKU, unit_amount_minor=1),
        pools=(Pool(pool="main", units=count),),
        buyers=Buyers(count=count),
        provider=Provider(),
        run=Run(time_scale=1.0),
    )


def figures(seen: Seen, rate: float, seconds: float) -> dict[str, Any]:
    """Sums a run up by phase."""
    rows: dict[str, Any] = {}
    for number, name in enumerate(PHASES):
        begin, end = number * seconds, (number + 1) * seconds
        can = rate / (SLOWER if name == "slow" else 1.0)
        within = [each for each in seen.acknowledged if begin <= each < end]
        settled = sorted(each for at, each in seen.settled if begin <= at < end)
        turns = [each for each in seen.settled if begin <= each[0] < end]
        rows[name] = {
            "database_can_per_second": round(can, 1),
            # A settlement that was timed took a turn of the database too.
            "goodput_share": round((len(within) + len(turns)) / (can * seconds), 3),
            "refused": sum(begin <= each < end for each in seen.refused),
            "given_up": sum(begin <= each < end for each in seen.given_up),
            "settled_p50_ms": round(1_000 * settled[len(settled) // 2]) if settled else None,
            "settled_max_ms": round(1_000 * settled[-1]) if settled else None,
        }
    rows["recovered_after_seconds"] = recovered(seen, rate, seconds)
    return rows


def recovered(seen: Seen, rate: float, seconds: float) -> float | None:
    """Tells after how long a whole second reached 90 % of what the database can do again."""
    step = 0.1
    for number in range(int((seconds - 1.0) / step)):
        begin = 2 * seconds + number * step
        if sum(begin <= each < begin + 1.0 for each in seen.acknowledged) >= 0.9 * rate:
            return round(number * step, 1)
    return None


def main() -> None:
    """Runs both policies and writes what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=60.0, help="transactions a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--out", type=Path, default=RESULTS / "slow-database.json")
    arguments = parser.parse_args()
    rate = BUCKET_SHARE * arguments.rate
    bucket = BUCKET.format(rate=rate, burst=max(1, round(rate / 10)))
    # What the database writes in two intervals of reports: fewer would leave it idle between them.
    least = max(4, round(0.2 * arguments.rate))
    window = WINDOW.format(least=least, most=max(16, round(arguments.rate)))
    result: dict[str, Any] = {
        "command": "python -m bench.slow_database",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.facts(),
        "arguments": {"rate": arguments.rate, "seconds": arguments.seconds},
    }
    with tempfile.TemporaryDirectory(prefix="lastunit-slow-") as folder:
        for name, policy in (("bucket_and_window", bucket + window), ("bucket_alone", bucket)):
            seen = asyncio.run(Bench(arguments, policy, Path(folder) / name).run())
            result[name] = figures(seen, arguments.rate, arguments.seconds)
            result[name]["granted"] = seen.granted_count
            result[name]["acknowledged"] = len(seen.acknowledged)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
