"""The account service as a process.

Owns putting the parts together and taking them down. Must not hold rules.
Next: `lastunit.account.registering`, `resolving`, and the README for the other parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastunit.account import _tables
from lastunit.account.gate import Bucket
from lastunit.account.key_file import KeyFile
from lastunit.account.keys import KeyRing
from lastunit.account.notices import NOTICES_PER_STEP_MAX, Notices
from lastunit.account.proving import Proofs
from lastunit.account.registering import Registrar
from lastunit.account.resolving import Directory
from lastunit.account.senders import NoSender, SandboxSender
from lastunit.account.servicer import OPERATOR_METHODS, SERVICE_NAME, AccountServicer
from lastunit.account.settings import AccountSettings
from lastunit.account.signing_in import SignIn
from lastunit.account.smtp import SmtpSender, SmtpSettings
from lastunit.account.upkeep import PAUSE_SECONDS, Upkeep
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.account.vault import FixedKeys, Vault
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database, place_of
from lastunit.service.leadership import Leadership
from lastunit.service.server import ServiceServer, run_service
from lastunit.service.steps import Background, repeat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from lastunit.account.senders import Sender
    from lastunit.account.vault import KeySource
    from lastunit.service.clock import Clock
    from lastunit.service.database import Place

__all__ = [
    "DATABASE_FILE",
    "Parts",
    "add_account_service",
    "open_database",
    "open_parts",
    "open_sender",
    "serve",
]

DATABASE_FILE: Final = "account.db"
_KEY: Final = "account.key"
_SANDBOX_FILE: Final = "messages.jsonl"


@dataclass(frozen=True, slots=True)
class Parts:
    """Is what answers the methods of the contract.

    Attributes:
        directory: Says who stands behind accounts.
        registrar: Makes accounts.
        sign_in: Sends codes and keeps sessions.
        vault: Lends the keys.
        proofs: Checks proofs for the other parts.
        upkeep: What a clock makes happen.
    """

    directory: Directory
    registrar: Registrar
    sign_in: SignIn
    vault: Vault
    proofs: Proofs
    upkeep: Upkeep

    def all(self) -> Sequence[object]:
        """Returns every part that has methods of the contract."""
        return [self.directory, self.registrar, self.sign_in]


def open_parts(
    database: Database,
    *,
    keys: KeyRing | KeySource,
    clock: Clock | None = None,
    settings: AccountSettings | None = None,
    sender: Sender | None = None,
) -> Parts:
    """Returns the parts over an open database.

    Args:
        database: As `open_database` gives it.
        keys: Always those of the same database; a ring never changes, a key file may.
        clock: The system's if None.
        settings: How callers are treated; by default no proof is asked for.
        sender: Who carries codes and notices; None: nobody, and SendCode is refused.
    """
    clock = clock or SystemClock()
    settings = settings or AccountSettings()
    vault = Vault(FixedKeys(keys) if isinstance(keys, KeyRing) else keys)
    directory = Directory(database)
    sign_up, login = Bucket(settings.sign_up), Bucket(settings.login)
    is_proof_asked = settings.proofs == "code"
    notices = Notices(database, vault=vault, sender=sender or NoSender())
    return Parts(
        directory=directory,
        registrar=Registrar(
            database,
            vault=vault,
            clock=clock,
            directory=directory,
            bucket=sign_up,
            is_proof_asked=is_proof_asked,
        ),
        sign_in=SignIn(
            database,
            vault=vault,
            clock=clock,
            sender=sender,
            sign_up=sign_up,
            login=login,
            is_proof_asked=is_proof_asked,
        ),
        vault=vault,
        proofs=Proofs(vault),
        upkeep=Upkeep(database, notices=notices, directory=directory, clock=clock),
    )


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
    """
    keys = KeyFile(key_file or data_directory / _KEY)
    background = Background()
    with open_database(place_of(database_url, data_directory, DATABASE_FILE)) as database:
        server = ServiceServer(
            "account",
            service_names=[SERVICE_NAME],
            listen=listen,
            operator_methods=OPERATOR_METHODS,
        )
        server.metrics.watch("account", database)
        parts = open_parts(database, keys=keys, settings=settings, sender=sender)
        add_account_service(server, parts)
        leadership = Leadership(database, "upkeep")
        leadership.start()
        background.start(
            repeat(
                leadership.led(parts.upkeep.step),
                name="upkeep",
                pause_seconds=PAUSE_SECONDS,
                full_count=NOTICES_PER_STEP_MAX,
            )
        )
        try:
            await run_service(server, is_json=is_json, on_drained=background.stop)
        finally:
            leadership.stop()
