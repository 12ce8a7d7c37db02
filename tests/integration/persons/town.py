"""A ledger, an account and an order service over gRPC, and people with many accounts.

Owns: the wiring, and what people do. Next: `interleaving` lets them do it at the same time,
`proof` checks what came of it.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from lastunit.account import _tables
from lastunit.account.feeding import LedgerFeeder
from lastunit.account.keys import KeyRing
from lastunit.account.ledger import StockLedger
from lastunit.account.linking import Linking
from lastunit.account.name_checker import SandboxChecker
from lastunit.account.ports import Means
from lastunit.account.proving import Checked
from lastunit.account.real_names import RealNames
from lastunit.account.registering import Registrar
from lastunit.account.resolving import Directory
from lastunit.account.reversing import Reversing
from lastunit.account.servicer import SERVICE_NAME as ACCOUNT_SERVICE
from lastunit.account.servicer import AccountServicer
from lastunit.account.v1 import account_service_pb2 as account_pb
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.account.vault import FixedKeys, Vault
from lastunit.account.watching import PersonWatch as AccountWatch
from lastunit.client.aio import StockClient
from lastunit.client.peer import PeerClient
from lastunit.order.core import OrderCore
from lastunit.order.grpc_service import SERVICE_NAME as ORDER_SERVICE
from lastunit.order.grpc_service import OrderServicer
from lastunit.order.peers import GrpcAccounts
from lastunit.order.person_watch import PersonWatch
from lastunit.order.persons import PersonDirectory
from lastunit.order.schema import ORDER_METADATA
from lastunit.order.settings import OrderSettings
from lastunit.order.v1 import order_service_pb2 as order_pb
from lastunit.order.v1 import order_service_pb2_grpc
from lastunit.prices.catalogue import plain
from lastunit.prices.quote import Prices
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database
from lastunit.service.server import ServiceServer
from lastunit.service.steps import Background, take_in_batches
from lastunit.stock.v1 import outcome_pb2, sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import sqlalchemy as sa
    from tests.integration.payment.system import LedgerProcess

    from lastunit.stock.v1 import event_pb2

KEY = bytes(range(32))
SKU = "phone"
UNITS = 12
DEADLINE_SECONDS = 60


class SessionsOfAnybody:
    """Takes the token `s-` and an account's id: who logs in how is another test's affair."""

    def check(self, _connection: sa.Connection, proof: account_pb.Proof, _now_ms: int) -> Checked:
        """Believes it."""
        return Checked(proof.session_token[2:], account_pb.REFUSAL_UNSPECIFIED)


class NobodyTold:
    """Sends no notice."""

    def put(self, _connection: sa.Connection, **_notice: Any) -> int:
        """Drops it."""
        return 0


@dataclass(frozen=True)
class Member:
    """Is one account of a human.

    Attributes:
        account_id: What they order with.
        home_person_id: Whom the ledger counts it under.
    """

    account_id: str
    home_person_id: str


class Town:
    """Everything, started; close it by `async with open_town(…)`.

    Args:
        ledger: A running ledger.
        directory: For the databases.
    """

    def __init__(self, ledger: LedgerProcess, directory: Path) -> None:
        self._numbers = itertools.count(1)
        self._run = secrets.token_hex(4)
        self.ledger = StockClient(
            ledger.address,
            settlement_address=ledger.settlement_address,
            deadline_seconds=DEADLINE_SECONDS,
        )
        self._account_database = Database(
            directory / "account.sqlite", _tables.metadata, is_flushed=False
        )
        self._order_database = Database(
            directory / "order.sqlite", ORDER_METADATA, is_flushed=False
        )
        self._accounts_server = ServiceServer("account", service_names=[ACCOUNT_SERVICE])
        self._orders_server = ServiceServer("order", service_names=[ORDER_SERVICE])
        self._background = Background()
        self._open = contextlib.AsyncExitStack()

    def new(self, kind: str) -> str:
        """Returns an id that was never used before."""
        return f"{kind}-{self._run}-{next(self._numbers)}"

    # --- wiring ---

    async def start(self) -> None:
        """Starts both services and their loops."""
        accounts_address = await self._start_accounts()
        peer = PeerClient(accounts_address, deadline_seconds=DEADLINE_SECONDS)
        self._open.push_async_callback(peer.close)
        port = GrpcAccounts(peer)
        self.directory = PersonDirectory(port, SystemClock())
        self.person_watch = PersonWatch(
            database=self._order_database, accounts=port, directory=self.directory
        )
        self.orders = OrderCore(
            database=self._order_database,
            ledger=self.ledger,
            persons=self.directory,
            payments=None,  # type: ignore[arg-type] # nobody gets as far as to pay
            prices=Prices(plain(default_minor=84_000)),
            clock=SystemClock(),
            settings=OrderSettings(),
        )
        order_service_pb2_grpc.add_OrderServiceServicer_to_server(
            OrderServicer(self.orders), self._orders_server.grpc
        )
        address = await self._orders_server.start()
        self._background.start(
            take_in_batches(self._events, self.orders.follower.take, name="follow", batch_max=256)
        )
        self._background.start(
            take_in_batches(
                self.person_watch.messages, self.person_watch.take, name="persons", batch_max=256
            )
        )
        self.account_stub: Any = account_service_pb2_grpc.AccountServiceStub(
            await self._channel(accounts_address)
        )
        self.order_stub: Any = order_service_pb2_grpc.OrderServiceStub(await self._channel(address))

    async def _start_accounts(self) -> str:
        clock = SystemClock()
        vault = Vault(FixedKeys(KeyRing.single(KEY)))
        directory = Directory(self._account_database)
        self.account_watch = AccountWatch(self._account_database, directory)
        means = Means(
            database=self._account_database,
            clock=clock,
            vault=vault,
            directory=directory,
            feed=LedgerFeeder(self._account_database, StockLedger(self.ledger.admin)),
            proofs=SessionsOfAnybody(),
            notices=NobodyTold(),
            new_id=lambda: secrets.token_hex(10),
            notify=self.account_watch.notify,
        )
        registrar = Registrar(self._account_database, vault=vault, clock=clock, directory=directory)
        parts = [
            directory,
            registrar,
            RealNames(means, SandboxChecker()),
            Linking(means),
            Reversing(means),
            self.account_watch,
        ]
        account_service_pb2_grpc.add_AccountServiceServicer_to_server(
            AccountServicer(parts), self._accounts_server.grpc
        )
        return await self._accounts_server.start()

    async def _channel(self, address: str) -> grpc.aio.Channel:
        return await self._open.enter_async_context(grpc.aio.insecure_channel(address))

    async def _events(self) -> AsyncIterator[event_pb2.Event]:
        async for event in self.ledger.read_events(
            self.orders.follower.position, follow=True, page_size=256
        ):
            yield event

    async def close(self) -> None:
        """Stops everything but the ledger."""
        await self._background.stop()
        self.account_watch.close()
        await self._open.aclose()
        await self._orders_server.stop(0)
        await self._accounts_server.stop(0)
        await self.ledger.close()
        self._order_database.close()
        self._account_database.close()

    # --- what people do ---

    async def open_sale(self, limit: int = 1) -> str:
        """Opens a sale of twelve phones with a limit for each person; returns its id."""
        sale_id = self.new("sale")
        note: dict[str, Any] = {"actor": "test", "reason": "test", "sale_id": sale_id}
        policy = sale_pb2.SalePolicy(
            units_per_person_max=limit, unpaid_reservations_per_person_max=0
        )
        pool: dict[str, Any] = {**note, "sku": SKU, "pool": "main"}
        admin = self.ledger.admin
        replies: list[Any] = [
            await admin.put_sale(
                admin_pb.PutSaleRequest(request_id=f"{sale_id}:1", policy=policy, **note)
            ),
            await admin.put_pool(
                admin_pb.PutPoolRequest(request_id=f"{sale_id}:2", is_offered=True, **pool)
            ),
            await admin.supply_stock(
                admin_pb.SupplyStockRequest(request_id=f"{sale_id}:3", units=UNITS, **pool)
            ),
        ]
        assert all(reply.is_ok for reply in replies), replies
        return sale_id

    async def sign_up(self, count: int) -> list[Member]:
        """Registers accounts."""
        registrations = []
        for _ in range(count):
            request = account_pb.RegisterRequest(request_id=self.new("register"))
            request.identifier.email = f"{request.request_id}@example.org"
            registrations.append(request)
        answer = await self.account_stub.RegisterAccounts(
            account_pb.RegisterAccountsRequest(registrations=registrations)
        )
        members = [Member(each.account_id, each.home_person_id) for each in answer.results]
        assert all(each.account_id for each in members), answer
        return members

    async def bind(self, member: Member, number: str) -> account_pb.BindRealNameResponse:
        """Proves a real name."""
        request = account_pb.BindRealNameRequest(
            request_id=self.new("bind"), account_id=member.account_id
        )
        request.real_name.name, request.real_name.number = "Anna Example", number
        return await self.account_stub.BindRealName(request, timeout=DEADLINE_SECONDS)

    async def link(self, source: Member, target: Member) -> account_pb.LinkByLoginResponse:
        """Joins two accounts by logging in to both."""
        request = account_pb.LinkByLoginRequest(request_id=self.new("link"))
        request.source_proof.session_token = f"s-{source.account_id}"
        request.target_proof.session_token = f"s-{target.account_id}"
        answer = await self.account_stub.LinkByLogin(request, timeout=DEADLINE_SECONDS)
        assert not answer.refusal, answer
        return answer

    async def reverse(self, merge_id: str) -> account_pb.ReverseMergeResponse:
        """Takes a merge back, as support."""
        request = account_pb.ReverseMergeRequest(
            request_id=self.new("reverse"), merge_id=merge_id, actor="desk", reason="two humans"
        )
        return await self.account_stub.ReverseMerge(request, timeout=DEADLINE_SECONDS)

    async def order(self, member: Member, sale_id: str) -> order_pb.PlaceOrderResponse:
        """Orders one phone."""
        request = order_pb.PlaceOrderRequest(
            request_id=self.new("order"), account_id=member.account_id, sale_id=sale_id
        )
        request.lines.add(sku=SKU, units=1)
        return await self.order_stub.PlaceOrder(request, timeout=DEADLINE_SECONDS)

    async def cancel(self, order_id: str) -> None:
        """Gives the phone of an order back."""
        request = order_pb.CancelRequest(request_id=self.new("cancel"), order_id=order_id)
        answer = await self.order_stub.Cancel(request, timeout=DEADLINE_SECONDS)
        assert answer.outcome == outcome_pb2.OUTCOME_OK, answer

    # --- what there is ---

    async def events(self, after: int) -> Sequence[event_pb2.Event]:
        """Returns the ledger's events after one."""
        return [
            event async for event in self.ledger.read_events(after, follow=False, page_size=1_024)
        ]

    async def counters(self, sale_id: str) -> dict[str, int]:
        """Returns where the sale's phones stand; without those places that have none."""
        shown = await self.ledger.get_availability(sale_id)
        [only] = shown.response.availabilities
        return {field.name: value for field, value in only.counters.ListFields()}


@contextlib.asynccontextmanager
async def open_town(ledger: LedgerProcess, directory: Path) -> AsyncIterator[Town]:
    """Starts a town, and stops it."""
    town = Town(ledger, directory)
    try:
        await town.start()
        yield town
    finally:
        await town.close()
