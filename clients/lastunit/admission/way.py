"""The way from a terminal to a ledger's AdmissionService, for every `lastunit admission` command.

Owns the options that the commands share, the one call, and how a command ends when it fails. Must
not know what is asked. Next: `gate_cli`, `policy_cli`, `advise_cli`, `top`.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, TypeVar

import typer

from lastunit.client.peer import PeerClient
from lastunit.client.security import ClientSecurity
from lastunit.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    LastunitError,
    StatusError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

__all__ = [
    "TARGET_DEFAULT",
    "USAGE_EXIT",
    "ActorOption",
    "Ends",
    "JsonOption",
    "ReasonOption",
    "TargetOption",
    "actor_or_login",
    "call",
    "call_pages",
    "fail",
    "open_peer",
    "pages",
]

AnswerT = TypeVar("AnswerT")

SERVICE: Final = "/lastunit.admission.v1.AdmissionService/"
TARGET_DEFAULT: Final = "127.0.0.1:7401"
USAGE_EXIT: Final = 2
_DEADLINE_SECONDS: Final = 10.0
# More callers or sales than a node keeps apart; a server that pages for ever must not keep us.
_PAGES_MAX: Final = 100
_NO_ID: Final = re.compile(r"[^A-Za-z0-9._:-]")

TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        help="The ledger's settlement listener, host:port.",
        envvar="LASTUNIT_SETTLEMENT_ADDRESS",
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, for whoever comes after you; up to 256 bytes.")
]
ActorOption = Annotated[
    str, typer.Option("--actor", help="Who wants it.", show_default="the name of the login")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@dataclass(frozen=True, slots=True)
class Ends:
    """Says how a command ends.

    Attributes:
        unreached: Exit status if the ledger was not reached.
        refused: Exit status if it refused.
        prefix: Begins what is written to standard error.
    """

    unreached: int
    refused: int
    prefix: str = "lastunit admission: "


def actor_or_login(actor: str) -> str:
    """Returns who wants it: as told, or the name of the login as far as it is an id."""
    if actor:
        return actor
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return _NO_ID.sub("-", name)[:64] or "unknown"


def open_peer(target: str, deadline_seconds: float = _DEADLINE_SECONDS) -> PeerClient:
    """Opens the way; call it on a running event loop.

    Raises:
        OSError: A file of the client's proof can't be read.
        ValueError: An address, or a proof that would travel in clear text.
    """
    security = ClientSecurity.from_environment()
    return PeerClient(target, deadline_seconds=deadline_seconds, security=security)


def call(target: str, method: str, request: Any, response_type: Any, ends: Ends) -> Any:
    """Calls once, or ends the command with what the server said.

    Args:
        target: The settlement listener.
        method: Such as `GetPolicy`.
        request: Its message.
        response_type: The class of the answer.
        ends: How the command ends when it fails.
    """

    async def ask(peer: PeerClient) -> Any:
        return await peer.call(SERVICE + method, request, response_type)

    return _run(target, ask, ends)


async def pages(
    peer: PeerClient, method: str, request: Any, response_type: Any
) -> AsyncIterator[Any]:
    """Gives out a listing page by page.

    Raises:
        LastunitError: As `PeerClient.call`.
    """
    for _number in range(_PAGES_MAX):
        page = await peer.call(SERVICE + method, request, response_type)
        yield page
        request.page_token = page.next_page_token
        if not request.page_token:
            return


def call_pages(
    target: str, method: str, request: Any, response_type: Any, ends: Ends
) -> Sequence[Any]:
    """Is `call` for a listing; returns its pages."""

    async def ask(peer: PeerClient) -> Sequence[Any]:
        return [page async for page in pages(peer, method, request, response_type)]

    return _run(target, ask, ends)


def _run(target: str, ask: Callable[[PeerClient], Awaitable[AnswerT]], ends: Ends) -> AnswerT:
    async def run() -> AnswerT:
        peer = open_peer(target)
        try:
            return await ask(peer)
        finally:
            await peer.close()

    try:
        return asyncio.run(run())
    except (OSError, ValueError) as error:
        fail(str(error), USAGE_EXIT, ends)
    except LastunitError as error:
        _end(target, error, ends)


def _end(target: str, error: LastunitError, ends: Ends) -> NoReturn:
    if isinstance(error, (UnavailableError, DeadlineExceededError)):
        fail(f"{target}: {error}", ends.unreached, ends)
    message = str(error)
    if isinstance(error, InvalidArgumentError) and error.violations:
        message = "\n".join(violation.description for violation in error.violations)
    elif isinstance(error, StatusError) and not ends.prefix:
        message = f"{error.code}: {error}"
    fail(message, ends.refused, ends)


def fail(message: str, code: int, ends: Ends) -> NoReturn:
    """Ends the command with a message on standard error."""
    sys.stderr.write(f"{ends.prefix}{message}\n")
    raise typer.Exit(code)
