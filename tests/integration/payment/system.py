"""Order and payment service over a real ledger server, all on one simulated clock.

Owns: the wiring. Ledger, orders, payments, webhook and sandbox are the real ones; only the wires
between the Python services are calls, and time is set by the test.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.unit.order.rebuilt import check_rebuild

from lastunit.client.aio import StockClient
from lastunit.order import store
from lastunit.order.core import OrderCore
from lastunit.order.persons import AccountState, PersonDirectory, ResolvedPerson
from lastunit.order.schema import ORDER_METADATA
from lastunit.order.settings import OrderSettings
from lastunit.order.v1 import order_pb2
from lastunit.order.v1 import order_service_pb2 as pb
from lastunit.payment import positions
from lastunit.payment.core import PaymentCore
from lastunit.payment.sandbox.core import SandboxCore
from lastunit.payment.sandbox.in_process import InProcessProvider
from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
from lastunit.payment.settings import PaymentSettings
from lastunit.payment.webhook import Webhook
from lastunit.prices.catalogue import plain
from lastunit.prices.quote import Prices
from lastunit.service.clock import SimulatedClock
from lastunit.service.database import Database
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import sqlalchemy as sa

    from lastunit.payment.sandbox.knobs import SandboxKnobs

KEY = b"a key of sixteen bytes"
FIRST_MS = 1_700_000_000_000
AMOUNT_MINOR = 84_000

# Between two tests on one ledger: longer than any reservation lives or payment takes.
APART_MS = 3_600_000


@dataclass
class LedgerProcess:
    """A running ledger server.

    Attributes:
        now_ms: Its manual clock.
        sale_count: Sales made on it so far.
    """

    process: subprocess.Popen[str]
    address: str
    settlement_address: str
    now_ms: int = FIRST_MS
    sale_count: int = 0

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        clock: str = "manual",
        addresses: tuple[str, str] = ("127.0.0.1:0", "127.0.0.1:0"),
    ) -> LedgerProcess:
        """Starts one and waits until it can be called."""
        command = [sys.executable, "-m", "lastunit_server", "serve"]
        options = {
            "--data-directory": str(directory),
            "--data-address": addresses[0],
            "--settlement-address": addresses[1],
            "--clock": clock,
            "--durability": "written",
            "--log-level": "error",
        }
        if clock == "manual":
            options["--manual-start-ms"] = str(FIRST_MS)
        flat = [word for pair in options.items() for word in pair]
        # A port beside one that is taken again may be anybody's by now.
        for listener in ("native.data_address", "native.settlement_address", "metrics.address"):
            flat += ["--set", f"{listener}="]
        process = subprocess.Popen([*command, *flat], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        return cls(process, ready["data"], ready["settlement"])

    def crash(self, directory: Path) -> None:
        """Kills it, and starts another on its directory and its addresses."""
        self.process.kill()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        addresses = (self.address, self.settlement_address)
        self.process = self.start(directory, clock="system", addresses=addresses).process

    def stop(self) -> None:
        """Stops it."""
        self.process.terminate()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait(30)


class EveryAccount:
    """Knows every account as a person of the same name."""

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        """Returns the persons."""
        return {
            each: ResolvedPerson(f"p-{each}", f"p-{each}", AccountState.ACTIVE)
            for each in account_ids
        }


class System:
    """Services around one sale of one SKU.

    Args:
        ledger: The server.
        directory: For the databases.
        units: Units of the sale.
        knobs: Faults of the provider.
        database: Keeps the tables in PostgreSQL.
    """

    def __init__(
        self,
        ledger: LedgerProcess,
        directory: Path,
        *,
        units: int = 1,
        knobs: SandboxKnobs | None = None,
        database: sa.URL | None = None,
    ) -> None:
        self.server = ledger
        self.units = units
        self.server.sale_count += 1
        self.sale_id = f"sale-{ledger.sale_count}"
        self.server.now_ms += APART_MS
        self.start_ms = self.server.now_ms
        self.clock = SimulatedClock(self.start_ms)
        self.client = StockClient(ledger.address, settlement_address=ledger.settlement_address)
        self.sandbox = SandboxCore(self.clock, key=KEY, knobs=knobs)

        def opened(metadata: sa.MetaData, file: str) -> Database:
            place = database or directory / file
            return Database(place, metadata, is_flushed=False, is_threaded=False)

        self.order_database = opened(ORDER_METADATA, "order.sqlite")
        self.payment_database = opened(PAYMENT_METADATA, "payment.sqlite")
        self.inbox = opened(INBOX_METADATA, "inbox.sqlite")
        self.webhook = Webhook(self.inbox, {"sandbox": [KEY]}, self.clock)
        self.prices = Prices(plain(default_minor=AMOUNT_MINOR))

    async def open(self) -> None:
        """Makes the sale; the services follow the journal from there."""
        await self.client.admin.set_clock(self.start_ms)
        note: dict[str, Any] = {"actor": "test", "reason": "test", "sale_id": self.sale_id}
        policy = sale_pb2.SalePolicy(is_unverified_release_allowed=True)
        await self._admin(
            "put_sale",
            admin_pb.PutSaleRequest(request_id=f"{self.sale_id}:1", policy=policy, **note),
        )
        place: dict[str, Any] = {"sku": "phone", "pool": "main", **note}
        await self._admin(
            "put_pool",
            admin_pb.PutPoolRequest(
                request_id=f"{self.sale_id}:2", position=1, is_offered=True, **place
            ),
        )
        reply = await self._admin(
            "supply_stock",
            admin_pb.SupplyStockRequest(request_id=f"{self.sale_id}:3", units=self.units, **place),
        )

        def skip_what_was(sequence: int) -> None:
            def in_orders(connection: sa.Connection) -> None:
                store.save_position(connection, sequence)

            def in_payments(connection: sa.Connection) -> None:
                positions.save(connection, "journal", sequence)

            self.order_database.writer.submit(in_orders).result()
            self.payment_database.writer.submit(in_payments).result()

        skip_what_was(reply.as_of_sequence)
        self.restart()

    async def supply(self, sku: str, pool: str, units: int, *, position: int = 1) -> None:
        """Adds a pool and its units to the sale."""
        key = f"{self.sale_id}:{sku}:{pool}"
        note: dict[str, Any] = {"actor": "test", "reason": "test", "sale_id": self.sale_id}
        place: dict[str, Any] = {"sku": sku, "pool": pool, **note}
        await self._admin(
            "put_pool",
            admin_pb.PutPoolRequest(
                request_id=f"{key}:1", position=position, is_offered=True, **place
            ),
        )
        await self._admin(
            "supply_stock",
            admin_pb.SupplyStockRequest(request_id=f"{key}:2", units=units, **place),
        )

    async def _admin(self, name: str, request: Any) -> Any:
        reply = await getattr(self.client.admin, name)(request)
        assert reply.is_ok, reply.response
        return reply

    def restart(self) -> None:
        """Makes the services anew, as after a crash: same files, nothing in memory."""
        self.payments = PaymentCore(
            database=self.payment_database,
            inbox=self.inbox,
            ledger=self.client,
            providers=[InProcessProvider(self.sandbox)],
            clock=self.clock,
            settings=PaymentSettings(),
            random=random.Random(5),
        )
        self.orders = OrderCore(
            database=self.order_database,
            ledger=self.client,
            persons=PersonDirectory(EveryAccount(), self.clock),
            payments=self.payments,
            prices=self.prices,
            clock=self.clock,
            settings=OrderSettings(),
        )

    async def check_rebuild(self) -> None:
        """Deletes the projections of the order database and rebuilds every row of them."""
        while await self.orders.follow_once():
            pass
        await check_rebuild(self.order_database, self.client, is_shared=True)

    async def close(self) -> None:
        """Closes databases and connections."""
        self.server.now_ms = self.clock.now_ms()
        await self.client.close()
        for database in (self.order_database, self.payment_database, self.inbox):
            database.close()

    # --- what buyers do ---

    async def place(
        self, buyer: str, *, units: int = 1, coupon_id: str = ""
    ) -> pb.PlaceOrderResponse:
        """Presses the button."""
        request = pb.PlaceOrderRequest(
            request_id=f"{self.sale_id}:{buyer}",
            account_id=f"{self.sale_id}:{buyer}",
            sale_id=self.sale_id,
            coupon_id=coupon_id,
        )
        request.lines.add(sku="phone", units=units)
        return await self.orders.place_order(request)

    async def pay(self, order_id: str, method: str = "card") -> pb.PayResponse:
        """Goes to the pay page; a method is one attempt."""
        return await self.orders.pay(
            pb.PayRequest(request_id=f"pay-{method}", order_id=order_id, method=method)
        )

    async def cancel(self, order_id: str) -> pb.CancelResponse:
        """Presses cancel."""
        return await self.orders.cancel(pb.CancelRequest(request_id="cancel", order_id=order_id))

    async def order(self, order_id: str) -> order_pb2.Order:
        """Looks at an order once everything is taken in."""
        await self.work()
        response = await self.orders.get_order(pb.GetOrderRequest(order_id=order_id))
        return response.order

    async def state(self, order_id: str) -> str:
        """Returns the state of an order by name."""
        order = await self.order(order_id)
        return order_pb2.OrderState.Name(order.state).removeprefix("ORDER_STATE_")

    # --- time ---

    async def work(self) -> None:
        """Runs every step until nothing is due at this instant."""
        while True:
            done = await self.payments.process_inbox_once()
            done += await self.payments.settle_once()
            done += await self.payments.refund_once()
            done += await self.payments.follow_once()
            done += await self.orders.follow_once()
            done += await self.orders.deliver_once()
            done += await self.payments.reconcile_once(self.clock.now_ms())
            if not done:
                return

    async def run_for(self, span_ms: int) -> None:
        """Lets time pass for everybody."""
        end_ms = self.clock.now_ms() + span_ms
        while True:
            for delivery in self.sandbox.deliveries_due(self.clock.now_ms()):
                await self.post(delivery.headers, delivery.raw_body)
            await self.work()
            if self.clock.now_ms() >= end_ms:
                return
            due = [
                self.payments.next_due_ms(),
                self.sandbox.next_delivery_ms(),
                # The ledger's own timers: what they do is seen within half a minute.
                self.clock.now_ms() + 30_000,
                end_ms,
            ]
            next_ms = min(each for each in due if each is not None)
            self.clock.advance_to(max(next_ms, self.clock.now_ms() + 1))
            await self.client.admin.set_clock(self.clock.now_ms())

    async def post(self, headers: dict[str, str], raw_body: bytes) -> int:
        """Posts a callback to the door; returns the status."""
        return (await self.webhook.receive("sandbox", headers, raw_body)).status

    # --- what must hold ---

    async def audit(self) -> None:
        """Holds the ledger and the provider's bill against each other."""
        audit = (await self.client.admin.audit()).response
        assert audit.holds, audit.findings
        reply = await self.client.get_availability(self.sale_id, skus=["phone"])
        counters = reply.response.availabilities[0].counters
        kept = [row for row in self.sandbox.bill() if row.refunded_minor < row.amount_minor]
        assert counters.sold <= self.units
        assert counters.sold == len(kept), "sold units and money that was kept differ"

    async def counters(self) -> dict[str, int]:
        """Returns the counters of the sale that are not 0."""
        reply = await self.client.get_availability(self.sale_id, skus=["phone"])
        counters = reply.response.availabilities[0].counters
        return {field.name: int(value) for field, value in counters.ListFields()}
