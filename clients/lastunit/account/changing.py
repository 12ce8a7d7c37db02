"""Adds identifiers to accounts and changes them: AddIdentifier, ChangeIdentifier.

Owns what must be proved for it, in the one place that writes: the new identifier always, and the
right to the account besides. Must not judge a proof itself. Next: `lastunit.account.proving`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import sqlalchemy as sa

from lastunit.account import (
    _tables,
    codes,
    identifier_rows,
    notices,
    person_events,
    sessions,
    views,
)
from lastunit.account.deeds import Done, RefusedError, carry_out, stable_digest
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.person_events import Kind
from lastunit.account.proving import refusal_of
from lastunit.account.real_names import is_of, usable_account
from lastunit.account.resolving import account_message
from lastunit.account.states import IdentifierState
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.service.faults import FaultError

if TYPE_CHECKING:
    from lastunit.account.moves import Cause
    from lastunit.account.ports import Means

__all__ = ["Changing"]

# Phones, addresses and logins of one human; more would be a list to send mail to.
IDENTIFIERS_PER_ACCOUNT_MAX: Final = 16


class _InUseError(RefusedError):
    """The identifier leads to another account."""

    def __init__(self, account_id: str) -> None:
        super().__init__(pb.REFUSAL_IDENTIFIER_IN_USE)
        self.account_id = account_id


class Changing:
    """Adds and changes identifiers.

    Args:
        means: What to work with.
    """

    def __init__(self, means: Means) -> None:
        self._means = means

    async def AddIdentifier(  # noqa: N802 - named by the contract
        self, request: pb.AddIdentifierRequest, _context: object
    ) -> pb.AddIdentifierResponse:
        """Adds a further identifier to an account."""
        try:
            new = Identifier.of(request.new_proof.identifier)
        except IdentifierError:
            return pb.AddIdentifierResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.AddIdentifierResponse]:
            proved = self._means.proofs.check(connection, request.proof, cause.now_ms)
            refusal = proved.refusal
            if not refusal and proved.account_id != request.account_id:
                refusal = pb.REFUSAL_PROOF_BAD
            refusal = refusal or self._refusal(connection, new, request.new_proof.code, cause)
            if refusal:
                # Returned, not raised: a wrong code counts as a try.
                return Done(pb.AddIdentifierResponse(refusal=refusal))
            account = usable_account(connection, request.account_id)
            try:
                identifier_id = self._put(connection, account, new, cause)
            except _InUseError as error:
                owner = account_message(connection, error.account_id)
                assert owner is not None
                masked_owner = owner.masked_identifier
                raise RefusedError(error.refusal, masked_owner=masked_owner) from None
            shown = views.identifier_of(connection, identifier_id)
            return Done(
                pb.AddIdentifierResponse(identifier=shown), account_ids=[request.account_id]
            )

        return await carry_out(
            self._means,
            request,
            pb.AddIdentifierResponse,
            work,
            content={"account_id": request.account_id, "new_proof": self._content(new)},
        )

    async def ChangeIdentifier(  # noqa: N802 - named by the contract
        self, request: pb.ChangeIdentifierRequest, _context: object
    ) -> pb.ChangeIdentifierResponse:
        """Puts a new identifier in the place of an old one."""
        try:
            new = Identifier.of(request.new_proof.identifier)
        except IdentifierError:
            return pb.ChangeIdentifierResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.ChangeIdentifierResponse]:
            refusal = self._right(connection, request, cause)
            refusal = refusal or self._refusal(connection, new, request.new_proof.code, cause)
            if refusal:
                return Done(pb.ChangeIdentifierResponse(refusal=refusal))
            account = usable_account(connection, request.account_id)
            # Before the old one leads nowhere: it is told too.
            identifier_id = self._put(connection, account, new, cause)
            if identifier_id != request.identifier_id:
                identifier_rows.release(connection, request.identifier_id, cause)
            sessions.end_all(connection, [request.account_id], "IDENTIFIER_CHANGED", cause.now_ms)
            shown = views.identifier_of(connection, identifier_id)
            return Done(
                pb.ChangeIdentifierResponse(identifier=shown), account_ids=[request.account_id]
            )

        return await carry_out(
            self._means,
            request,
            pb.ChangeIdentifierResponse,
            work,
            content={
                "account_id": request.account_id,
                "identifier_id": request.identifier_id,
                "new_proof": self._content(new),
            },
        )

    def _content(self, new: Identifier) -> str:
        return stable_digest(self._means, new.kind.value, new.normalized)

    # --- in the writer's thread ---

    def _refusal(
        self, connection: sa.Connection, new: Identifier, code: str, cause: Cause
    ) -> pb.Refusal.ValueType:
        """Checks the code of the new identifier."""
        ring = self._means.vault.ring(connection)
        verdict = codes.check(
            connection, ring, new, pb.CODE_PURPOSE_NEW_IDENTIFIER, code, now_ms=cause.now_ms
        )
        return refusal_of(verdict)

    def _right(
        self, connection: sa.Connection, request: pb.ChangeIdentifierRequest, cause: Cause
    ) -> pb.Refusal.ValueType:
        """Checks the right to give up the old identifier: its own code, or the real name."""
        account = usable_account(connection, request.account_id)
        table = _tables.identifiers
        old = connection.scalar(
            sa.select(table.c.identifier_id).where(
                table.c.identifier_id == request.identifier_id,
                table.c.account_id == request.account_id,
                table.c.state != IdentifierState.RELEASED,
            )
        )
        if old is None:
            return pb.REFUSAL_UNKNOWN_IDENTIFIER
        ring = self._means.vault.ring(connection)
        if request.HasField("real_name"):
            is_right = is_of(connection, ring, account.person_id, request.real_name)
            return pb.REFUSAL_UNSPECIFIED if is_right else pb.REFUSAL_CHECK_FAILED
        proof = pb.Proof(code=request.old_proof)
        proved = self._means.proofs.check(connection, proof, cause.now_ms)
        if proved.refusal:
            return proved.refusal
        found = identifier_rows.find(connection, ring, Identifier.of(request.old_proof.identifier))
        if found is None or found.identifier_id != request.identifier_id:
            # A code of another identifier of the account is no proof of this one.
            return pb.REFUSAL_PROOF_BAD
        return pb.REFUSAL_UNSPECIFIED

    def _put(self, connection: sa.Connection, account: Any, new: Identifier, cause: Cause) -> str:
        """Adds a proved identifier; returns its id, also if the account has it already.

        Raises:
            _InUseError: It leads to another account.
        """
        ring = self._means.vault.ring(connection)
        found = identifier_rows.find(connection, ring, new)
        if found is not None and found.account_id == account.account_id:
            identifier_rows.note_proof(connection, ring, found, new, cause)
            return found.identifier_id
        if found is not None:
            raise _InUseError(found.account_id)
        _check_room(connection, account.account_id)
        notices.put(
            connection,
            account_ids=[account.account_id],
            kind="IDENTIFIER_CHANGED",
            now_ms=cause.now_ms,
        )
        identifier_id = identifier_rows.insert(
            connection, ring, new, account_id=account.account_id, now_ms=cause.now_ms
        )
        person_events.add(
            connection,
            Kind.IDENTIFIER_CHANGED,
            cause,
            person_id=account.person_id,
            account_ids=[account.account_id],
        )
        return identifier_id


def _check_room(connection: sa.Connection, account_id: str) -> None:
    table = _tables.identifiers
    count = connection.scalar(
        sa.select(sa.func.count())
        .select_from(table)
        .where(table.c.account_id == account_id, table.c.state != IdentifierState.RELEASED)
    )
    # The old one of a change counts too: it is released in the same moment.
    if (count or 0) > IDENTIFIERS_PER_ACCOUNT_MAX:
        raise FaultError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"an account has at most {IDENTIFIERS_PER_ACCOUNT_MAX} identifiers; change one instead",
            reason="TOO_MANY_IDENTIFIERS",
        )
