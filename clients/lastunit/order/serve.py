"""Puts the order service's process together.

Owns what is opened and closed, in which order. Must not parse flags: `cli` does.
Next: `lastunit.order.core`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.client.admission import GateWatch, PressureLine
from lastunit.client.aio import ClientSecurity, StockClient
from lastunit.client.peer import PeerClient
from lastunit.errors import EventsRemovedError, RolledBackError
from lastunit.order import store
from lastunit.order.core import OrderCore
from lastunit.order.doorman import Doorman
from lastunit.order.grpc_service import OPERATOR_METHODS, SERVICE_NAME, OrderServicer
from lastunit.order.metrics import OrderMetrics
from lastunit.order.peers import GrpcAccounts, GrpcPayments
from lastunit.order.person_watch import PersonWatch
from lastunit.order.persons import PersonDirectory
from lastunit.order.pressure import PressureReporter
from lastunit.order.rebuild import check_not_under_way
from lastunit.order.schema import ORDER_METADATA
from lastunit.order.shared_pressure import SharedPressure
from lastunit.order.v1 import order_service_pb2_grpc
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database, steady_pace
from lastunit.service.leadership import Leadership, attending
from lastunit.service.server import ServiceServer, run_service
from lastunit.service.steps import Background, repeat, take_in_batches

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lastunit.order.follower import OrderFollower
    from lastunit.order.settings import OrderSettings
    from lastunit.prices.quote import Prices
    from lastunit.service.clock import Clock
    from lastunit.service.database import Place
    from lastunit.stock.v1 import event_pb2


__all__ = ["DATABASE_FILE", "OrderProcess", "serve_orders"]

DATABASE_FILE: Final = "order.sqlite"

_EVENTS_MAX: Final = 1_024

# How often refunds and returns that are due are looked for: nobody waits for them within a call.
_DELIVER_SECONDS: Final = 0.2
_DELIVERIES_MAX: Final = 64

# How late a watcher hears of what another process of this service did.
_SWEEP_SECONDS: Final = 2.0

_log: Final = logging.getLogger(__name__)

# Under which the ledger knows this service, as a caller and as a reader of its events.
_CALLER: Final = "order-service"

# A buyer's first press waits so much longer, and a rush of them costs a twentieth of the calls.
_GATHER_SECONDS: Final = 0.01

# Tens of thousands of open calls are alive and no garbage; looking through them again and again
# took a fifth of the processor.
_GARBAGE_THRESHOLDS: Final = (50_000, 20, 50)


@dataclass(frozen=True, slots=True)
class OrderProcess:
    """Says where the order service listens, and whom it calls.

    Attributes:
        listen: `host:port`; port 0 takes a free one.
        database: Holds the tables.
        ledger_address: The ledger's data listener.
        settlement_address: The ledger's settlement listener.
        account_address: The account service.
        payment_address: The payment service.
        deadline_seconds: For calls to each of them, with all retries.
        transactions_per_second: Slows the database down; None: as fast as it is.
        is_gated: Whether newcomers are turned away while the gate of their sale says so.
    """

    listen: str
    database: Place
    ledger_address: str
    settlement_address: str
    account_address: str
    payment_address: str
    deadline_seconds: float
    transactions_per_second: float | None
    is_gated: bool = True


async def _events(ledger: StockClient, follower: OrderFollower) -> AsyncIterator[event_pb2.Event]:
    """Streams what comes after the follower's position, and tells it of a lost journal."""
    try:
        async for event in ledger.read_events(
            follower.position, follow=True, page_size=_EVENTS_MAX
        ):
            yield event
    except RolledBackError as error:
        follower.note_rolled_back(error)
        raise
    except EventsRemovedError:
        _log.error(
            "the ledger has removed events that this service never saw; stop it and run"
            " `lastunit order rebuild`"
        )
        raise


def _open_database(process: OrderProcess) -> Database:
    rate = process.transactions_per_second
    return Database(
        process.database,
        ORDER_METADATA,
        pace=None if rate is None else steady_pace(rate),
    )


