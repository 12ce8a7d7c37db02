"""The account service as a process.

Owns opening what it needs, serving, and taking it down. Must not hold rules.
Next: `lastunit.account.parts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lastunit.account import _tables
from lastunit.account.aging import STEP_MAX
from lastunit.account.key_file import KeyFile
from lastunit.account.ledger import CALLER, StockLedger
from lastunit.account.metrics import AccountMetrics
from lastunit.account.name_checker import SandboxChecker
from lastunit.account.notices import NOTICES_PER_STEP_MAX
from lastunit.account.order_book import OrderBook
from lastunit.account.parts import open_parts
from lastunit.account.senders import SandboxSender
from lastunit.account.servicer import (
    OPERATOR_METHODS,
    SERVICE_NAME,
    UNPROVED_METHODS,
    AccountServicer,
)
from lastunit.account.smtp import SmtpSender, SmtpSettings
from lastunit.account.upkeep import PAUSE_SECONDS
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.client.aio import StockClient
from lastunit.client.security import ClientSecurity
from lastunit.service.database import Database, place_of
from lastunit.service.leadership import Leadership
from lastunit.service.server import ServiceServer, run_service
from lastunit.service.steps import Background, repeat

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lastunit.account.parts import Parts
    from lastunit.account.ports import NameChecker
    from lastunit.account.senders import Sender
    from lastunit.account.settings import AccountSettings
    from lastunit.service.database import Place

__all__ = [
    "DATABASE_FILE",
    "KEY_FILE",
    "add_account_service",
    "open_checker",
    "open_database",
    "open_sender",
    "serve",
]

DATABASE_FILE: Final = "account.db"
KEY_FILE: Final = "account.key"
_SANDBOX_FILE: Final = "messages.jsonl"

# How soon this process knows what another one has written about persons.
_FOLLOW_SECONDS: Final = 0.1


def open_sender(
    settings: AccountSettings, data_directory: Path, environment: Mapping[str, str]
) -> Sender | None:
    """Returns who carries messages.

    Args:
        settings: Name the sender.
        data_directory: Where the sandbox keeps what it was given.
        environment: Variables, with those of the mail server.

    Raises:
        ValueError: A variable of the mail server is missing or wrong.
        OSError: A file that it names cannot be read.
    """
    if settings.sender == "smtp":
        return SmtpSender(SmtpSettings.from_environment(environment))
    if settings.sender == "sandbox":
        return SandboxSender(data_directory / _SANDBOX_FILE)
    return None


def open_checker(settings: AccountSettings, environment: Mapping[str, str]) -> NameChecker | None:
    """Returns who checks real names.

    Args:
        settings: Name the checker.
        environment: Variables, with those of the checker.

    Raises:
        ValueError: A variable of the checker is missing or wrong.
        OSError: A file that it names cannot be read.
    """
    if settings.checker == "http":
        # Here, so that whoever needs no checker loads no client.
        from lastunit.account.http_checker import CheckerSettings, HttpChecker

        return HttpChecker(CheckerSettings.from_environment(environment))
    if settings.checker == "sandbox":
        return SandboxChecker()
    return None


def open_database(place: Place, *, is_threaded: bool = True) -> Database:
    """Opens the accounts' database.

    Args:
        place: The file, or a PostgreSQL database; None keeps it in memory, for a simulation that
            is not threaded.
        is_threaded: False runs each write at once in the caller's thread.
    """
    return Database(place, _tables.metadata, is_threaded=is_threaded)


def add_account_service(server: ServiceServer, parts: Parts) -> None:
    """Adds AccountService to a server."""
    account_service_pb2_grpc.add_AccountServiceServicer_to_server(
        AccountServicer(parts.all()), server.grpc
    )


async def serve(
    *,
    listen: str,
    data_directory: Path,
    database_url: str | None,
    key_file: Path | None,
    is_json: bool,
    settings: AccountSettings,
    sender: Sender | None,
    checker: NameChecker | None,
    order_address: str = "",
    settlement_address: str | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        listen: `host:port`; port 0 takes a free one.
        data_directory: Made if missing, readable by its owner only.
        database_url: Of a PostgreSQL database; None keeps the tables in the data directory.
        key_file: The keys; None: in the data directory.
        is_json: False prints the ready line as a sentence.
        settings: How callers are treated.
        sender: As `open_sender` gives it.
        checker: As `open_checker` gives it.
        order_address: `host:port` of the order service; empty: no account can be closed.
        settlement_address: `host:port` of the settlement listener of the ledger that counts limits;
            None: whatever it must be told of is UNAVAILABLE.
    """
    keys = KeyFile(key_file or data_directory / KEY_FILE)
    background = Background()
    with open_database(place_of(database_url, data_directory, DATABASE_FILE)) as database:
        server = ServiceServer(
            "account",
            service_names=[SERVICE_NAME],
            listen=listen,
            operator_methods=OPERATOR_METHODS,
            unproved_methods=UNPROVED_METHODS,
        )
        server.metrics.watch("account", database)
        orders = OrderBook(order_address) if order_address else None
        ledger = _open_ledger(settlement_address)
        parts = open_parts(
            database,
            keys=keys,
            settings=settings,
            sender=sender,
            orders=orders,
            checker=checker,
            ledger=None if ledger is None else StockLedger(ledger.admin),
        )
        server.metrics.registry.register(
            AccountMetrics(
                database=database,
                directory=parts.directory,
                feeder=parts.feeder,
                buckets=parts.buckets,
                disputed_count=lambda: parts.claiming.disputed_count,
            )
        )
        add_account_service(server, parts)
        leadership = Leadership(database, "upkeep")
        leadership.start()
        _start_loops(background, parts, leadership)
        try:
            await run_service(
                server,
                on_stopping=parts.watch.close,
                on_drained=background.stop,
                is_json=is_json,
            )
        finally:
            leadership.stop()
            if orders is not None:
                await orders.close()
            if ledger is not None:
                await ledger.close()


def _open_ledger(settlement_address: str | None) -> StockClient | None:
    if settlement_address is None:
        return None
    # Persons are an operator's affair: every call of this service goes to the settlement listener.
    return StockClient(
        settlement_address,
        settlement_address=settlement_address,
        caller=CALLER,
        security=ClientSecurity.from_environment(),
    )


def _start_loops(background: Background, parts: Parts, leadership: Leadership) -> None:
    """Starts what goes on beside the calls; what must be done once, one process does."""
    background.start(
        repeat(
            leadership.led(parts.upkeep.step),
            name="upkeep",
            pause_seconds=PAUSE_SECONDS,
            full_count=NOTICES_PER_STEP_MAX,
        )
    )
    background.start(
        repeat(
            leadership.led(parts.ageing.age_once),
            name="age",
            pause_seconds=PAUSE_SECONDS,
            full_count=STEP_MAX,
        )
    )
    background.start(
        repeat(
            leadership.led(parts.locking.settle_once),
            name="policy",
            pause_seconds=PAUSE_SECONDS,
            full_count=1,
        )
    )
    background.start(
        repeat(
            leadership.led(parts.feeder.feed_once),
            name="ledger",
            pause_seconds=PAUSE_SECONDS,
            full_count=1,
        )
    )
    background.start(
        repeat(parts.watch.follow_once, name="persons", pause_seconds=_FOLLOW_SECONDS, full_count=1)
    )
