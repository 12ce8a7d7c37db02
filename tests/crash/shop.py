"""Kills of every process of a shop under load: `python -m tests.crash.shop --kills 200 --seed 1`.

Owns: the processes (ledger, webhook, sandbox with faults on, order and payment services, one or two
of each, on SQLite or PostgreSQL), the buyers, the kills, and at the end the comparison of the
provider's bill, the books, the orders and the ledger. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import grpc
import httpx
from google.protobuf.duration_pb2 import Duration
from tests.crash import shop_books
from tests.integration.payment.processes import Processes, account_server
from tests.integration.payment.system import LedgerProcess

from lastunit.client.aio import StockClient
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.order.v1 import order_service_pb2_grpc
from lastunit.stock.v1 import outcome_pb2, sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.postgres import PostgresServer

SALE = "flash"
PRICE_MINOR = 84_000
# Enough that some are left for most of a run: a refusal of the ledger costs no service anything.
UNITS = 400
# A call that is not answered in so long has lost its callee; it is repeated, elsewhere if it can.
CALL_SECONDS = 10.0
BUYER_SECONDS = 240.0
# Until every reservation has ended and every refund is done, once nobody is killed any more.
CALM_SECONDS = 240.0
# Between two kills, and until the killed one is started again.
KILL_PAUSE_SECONDS = (0.2, 1.2)
DOWN_SECONDS = (0.0, 1.0)

FAULTS = {
    "callback_delay_ms": 100,
    "callback_delay_mean_ms": 300,
    "loss_probability": 0.15,
    "duplicate_probability": 0.2,
    "duplicate_delay_ms": 1_500,
    "reorder_probability": 0.2,
    "reorder_delay_ms_max": 1_000,
    "create_silence_probability": 0.05,
    "retry_ms": [300, 1_000, 3_000],
}

POLICY = sale_pb2.SalePolicy(
    reservation_ttl=Duration(seconds=20),
    settle_by=Duration(seconds=15),
    retry_grace=Duration(seconds=5),
    max_life=Duration(seconds=60),
)


@dataclass
class Shop:
    """Everything that runs.

    Attributes:
        directory: For data and logs.
        seed: Of buyers and kills.
        copies: Processes of order and of payment, 1 or 2.
        server: PostgreSQL; None keeps the tables in SQLite.
        database: Its URL.
        kills: How often each was killed.
        endings: How the buyers ended.
    """

    directory: Path
    seed: int
    copies: int = 1
    server: PostgresServer | None = None
    database: str = ""
    kills: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._processes = Processes(self.directory)
        self._stack = contextlib.AsyncExitStack()
        self._commands: dict[str, tuple[str, ...]] = {}
        self._addresses: dict[str, str] = {}
        self._stack.callback(self._processes.stop_all)
        ledger_directory = self.directory / "ledger"
        self._ledger = await asyncio.to_thread(
            LedgerProcess.start, ledger_directory, clock="system"
        )
        self._stack.callback(self._stop_ledger)
        self.client = StockClient(
            self._ledger.address, settlement_address=self._ledger.settlement_address
        )
        self._stack.push_async_callback(self.client.close)
        accounts = await account_server()
        self._stack.push_async_callback(accounts.stop, 0)
        await self._open_sale()
        await asyncio.to_thread(self._start_all, accounts.address)
        self.http = httpx.AsyncClient(trust_env=False, timeout=30)
        self._stack.push_async_callback(self.http.aclose)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._stack.aclose()

    def _stop_ledger(self) -> None:
        # Another process by then than the one that was started here.
        self._ledger.stop()

    # --- processes ---------------------------------------------------------------------------

    def _start_all(self, accounts: str) -> None:
        place = ("--database", self.database) if self.database else ()
        own = (*place, "--data-directory", str(self.directory / "payment"))
        ledger = ("--ledger-address", self._ledger.address)
        ledger += ("--settlement-address", self._ledger.settlement_address)
        webhook = self._start("webhook", "lastunit.payment.cli", "webhook", *own)
        self.sandbox = self._processes.start_sandbox(webhook, json.dumps(FAULTS))
        payments = [
            self._start(
                f"payment-{number}",
                "lastunit.payment.cli",
                *("serve", *own, *ledger, "--provider-url", f"http://{self.sandbox}"),
                *("--time-scale", "0.02", "--seed", str(self.seed + number)),
            )
            for number in range(self.copies)
        ]
        order = ("--data-directory", str(self.directory / "order"), *place, *ledger)
        order += ("--account-address", accounts, "--price", f"phone={PRICE_MINOR}")
        # gRPC goes to the second when the first is not there.
        order += ("--payment-address", "ipv4:" + ",".join(payments), "--deadline-seconds", "10")
        self.orders = [
            self._start(f"order-{number}", "lastunit.order.cli", "serve", *order)
            for number in range(self.copies)
        ]

    def _start(self, name: str, module: str, *words: str) -> str:
        self._commands[name] = (module, *words)
        address = str(self._processes.start(name, module, *words)["address"])
        self._addresses[name] = address
        return address

    async def kill(self, name: str) -> None:
        """Kills one, waits a moment, and starts it again where it was."""
        self.kills[name] += 1
        down = self._random.uniform(*DOWN_SECONDS)
        if name == "ledger":
            await asyncio.to_thread(self._ledger.crash, self.directory / "ledger")
        elif name == "sessions":
            await asyncio.to_thread(self._end_sessions)
        elif name == "database":
            assert self.server is not None
            await asyncio.to_thread(self.server.stop, signal.SIGQUIT)
            await asyncio.sleep(down)
            await asyncio.to_thread(self.server.start)
        else:
            self._processes.kill(name)
            await asyncio.sleep(down)
            module, *words = self._commands[name]
            words += ["--address", self._addresses[name]]
            await asyncio.to_thread(self._processes.start, name, module, *words)

    def _end_sessions(self) -> None:
        assert self.server is not None
        with self.server.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'lastunit%'"
            )

    def victims(self) -> Sequence[str]:
        """Returns whom a kill may meet."""
        names = [name for name in self._commands if name != "webhook"] * 2 + ["webhook", "ledger"]
        return [*names, "sessions", "database"] if self.server is not None else names

    # --- the sale ----------------------------------------------------------------------------

    async def _open_sale(self) -> None:
        note: dict[str, Any] = {"actor": "test", "reason": "test", "sale_id": SALE}
        place: dict[str, Any] = {"sku": "phone", "pool": "main", **note}
        for name, request in (
            ("put_sale", admin_pb.PutSaleRequest(request_id="1", policy=POLICY, **note)),
            (
                "put_pool",
                admin_pb.PutPoolRequest(request_id="2", is_offered=True, position=1, **place),
            ),
            ("supply_stock", admin_pb.SupplyStockRequest(request_id="3", units=UNITS, **place)),
        ):
            reply = await getattr(self.client.admin, name)(request)
            assert reply.is_ok, reply

    async def _call(self, buyer: Buyer, method: str, request: Any) -> Any:
        """Calls an order service until one answers, each time with the same id."""
        while True:
            buyer.turn += 1
            address = self.orders[buyer.turn % len(self.orders)]
            try:
                async with grpc.aio.insecure_channel(address) as channel:
                    stub = order_service_pb2_grpc.OrderServiceStub(channel)
                    return await getattr(stub, method)(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                buyer.errors[error.code().name] += 1
                if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL):
                    raise
            await asyncio.sleep(0.1)

    async def _press(self, url: str) -> str:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                return str((await self.http.post(url)).json()["status"])
            await asyncio.sleep(0.1)

    async def buy(self, number: int) -> None:
        """Is one buyer: places, then pays, pays twice, cancels, or leaves."""
        rng = random.Random(f"{self.seed}-{number}")
        buyer = Buyer(turn=number)
        request = pb.PlaceOrderRequest(
            request_id=f"place-{number}", account_id=f"account-{number}", sale_id=SALE
        )
        request.lines.add(sku="phone", units=1)
        placed = await self._call(buyer, "PlaceOrder", request)
        if placed.outcome != outcome_pb2.OUTCOME_OK:
            self.endings["refused"] += 1
            await asyncio.sleep(0.2)
            return
        wish = rng.choices(("pay", "twice", "cancel", "leave", "both"), (60, 15, 8, 8, 9))[0]
        self.endings[wish] += 1
        if wish == "leave":
            return
        methods = ("card", "wallet") if wish == "twice" else ("card",)
        if wish != "cancel":
            for method in methods:
                await self._pay(buyer, placed.order_id, method, rng)
        if wish in ("cancel", "both"):
            cancel = pb.CancelRequest(request_id="cancel", order_id=placed.order_id)
            await self._call(buyer, "Cancel", cancel)

    async def _pay(self, buyer: Buyer, order_id: str, method: str, rng: random.Random) -> None:
        request = pb.PayRequest(request_id=f"pay-{method}", order_id=order_id, method=method)
        end = time.monotonic() + 20
        while time.monotonic() < end:
            paid = await self._call(buyer, "Pay", request)
            if paid.pay_url:
                await asyncio.sleep(rng.uniform(0, 1.5))
                await self._press(paid.pay_url)
                return
            if paid.outcome not in (outcome_pb2.OUTCOME_OK, outcome_pb2.OUTCOME_UNSPECIFIED):
                return
            await asyncio.sleep(0.5)

    async def run(self, *, kills: int, log: Callable[[str], None] = lambda _: None) -> None:
        """Lets buyers come for as long as there are kills to be made."""
        is_over = asyncio.Event()
        came = 0

        async def come() -> None:
            nonlocal came
            while not is_over.is_set():
                came += 1
                await asyncio.wait_for(self.buy(came), BUYER_SECONDS)

        async def kill_all() -> None:
            for done in range(kills):
                await asyncio.sleep(self._random.uniform(*KILL_PAUSE_SECONDS))
                name = self._random.choice(self.victims())
                await self.kill(name)
                log(f"{done + 1}: {name}")

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(come())
            await kill_all()
            is_over.set()

    async def settle(self) -> Sequence[str]:
        """Waits until everything has ended; returns what is wrong or stuck."""
        end = time.monotonic() + CALM_SECONDS
        while True:
            found = await self.examine()
            if not found or time.monotonic() > end:
                return found
            await asyncio.sleep(1)

    async def examine(self) -> Sequence[str]:
        """Compares bill, books, orders and ledger; returns what differs."""
        bill = (await self.http.get(f"http://{self.sandbox}/v1/bill")).json()["rows"]
        audit = (await self.client.admin.audit()).response
        reservations = await self._reservations()
        counters = (await self.client.get_availability(SALE, skus=["phone"])).response
        found = [str(each) for each in audit.findings]
        if not bill:
            found.append("nobody has paid: nothing was tried")
        sold = counters.availabilities[0].counters.sold
        kept = [row for row in bill if row["refunded_minor"] < row["amount_minor"]]
        if sold != len(kept) or sold > UNITS:
            found.append(f"{sold} units of {UNITS} are sold and {len(kept)} payments kept")
        orders, payments = shop_books.places(self.directory, self.database)
        found += shop_books.compare_money(payments, bill)
        found += shop_books.compare_orders(orders, reservations)
        return found

    async def _reservations(self) -> dict[str, str]:
        states: dict[str, str] = {}
        token = ""
        while True:
            page = (await self.client.list_reservations(SALE, page_token=token)).response
            for each in page.reservations:
                name = shop_books.state_name(each.state)
                states[each.reservation_id] = name
            token = page.next_page_token
            if not token:
                return states


@dataclass
class Buyer:
    """Remembers whom a buyer asks next, and what went wrong on the way."""

    turn: int
    errors: Counter[str] = field(default_factory=Counter)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def _main(arguments: argparse.Namespace, directory: Path) -> int:
    async with contextlib.AsyncExitStack() as stack:
        server, database = None, ""
        if arguments.database == "postgresql":
            from tests.postgres import PostgresServer

            server = await asyncio.to_thread(PostgresServer)
            stack.callback(server.close)
            database = server.url(stack.enter_context(server.database()))
        shop = Shop(directory, arguments.seed, arguments.copies, server, database)
        async with shop:
            await shop.run(kills=arguments.kills, log=_say)
            found = await shop.settle()
        summary = {"kills": dict(shop.kills), "buyers": dict(shop.endings), "found": list(found)}
        _say(json.dumps(summary, indent=2))
        return 1 if found else 0


def main() -> None:
    """Is the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--copies", type=int, choices=(1, 2), default=1)
    arguments = parser.parse_args()
    if arguments.copies > 1 and arguments.database == "sqlite":
        parser.error("two processes need --database postgresql: a file of SQLite has one writer")
    directory = Path(tempfile.mkdtemp(prefix="lastunit-shop-"))
    status = 1
    try:
        status = asyncio.run(_main(arguments, directory))
    finally:
        if status == 0:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            _say(f"kept: {directory}")
    sys.exit(status)


if __name__ == "__main__":
    main()
