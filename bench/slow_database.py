"""Makes the order database three times slower in the middle of a full-rate run, four times.

Owns the runs: the static bucket alone and the bucket with the credit window, each before front
ends that end a call when its buyer gives up, and before front ends that do not (a page that was
closed tells nobody: the call goes on, and the order is written down for someone who has left).
Ledger, account and order service are real processes; buyers press open-loop, 2.5 times as often as
the database can write, and give up after a second. A settlement is timed from the provider's word
at the ledger until the order shows it.
Run it as `python -m bench.slow_database`: 20 s quick, 20 s slow, 20 s quick, for each of the four.
Next: `slow_figures` for what is made of it.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
from prometheus_client.parser import text_string_to_metric_families

from bench import machine
from bench.slow_figures import PATIENCE_SECONDS, UNITS_PER_SETTLEMENT, Seen, figures
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
OFFERED_FACTOR = 2.5
# The bucket leaves settlement the rest of what the database can do.
BUCKET_SHARE = 0.95
PROBES_UNLOADED = 10
LOOK_SECONDS = 0.5
# The middle of a full-rate run is what is looked at, not its first seconds.
WARM_UP_SECONDS = 3.0
# Longer than any run: the front end that never hears of the buyer who left.
CALL_SECONDS = 3_600.0
BUCKET = "version = 1\n[lanes.reservation]\nrate_per_second = {rate}\nburst = {burst}\n"
WINDOW = (
    "[window]\ncredits_max = {most}\ncredits_min = 4\ntarget_delay_ms = 250\n"
    "floor_rate_per_second = {floor}\nfloor_burst = 1\n"
    # One machine carries every service and all buyers: a report may be late without being lost.
    "reports_missed_max = 10\n"
)


@dataclass(frozen=True)
class Scenario:
    """One of the runs.

    Attributes:
        name: In the result.
        policy: The ledger's admission.
        call_seconds: When a front end ends a call.
    """

    name: str
    policy: str
    call_seconds: float


class Bench:
    """One run."""

    def __init__(self, scenario: Scenario, directory: Path, rate: float, seconds: float) -> None:
        self.scenario, self.directory = scenario, directory
        self.rate, self.seconds = rate, seconds
        self.probes_per_second = (1 - BUCKET_SHARE) * rate / UNITS_PER_SETTLEMENT
        directory.mkdir(parents=True)
        (directory / "policy.toml").write_text(scenario.policy)
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
                *("--proofs", "none"),
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
        run_seconds = WARM_UP_SECONDS + 3 * self.seconds
        count = int(run_seconds * self.rate * OFFERED_FACTOR) + 1_000
        await open_sale(client, sale_file(count))
        accounts = await register_accounts(
            account["address"], count, on_progress=lambda _count: None
        )
        async with grpc.aio.insecure_channel(order["address"]) as channel:
            stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
            probes = await self._place_ahead(stub, accounts)
            for order_id in (probes.pop() for _ in range(PROBES_UNLOADED)):
                self.seen.unloaded.append((await self._settle(stub, client, order_id))[1])
            before = await granted(client)
            await self._phases(stub, client, accounts, probes, order["metrics"])
            self.seen.granted_count = await granted(client) - before
        await client.close()
        return self.seen

    async def _phases(
        self, stub: Any, client: StockClient, accounts: list[str], probes: list[str], metrics: str
    ) -> None:
        self.start = time.monotonic() + WARM_UP_SECONDS
        beside = [
            asyncio.create_task(self._probe(stub, client, probes)),
            asyncio.create_task(self._look(metrics)),
        ]
        switching = asyncio.create_task(self._switch())
        presses: list[asyncio.Task[None]] = []
        interval = 1 / (self.rate * OFFERED_FACTOR)
        while (now := time.monotonic() - self.start) < 3 * self.seconds:
            due = int((now + WARM_UP_SECONDS) / interval)
            presses.extend(
                asyncio.create_task(self._press(stub, accounts.pop()))
                for _ in range(due - len(presses))
            )
            await asyncio.sleep(interval)
        await switching
        # Who still waits for an order has long given up; what failed must show.
        for task in (*beside, *presses):
            task.cancel()
        for ended in await asyncio.gather(*beside, *presses, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _place_ahead(self, stub: Any, accounts: list[str]) -> list[str]:
        """Places the orders that will be settled, before anybody presses."""
        orders: list[str] = []
        wanted = 3 * self.seconds * self.probes_per_second + PROBES_UNLOADED + 10
        while len(orders) < wanted:
            account = accounts.pop()
            with contextlib.suppress(grpc.aio.AioRpcError):
                placed = await stub.PlaceOrder(press_of(account), timeout=10)
                if placed.outcome == outcome_pb2.OUTCOME_OK:
                    orders.append(placed.order_id)
                    continue
            # Full, or the order service has yet to report for the first time.
            await asyncio.sleep(1 / self.rate)
            accounts.insert(0, account)
        return orders

    async def _switch(self) -> None:
        order = next(child for child in self.children if child.name == "order")
        await asyncio.sleep(self.start + self.seconds - time.monotonic())
        order.send(signal.SIGUSR1)
        await asyncio.sleep(self.start + 2 * self.seconds - time.monotonic())
        order.send(signal.SIGUSR2)

    async def _press(self, stub: Any, account: str) -> None:
        begun = time.monotonic()
        try:
            placed = await stub.PlaceOrder(press_of(account), timeout=self.scenario.call_seconds)
        except grpc.aio.AioRpcError as error:
            is_refusal = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            (self.seen.refused if is_refusal else self.seen.unanswered).append(begun - self.start)
            return
        now = time.monotonic()
        if placed.outcome == outcome_pb2.OUTCOME_OK:
            self.seen.acknowledged.append((now - self.start, now - begun))
        else:
            self.seen.refused.append(begun - self.start)

    async def _probe(self, stub: Any, client: StockClient, orders: list[str]) -> None:
        for number, order_id in enumerate(orders):
            due = self.start + number / self.probes_per_second
            await asyncio.sleep(due - time.monotonic())
            told, took = await self._settle(stub, client, order_id)
            self.seen.settled.append((told - self.start, took))

    async def _settle(self, stub: Any, client: StockClient, order_id: str) -> tuple[float, float]:
        """Settles an order; gives when the provider's word came, and how long it took to show."""
        attempt = f"{order_id}:1"
        begun = await client.begin_payment(attempt, reservation_id=order_id, provider="bench")
        assert begun.is_ok, begun.outcome
        await shows(stub, order_id, order_pb2.ORDER_STATE_PAYING)
        told = time.monotonic()
        await client.settle_payment(
            f"settle-{attempt}",
            reservation_id=order_id,
            attempt_id=attempt,
            payment_result=PaymentResult.SUCCEEDED,
        )
        await shows(stub, order_id, order_pb2.ORDER_STATE_PAID)
        return told, time.monotonic() - told

    async def _look(self, metrics: str) -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            while True:
                page = (await http.get(f"http://{metrics}/metrics")).text
                values = {
                    sample.name: sample.value
                    for family in text_string_to_metric_families(page)
                    for sample in family.samples
                    if sample.name.startswith("lastunit_database_")
                }
                units, queued = (
                    int(values[f"lastunit_database_{name}"])
                    for name in ("units_total", "queued_units")
                )
                self.seen.looks.append((time.monotonic() - self.start, units, queued))
                await asyncio.sleep(LOOK_SECONDS)


