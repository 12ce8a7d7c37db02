"""Who calls, and whether they may: asked by both listeners at the start of each call.

Owns the proof of a caller's name and the way to the node's table for what the node is not handed as
a call; must not know how a listener refuses. The table itself is the node's: it judges every call
and every operation of an Exchange, on whatever front they come (core_rs/node/src/permissions.rs).

Without authentication callers name themselves in `lastunit-caller`, which is why such a server
binds loopback only. With it that key proves nothing and is not looked at: the name is that of the
client's certificate, of its token, or of both if they agree.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from lastunit_server import faults, logs
from lastunit_server.call_context import Caller, caller_from
from lastunit_server.faults import Refusal

if TYPE_CHECKING:
    from lastunit_server._native import Node
    from lastunit_server.security_settings import Permission
    from lastunit_server.tokens import Tokens

__all__ = ["AUTHORIZATION_KEY", "Credentials", "Doorkeeper", "Visit", "permission_table"]

AUTHORIZATION_KEY = "authorization"
_SCHEME = "bearer "
# grpc's names of what it verified of a certificate, and how our settings call it.
_CERTIFICATE_KEYS = {"x509_common_name": "CN:", "peer_dns": "DNS:", "peer_uri": "URI:"}
# One line a second tells of all refusals; a stranger must not fill the disk with log lines.
_LOG_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What callers are known by; replaced as a whole.

    Attributes:
        tokens: None if tokens are not taken.
        certificates: Caller by name in a certificate.
        has_certificates: Whether clients show certificates at all.
    """

    tokens: "Tokens | None" = None
    certificates: dict[str, str] | None = None
    has_certificates: bool = False

    @property
    def is_on(self) -> bool:
        """Whether names must be proved."""
        return self.tokens is not None or self.has_certificates


def permission_table(permissions: "list[Permission] | None") -> str | None:
    """Returns the table in the node's form; None lets every caller do everything."""
    if permissions is None:
        return None
    return json.dumps({"rules": [row.rule() for row in permissions]})


class Visit:
    """One stream's caller, looked at again when what callers are known by has changed.

    Args:
        doorkeeper: Whom to ask.
        context: The stream's.
        caller: As found when the stream began.
    """

    __slots__ = ("_context", "_doorkeeper", "_generation", "caller")

    def __init__(self, doorkeeper: "Doorkeeper", context: Any, caller: Caller) -> None:
        self._doorkeeper = doorkeeper
        self._context = context
        self._generation = doorkeeper.generation
        self.caller = caller

    def refusal(
        self, method: str = "", *, sale_id: str | None = None, is_any_sale: bool = False
    ) -> Refusal | None:
        """Tells why the stream must end; None while it may go on.

        Args:
            method: What it must be permitted; empty if the node judges each message.
            sale_id: The sale that it is about; None for the whole ledger.
            is_any_sale: With None: whether a permission for some sale is enough.
        """
        if self._generation == self._doorkeeper.generation:
            return None
        self._generation = self._doorkeeper.generation
        caller = self._doorkeeper.caller(self._context)
        if isinstance(caller, Refusal):
            return caller
        if caller.name != self.caller.name:
            return _unauthenticated("CALLER_CHANGED", "this stream's caller has another name now")
        if not method:
            return None
        return self._doorkeeper.refusal(caller, method, sale_id=sale_id, is_any_sale=is_any_sale)