def _start_loops(
    background: Background,
    core: OrderCore,
    ledger: StockClient,
    leadership: Leadership,
    person_watch: PersonWatch,
) -> None:
    """Starts what goes on beside the calls.

    Every process follows the ledger, so that its watchers hear of moves: what another one has
    written already is skipped in the transaction. One at a time delivers.
    """
    background.start(
        take_in_batches(
            lambda: _events(ledger, core.follower),
            core.follower.take,
            name="follow",
            batch_max=_EVENTS_MAX,
        )
    )
    background.start(
        take_in_batches(
            person_watch.messages, person_watch.take, name="persons", batch_max=_EVENTS_MAX
        )
    )
    background.start(
        repeat(
            leadership.led(core.deliver_once),
            name="deliver",
            pause_seconds=_DELIVER_SECONDS,
            full_count=_DELIVERIES_MAX,
        )
    )
    background.start(
        repeat(core.watch.sweep_once, name="sweep", pause_seconds=_SWEEP_SECONDS, full_count=1)
    )


def _watch_persons(database: Database, accounts: PeerClient, clock: Clock) -> PersonWatch:
    port = GrpcAccounts(accounts)
    directory = PersonDirectory(port, clock, gather_seconds=_GATHER_SECONDS)
    return PersonWatch(database=database, accounts=port, directory=directory)


def _metrics(
    database: Database, core: OrderCore, person_watch: PersonWatch, clock: Clock
) -> OrderMetrics:
    return OrderMetrics(
        database=database,
        follower=core.follower,
        watch=core.watch,
        person_watch=person_watch,
        clock=clock,
    )


async def serve_orders(process: OrderProcess, *, prices: Prices, settings: OrderSettings) -> None:
    """Serves until SIGTERM, then drains and closes everything.

    Args:
        process: Addresses and files.
        prices: What units cost.
        settings: Bounds of the core.

    Raises:
        InUseError: A rebuild works on the database.
        RebuildUnderWayError: One was begun and not ended.
    """
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)
    with _open_database(process) as database, attending(database):
        check_not_under_way(database)
        await _serve(process, database, prices=prices, settings=settings)


async def _serve(
    process: OrderProcess, database: Database, *, prices: Prices, settings: OrderSettings
) -> None:
    security = ClientSecurity.from_environment()
    ledger = StockClient(
        process.ledger_address,
        settlement_address=process.settlement_address,
        caller=_CALLER,
        # What comes while this service is down is kept for it.
        reader_id=_CALLER,
        deadline_seconds=process.deadline_seconds,
        security=security,
    )
    accounts = PeerClient(
        process.account_address, deadline_seconds=process.deadline_seconds, security=security
    )
    payments = PeerClient(
        process.payment_address, deadline_seconds=process.deadline_seconds, security=security
    )
    clock = SystemClock()
    person_watch = _watch_persons(database, accounts, clock)
    gates = GateWatch(process.ledger_address, caller=_CALLER, security=security)
    doorman = Doorman(gates) if process.is_gated else None
    core = OrderCore(
        database=database,
        ledger=ledger,
        persons=person_watch.directory,
        payments=GrpcPayments(payments),
        prices=prices,
        clock=clock,
        settings=settings,
        doorman=doorman,
    )
    background = Background()
    line = PressureLine(process.settlement_address, caller=_CALLER, security=security)
    leadership = Leadership(database, "deliver")
    is_shared = isinstance(process.database, sa.URL)
    reporter = PressureReporter(
        line,
        writer=database.writer,
        generation=await database.run(store.count_start),
        persisted_count=lambda: core.grants.persisted_count,
        pays=core.follower.pays,
        interval_seconds=settings.report_seconds,
        shared=SharedPressure(database, leadership) if is_shared else None,
    )

    async def close() -> None:
        await background.stop()
        await asyncio.to_thread(reporter.stop)
        await asyncio.to_thread(leadership.stop)
        line.close()
        if doorman is not None:
            await doorman.close()
        await gates.close()
        await ledger.close()
        await accounts.close()
        await payments.close()

    server = ServiceServer(
        "order",
        service_names=(SERVICE_NAME,),
        listen=process.listen,
        operator_methods=OPERATOR_METHODS,
    )
    server.metrics.watch("order", database)
    server.metrics.registry.register(_metrics(database, core, person_watch, clock))
    order_service_pb2_grpc.add_OrderServiceServicer_to_server(OrderServicer(core), server.grpc)
    leadership.start()
    _start_loops(background, core, ledger, leadership, person_watch)
    reporter.start()
    await run_service(server, on_stopping=core.watch.close, on_drained=close)
