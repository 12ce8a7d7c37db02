"""Codes, logins and sessions: SendCode, Login, CheckSession, EndSession.

Owns who gets a code and a session. Must not make accounts or change identifiers.
Next: `lastunit.account.codes`, `lastunit.account.sessions`, `lastunit.account.gate`.

Whoever has no account yet draws from the bucket of sign-ups, everybody else from that of logins; a
login's unit of work goes before those of sign-ups. So a flood of newcomers keeps nobody out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import sqlalchemy as sa

from lastunit.account import _tables, codes, identifier_rows, sessions
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.moves import Cause
from lastunit.account.proving import refusal_of
from lastunit.account.resolving import WIRE_STATES
from lastunit.account.senders import Message, SendError
from lastunit.account.states import AccountState, ClaimState, IdentifierState
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.errors import UnavailableError
from lastunit.service.database import Lane
from lastunit.service.faults import FaultError

if TYPE_CHECKING:
    from lastunit.account.gate import Bucket
    from lastunit.account.senders import Sender
    from lastunit.account.vault import Vault
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["SignIn", "code_message"]

# A mail server that is down is up again in minutes, and a caller asks again sooner.
_SEND_RETRY_SECONDS: Final = 5.0

_OPEN_CLAIMS: Final = (ClaimState.WAITING, ClaimState.APPROVED)

_PURPOSES: Final = {
    pb.CODE_PURPOSE_SIGN_IN: "to log in",
    pb.CODE_PURPOSE_NEW_IDENTIFIER: "to add this to your account",
    pb.CODE_PURPOSE_PROVE: "to confirm a change of your account",
}


def code_message(code: str, purpose: pb.CodePurpose.ValueType) -> Message:
    """Returns what is sent with a code."""
    return Message(
        "Your code",
        f"{code} is your code {_PURPOSES[purpose]}. It is good for 5 minutes. Tell it nobody.",
    )


class SignIn:
    """Answers the methods of codes and sessions.

    Args:
        database: Opened with `_tables.metadata`.
        vault: Lends the keys.
        clock: Dates codes and sessions.
        sender: Who carries codes; None: SendCode is refused.
        sign_up: The bucket of codes for identifiers that lead nowhere; None for no bound.
        login: The bucket of logins and of all other codes; None for no bound.
        is_proof_asked: False logs in whoever names an identifier, for simulations.
    """

    def __init__(
        self,
        database: Database,
        *,
        vault: Vault,
        clock: Clock,
        sender: Sender | None,
        sign_up: Bucket,
        login: Bucket,
        is_proof_asked: bool,
    ) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock
        self._sender = sender
        self._sign_up = sign_up
        self._login = login
        self._is_proof_asked = is_proof_asked

    async def SendCode(  # noqa: N802 - named by the contract
        self, request: pb.SendCodeRequest, _context: object
    ) -> pb.SendCodeResponse:
        """Sends a six-digit code to an identifier."""
        if self._sender is None:
            raise FaultError(
                grpc.StatusCode.UNIMPLEMENTED,
                "this service sends no codes; its operator starts it with --sender smtp",
                reason="NO_SENDER",
            )
        try:
            identifier = Identifier.of(request.identifier)
        except IdentifierError:
            return pb.SendCodeResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
        if not identifier.can_get_messages:
            return pb.SendCodeResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
        is_known = self._is_known(identifier)
        with (self._login if is_known else self._sign_up).entered():
            return await self._send(self._sender, identifier, request.purpose, is_known=is_known)

    async def _send(
        self,
        sender: Sender,
        identifier: Identifier,
        purpose: pb.CodePurpose.ValueType,
        *,
        is_known: bool,
    ) -> pb.SendCodeResponse:
        now_ms = self._clock.now_ms()
        lane = Lane.SETTLEMENT if is_known else Lane.RESERVATION
        issued = await self._database.run(
            lambda connection: codes.issue(
                connection, self._vault.ring(connection), identifier, purpose, now_ms
            ),
            lane=lane,
        )
        if isinstance(issued, codes.Denial):
            refusal = pb.REFUSAL_BLOCKED if issued.is_blocked else pb.REFUSAL_RATE_LIMITED
            denied = pb.SendCodeResponse(refusal=refusal)
            denied.come_back_time.FromMilliseconds(issued.come_back_ms)
            return denied
        try:
            await sender.send(identifier, code_message(issued.code, purpose))
        except SendError as error:
            if error.is_final:
                # The row stays: who asks for such identifiers is held back as anybody else.
                return pb.SendCodeResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
            await self._database.run(
                lambda connection: codes.forget(connection, issued.code_id), lane=lane
            )
            raise UnavailableError(
                f"the code could not be sent: {error}; try again soon",
                retry_after_seconds=_SEND_RETRY_SECONDS,
                reason="SENDER_UNAVAILABLE",
            ) from None
        sent = pb.SendCodeResponse()
        sent.expire_time.FromMilliseconds(issued.expire_ms)
        return sent

    async def Login(  # noqa: N802 - named by the contract
        self, request: pb.LoginRequest, _context: object
    ) -> pb.LoginResponse:
        """Begins a session."""
        try:
            identifier = Identifier.of(request.identifier)
        except IdentifierError:
            return pb.LoginResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
        now_ms = self._clock.now_ms()
        with self._login.entered():
            return await self._database.run(
                lambda connection: self._log_in(connection, identifier, request.proof, now_ms),
                lane=Lane.SETTLEMENT,
            )

    async def CheckSession(  # noqa: N802 - named by the contract
        self, request: pb.CheckSessionRequest, _context: object
    ) -> pb.CheckSessionResponse:
        """Says whose a session is."""
        with self._database.read() as connection:
            session = sessions.find(connection, request.session_token, self._clock.now_ms())
            if session is None:
                return pb.CheckSessionResponse(refusal=pb.REFUSAL_SESSION_ENDED)
            account = _account(connection, session.account_id)
        answer = pb.CheckSessionResponse(
            account_id=session.account_id,
            person_id=account.person_id,
            account_state=WIRE_STATES[AccountState(account.state)],
        )
        answer.session_expire_time.FromMilliseconds(session.expire_ms)
        return answer

    async def EndSession(  # noqa: N802 - named by the contract
        self, request: pb.EndSessionRequest, _context: object
    ) -> pb.EndSessionResponse:
        """Ends a session."""
        now_ms = self._clock.now_ms()
        await self._database.run(
            lambda connection: sessions.end(connection, request.session_token, now_ms),
            lane=Lane.SETTLEMENT,
        )
        return pb.EndSessionResponse()

    def _is_known(self, identifier: Identifier) -> bool:
        with self._database.read() as connection:
            return identifier_rows.find(connection, self._vault.present(), identifier) is not None

    # --- in the writer's thread ---

    def _log_in(
        self, connection: sa.Connection, identifier: Identifier, proof: str, now_ms: int
    ) -> pb.LoginResponse:
        ring = self._vault.ring(connection)
        if self._is_proof_asked and identifier.can_get_messages:
            verdict = codes.check(
                connection, ring, identifier, pb.CODE_PURPOSE_SIGN_IN, proof, now_ms=now_ms
            )
            if verdict is not codes.Verdict.GOOD:
                return pb.LoginResponse(refusal=refusal_of(verdict))
        row = identifier_rows.find(connection, ring, identifier)
        if row is None:
            return pb.LoginResponse(refusal=pb.REFUSAL_UNKNOWN_IDENTIFIER)
        if _account(connection, row.account_id).state == AccountState.CLOSED:
            return pb.LoginResponse(refusal=pb.REFUSAL_ACCOUNT_CLOSED)
        if self._is_proof_asked:
            cause = Cause("login", now_ms)
            identifier_rows.note_proof(connection, ring, row, identifier, cause)
        accounts = _tables.accounts
        connection.execute(
            sa.update(accounts)
            .where(accounts.c.account_id == row.account_id)
            .values(login_ms=now_ms)
        )
        token, session = sessions.begin(connection, row.account_id, now_ms)
        answer = _greeting(connection, row.account_id)
        answer.session_token = token
        answer.session_expire_time.FromMilliseconds(session.expire_ms)
        return answer


def _account(connection: sa.Connection, account_id: str) -> Any:
    table = _tables.accounts
    return connection.execute(
        sa.select(table.c.person_id, table.c.state, table.c.lock_reason).where(
            table.c.account_id == account_id
        )
    ).one()


def _greeting(connection: sa.Connection, account_id: str) -> pb.LoginResponse:
    """Returns what somebody should know who has just logged in."""
    account = _account(connection, account_id)
    identifiers, claims = _tables.identifiers, _tables.claims
    disputed = connection.scalars(
        sa.select(identifiers.c.identifier_id)
        .where(
            identifiers.c.account_id == account_id,
            identifiers.c.state == IdentifierState.DISPUTED,
        )
        .order_by(identifiers.c.identifier_id)
    ).all()
    open_claims = connection.scalars(
        sa.select(claims.c.claim_id)
        .where(
            claims.c.owner_person_id == account.person_id,
            claims.c.state.in_(_OPEN_CLAIMS),
        )
        .order_by(claims.c.claim_id)
    ).all()
    return pb.LoginResponse(
        account_id=account_id,
        person_id=account.person_id,
        account_state=WIRE_STATES[AccountState(account.state)],
        must_choose=account.lock_reason == "CHOOSE",
        disputed_identifier_ids=disputed,
        open_claim_ids=open_claims,
    )