async def shows(stub: Any, order_id: str, state: int) -> None:
    """Waits until an order shows a state."""
    while True:
        shown = await stub.GetOrder(pb.GetOrderRequest(order_id=order_id))
        if shown.order.state == state:
            return
        await asyncio.sleep(0.005)


async def granted(client: StockClient) -> int:
    """Counts the reservations that the ledger has granted."""
    counters = (await client.get_availability(SALE)).response.availabilities[0].counters
    return counters.held + counters.paying + counters.sold


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


def scenarios(rate: float) -> list[Scenario]:
    """Makes the four runs over a database that does so many units of work a second."""
    admitted = BUCKET_SHARE * rate
    bucket = BUCKET.format(rate=admitted, burst=max(1, round(rate / 4)))
    # A quarter of a buyer's patience may be spent on waiting for the database.
    window = WINDOW.format(most=max(4, round(rate / 2)), floor=admitted / 10)
    return [
        Scenario(f"{policy_name}, {front_name}", policy, call_seconds)
        for front_name, call_seconds in (
            ("front end keeps on", CALL_SECONDS),
            ("front end ends the call", PATIENCE_SECONDS),
        )
        for policy_name, policy in (
            ("bucket and window", bucket + window),
            ("bucket alone", bucket),
        )
    ]


def main() -> None:
    """Runs all scenarios and writes what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=60.0, help="units of work a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each phase")
    parser.add_argument("--out", type=Path, default=RESULTS / "slow-database.json")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "command": " ".join(["python -m bench.slow_database", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.facts(),
        "arguments": {"rate": arguments.rate, "seconds": arguments.seconds},
    }
    with tempfile.TemporaryDirectory(prefix="lastunit-slow-") as folder:
        for number, scenario in enumerate(scenarios(arguments.rate)):
            directory = Path(folder) / str(number)
            bench = Bench(scenario, directory, arguments.rate, arguments.seconds)
            seen = asyncio.run(bench.run())
            result[scenario.name] = figures(seen, arguments.rate, arguments.seconds)
            print(json.dumps({scenario.name: result[scenario.name]}, indent=1), flush=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
