"""The account service as a process.

Owns putting the parts together and taking them down. Must not hold rules.
Next: `lastunit.account.registering`, `resolving`, and the README for the other parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastunit.account import _tables
from lastunit.account.identifiers import BlindIndex
from lastunit.account.key_file import load_or_create_keys
from lastunit.account.registering import Registrar
from lastunit.account.resolving import Directory
from lastunit.account.servicer import OPERATOR_METHODS, SERVICE_NAME, AccountServicer
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database, place_of
from lastunit.service.server import ServiceServer, run_service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lastunit.service.clock import Clock
    from lastunit.service.database import Place

__all__ = ["DATABASE_FILE", "Parts", "add_account_service", "open_database", "open_parts", "serve"]

DATABASE_FILE: Final = "account.db"
_KEY: Final = "account.key"


@dataclass(frozen=True, slots=True)
class Parts:
    """Is what answers the methods of the contract.

    Attributes:
        directory: Says who stands behind accounts.
        registrar: Makes accounts.
    """

    directory: Directory
    registrar: Registrar

    def all(self) -> Sequence[object]:
        """Returns every part that has methods of the contract."""
        return [self.directory, self.registrar]


def open_parts(database: Database, *, key: bytes, clock: Clock | None = None) -> Parts:
    """Returns the parts over an open database.

    Args:
        database: As `open_database` gives it.
        key: 32 bytes, always the same for one database.
        clock: The system's if None.
    """
    clock = clock or SystemClock()
    directory = Directory(database)
    return Parts(
        directory=directory,
        registrar=Registrar(database, index=BlindIndex(key), clock=clock, directory=directory),
    )


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
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        listen: `host:port`; port 0 takes a free one.
        data_directory: Made if missing, readable by its owner only.
        database_url: Of a PostgreSQL database; None keeps the tables in the data directory.
        key_file: Of the blind index; None: in the data directory.
        is_json: False prints the ready line as a sentence.
    """
    key = load_or_create_keys(key_file or data_directory / _KEY).active.secret
    with open_database(place_of(database_url, data_directory, DATABASE_FILE)) as database:
        server = ServiceServer(
            "account",
            service_names=[SERVICE_NAME],
            listen=listen,
            operator_methods=OPERATOR_METHODS,
        )
        server.metrics.watch("account", database)
        add_account_service(server, open_parts(database, key=key))
        await run_service(server, is_json=is_json)