class Doorkeeper:
    """Names callers and asks the node's table.

    Args:
        node: The open node.
        credentials: What callers are known by.
    """

    def __init__(self, node: "Node", credentials: Credentials) -> None:
        self._node = node
        self._credentials = credentials
        self._log = _RefusalLog()
        # Rises with each change of credentials or permissions, so that streams look again.
        self.generation = 0

    def replace(self, credentials: Credentials, table: str | None) -> None:
        """Puts other credentials and another table in force, for open streams too.

        Raises:
            ValueError: The table has another form; everything stays.
        """
        self._node.set_permissions(table)
        self._credentials = credentials
        self.generation += 1

    @property
    def is_name_proved(self) -> bool:
        """Whether callers must prove their names."""
        return self._credentials.is_on

    def caller_of_token(self, token: str) -> str | None:
        """Finds whose token it is, for who signs in by hand; None if it names nobody."""
        tokens = self._credentials.tokens
        return tokens.caller(token) if tokens else None

    def caller(self, context: Any) -> Caller | Refusal:
        """Finds who calls.

        Args:
            context: The call's, of either kind of server.

        Returns:
            The caller with its proved name, or UNAUTHENTICATED, or INVALID_ARGUMENT for metadata
            of another form.
        """
        metadata = context.invocation_metadata()
        caller = caller_from(metadata)
        credentials = self._credentials
        if not credentials.is_on or isinstance(caller, Refusal):
            return caller
        name = _proved_name(credentials, metadata, context)
        if isinstance(name, Refusal):
            self._log.note(name, context)
            return name
        return caller._replace(name=name)

    def visit(self, context: Any) -> Visit | Refusal:
        """Finds who opens a stream; as `caller`."""
        caller = self.caller(context)
        return caller if isinstance(caller, Refusal) else Visit(self, context, caller)

    def refusal(
        self,
        caller: Caller,
        method: str,
        *,
        sale_id: str | None = None,
        is_any_sale: bool = False,
    ) -> Refusal | None:
        """Asks the table about what the node is not handed as a call; None if the caller may.

        Args:
            caller: Who calls.
            method: The method's own name.
            sale_id: The sale that it is about; None for the whole ledger.
            is_any_sale: With None: whether a permission for some sale is enough.
        """
        answer = self._node.permission_refusal(caller.name, method, sale_id, is_any_sale)
        return None if answer is None else faults.refusal_from(*answer)


def _proved_name(
    credentials: Credentials, metadata: Iterable[tuple[str, str | bytes]] | None, context: Any
) -> str | Refusal:
    by_certificate: set[str] = set()
    if credentials.certificates:
        by_certificate = _certificate_callers(credentials.certificates, context.auth_context())
        if len(by_certificate) > 1:
            text = "the certificate names several callers, use one that names a single one"
            return _unauthenticated("CERTIFICATE_AMBIGUOUS", text)
    token = _token(metadata)
    if token is None:
        return by_certificate.pop() if by_certificate else _nobody(credentials)
    by_token = credentials.tokens.caller(token) if credentials.tokens else None
    if by_token is None:
        text = "the token is unknown, wrong or expired, get a valid one from the operator"
        return _unauthenticated("TOKEN_INVALID", text)
    if by_certificate and by_certificate != {by_token}:
        text = "certificate and token name different callers, send what belongs together"
        return _unauthenticated("CALLER_AMBIGUOUS", text)
    return by_token


def _certificate_callers(callers: dict[str, str], verified: dict[str, Iterable[bytes]]) -> set[str]:
    found = set()
    for key, prefix in _CERTIFICATE_KEYS.items():
        for value in verified.get(key) or ():
            caller = callers.get(prefix + value.decode("utf-8", "replace"))
            if caller is not None:
                found.add(caller)
    return found


def _token(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """Returns the bearer token; empty if there is something else or more than one."""
    token: str | None = None
    for key, value in metadata or ():
        if key == AUTHORIZATION_KEY:
            if token is not None or not isinstance(value, str):
                return ""
            is_bearer = value[: len(_SCHEME)].lower() == _SCHEME
            token = value[len(_SCHEME) :].strip() if is_bearer else ""
    return token


def _nobody(credentials: Credentials) -> Refusal:
    if credentials.has_certificates:
        text = (
            "the client's certificate names no known caller; ask the operator to name it in"
            " authentication.certificates"
        )
        if credentials.tokens is not None:
            text += ", or send metadata authorization: Bearer <token>"
        return _unauthenticated("CALLER_UNKNOWN", text)
    text = "nobody is named by this call, send metadata authorization: Bearer <token>"
    return _unauthenticated("TOKEN_MISSING", text)


def _unauthenticated(reason: str, text: str) -> Refusal:
    return faults.fault(grpc.StatusCode.UNAUTHENTICATED, reason, text)


class _RefusalLog:
    """Tells of callers that were not let in, at most once a second for all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._quiet_count = 0

    def note(self, refusal: Refusal, context: Any) -> None:
        now = self._clock()
        with self._lock:
            if now < self._next:
                self._quiet_count += 1
                return
            self._next = now + _LOG_SECONDS
            others, self._quiet_count = self._quiet_count, 0
        logs.event(
            "caller_not_known",
            level=logging.WARNING,
            peer=context.peer(),
            reason=refusal.message,
            others_since_last=others,
        )
