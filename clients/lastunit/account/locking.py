"""Takes accounts out of use and back: LockAccount, UnlockAccount, CloseAccount, ChooseAccount.

Owns these calls and those of the policy, GetPolicy and SetPolicy. Must not decide which accounts a
policy locks: `lastunit.account.policy` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import grpc
import sqlalchemy as sa

from lastunit.account import _tables, identifier_rows, moves, notices, person_events, policy
from lastunit.account import sessions as session_rows
from lastunit.account.deeds import Done, RefusedError, carry_out, stable_digest
from lastunit.account.person_events import Kind
from lastunit.account.policy import Policy
from lastunit.account.resolving import account_message
from lastunit.account.states import (
    AccountEvent,
    AccountState,
    Entity,
    IdentifierState,
    IllegalMoveError,
)
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.service.faults import FaultError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lastunit.account.moves import Cause
    from lastunit.account.ports import Means
    from lastunit.account.states import Event

__all__ = ["Locking", "Orders"]

ResponseT = TypeVar("ResponseT")

# Persons that a new policy is carried out for in one transaction.
PERSONS_PER_STEP_MAX: Final = 200


class Orders(Protocol):
    """Knows orders; `lastunit.account.order_book` does."""

    async def is_paying(self, account_id: str) -> bool:
        """Tells whether an order of the account is being paid; raises UnavailableError."""
        ...


class Locking:
    """Locks, unlocks, closes and chooses accounts.

    Args:
        means: What to work with.
        orders: Says whether an account may be closed; None: none may.
    """

    def __init__(self, means: Means, orders: Orders | None) -> None:
        self._means = means
        self._orders = orders

    async def LockAccount(  # noqa: N802 - named by the contract
        self, request: pb.LockAccountRequest, _context: object
    ) -> pb.LockAccountResponse:
        """Takes an account out of use, by the word of support."""

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.LockAccountResponse]:
            row = _account(connection, request.account_id)
            _move(connection, row, AccountEvent.LOCK, cause, lock_reason="OPERATOR")
            session_rows.end_all(connection, [row.account_id], "LOCKED", cause.now_ms)
            _tell(connection, row, "ACCOUNT_LOCKED", cause)
            # Under SINGLE another account of the person may be used now.
            others = policy.settle(connection, row.person_id, cause)
            return _done(connection, pb.LockAccountResponse, row.account_id, others)

        return await self._carry_out(request, pb.LockAccountResponse, work)

    async def UnlockAccount(  # noqa: N802 - named by the contract
        self, request: pb.UnlockAccountRequest, _context: object
    ) -> pb.UnlockAccountResponse:
        """Takes an account into use again, by the word of support."""

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.UnlockAccountResponse]:
            row = _account(connection, request.account_id)
            _move(connection, row, AccountEvent.UNLOCK, cause, lock_reason="")
            others = policy.settle(connection, row.person_id, cause, keep=row.account_id)
            return _done(connection, pb.UnlockAccountResponse, row.account_id, others)

        return await self._carry_out(request, pb.UnlockAccountResponse, work)

    async def CloseAccount(  # noqa: N802 - named by the contract
        self, request: pb.CloseAccountRequest, _context: object
    ) -> pb.CloseAccountResponse:
        """Closes an account for good."""
        is_paying = await self._is_paying(request.account_id)

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.CloseAccountResponse]:
            if request.HasField("proof"):
                proved = self._means.proofs.check(connection, request.proof, cause.now_ms)
                if proved.refusal or proved.account_id != request.account_id:
                    # Returned, not raised: a wrong code counts as a try.
                    refusal = proved.refusal or pb.REFUSAL_PROOF_BAD
                    return Done(pb.CloseAccountResponse(refusal=refusal))
            row = _account(connection, request.account_id)
            if is_paying:
                raise RefusedError(pb.REFUSAL_ORDER_IN_PAYMENT)
            _tell(connection, row, "ACCOUNT_CLOSED", cause)
            _move(connection, row, AccountEvent.CLOSE, cause, lock_reason="")
            _release_all(connection, row.account_id, cause)
            session_rows.end_all(connection, [row.account_id], "CLOSED", cause.now_ms)
            others = policy.settle(connection, row.person_id, cause)
            return _done(connection, pb.CloseAccountResponse, row.account_id, others)

        return await self._carry_out(request, pb.CloseAccountResponse, work)

    async def ChooseAccount(  # noqa: N802 - named by the contract
        self, request: pb.ChooseAccountRequest, _context: object
    ) -> pb.ChooseAccountResponse:
        """Keeps one account of a person where only one may be used."""

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.ChooseAccountResponse]:
            proved = self._means.proofs.check(connection, request.proof, cause.now_ms)
            if proved.refusal:
                return Done(pb.ChooseAccountResponse(refusal=proved.refusal))
            row = _account(connection, proved.account_id)
            can_be_chosen = row.state == AccountState.ACTIVE or row.lock_reason == policy.CHOOSE
            if not can_be_chosen or policy.read(connection)[0] is not Policy.SINGLE:
                raise RefusedError(pb.REFUSAL_WRONG_STATE)
            others = policy.settle(connection, row.person_id, cause, keep=row.account_id)
            return _done(connection, pb.ChooseAccountResponse, row.account_id, others)

        content = {"proof": self._content(request.proof)}
        return await self._carry_out(request, pb.ChooseAccountResponse, work, content=content)

    async def GetPolicy(  # noqa: N802 - named by the contract
        self, _request: pb.GetPolicyRequest, _context: object
    ) -> pb.GetPolicyResponse:
        """Says how many accounts of a person may be used."""
        with self._means.database.read() as connection:
            found, version = policy.read(connection)
        value = pb.AccountPolicy.Value(f"ACCOUNT_POLICY_{found}")
        return pb.GetPolicyResponse(policy=value, version=version)

    async def SetPolicy(  # noqa: N802 - named by the contract
        self, request: pb.SetPolicyRequest, _context: object
    ) -> pb.SetPolicyResponse:
        """Sets how many accounts of a person may be used."""
        name = pb.AccountPolicy.Name(request.policy).removeprefix("ACCOUNT_POLICY_")

        def work(connection: sa.Connection, _cause: Cause) -> Done[pb.SetPolicyResponse]:
            _, version = policy.read(connection)
            if request.if_version not in (0, version):
                raise RefusedError(pb.REFUSAL_VERSION_MISMATCH, version=version)
            return Done(pb.SetPolicyResponse(version=policy.write(connection, Policy(name))))

        content = {"policy": name, "if_version": str(request.if_version)}
        answer = await carry_out(self._means, request, pb.SetPolicyResponse, work, content=content)
        while await self.settle_once():
            pass
        return answer

    async def settle_once(self) -> int:
        """Carries a new policy out for up to 200 persons; returns 0 once all are done."""
        means = self._means
        with means.database.read() as connection:
            if not policy.is_pending(connection):
                return 0
        cause = moves.Cause("policy", means.clock.now_ms())
        changed = await means.database.run(
            lambda connection: policy.settle_some(connection, cause, limit=PERSONS_PER_STEP_MAX)
        )
        if changed:
            means.directory.forget(changed)
            means.notify()
        return 0 if changed is None else PERSONS_PER_STEP_MAX

    async def _is_paying(self, account_id: str) -> bool:
        if self._orders is None:
            raise FaultError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "nobody says whether an order of the account is being paid; start the service with"
                " --order-address",
                reason="NO_ORDERS",
            )
        return await self._orders.is_paying(account_id)

    async def _carry_out(
        self,
        request: Any,
        response_type: Callable[..., ResponseT],
        work: Callable[[sa.Connection, Cause], Done[ResponseT]],
        *,
        content: dict[str, str] | None = None,
    ) -> ResponseT:
        content = content or {"account_id": request.account_id}
        answer: Any
        try:
            answer = await carry_out(self._means, request, response_type, work, content=content)
        except IllegalMoveError:
            answer = response_type(refusal=pb.REFUSAL_WRONG_STATE)
        if answer.refusal in (pb.REFUSAL_WRONG_STATE, pb.REFUSAL_ORDER_IN_PAYMENT) and hasattr(
            request, "account_id"
        ):
            with self._means.database.read() as connection:
                shown = account_message(connection, request.account_id)
            answer.account.CopyFrom(shown)
        # The loop that follows person events would notice too, a moment later.
        self._means.notify()
        shown_answer: ResponseT = answer
        return shown_answer

    def _content(self, proof: pb.Proof) -> str:
        """Returns what stands for whose proof it is."""
        if proof.HasField("session_token"):
            return stable_digest(self._means, "session", proof.session_token)
        return stable_digest(self._means, "proof", str(proof.code.identifier))


def _account(connection: sa.Connection, account_id: str) -> Any:
    table = _tables.accounts
    row = connection.execute(sa.select(table).where(table.c.account_id == account_id)).one_or_none()
    if row is None:
        raise RefusedError(pb.REFUSAL_UNKNOWN_ACCOUNT)
    return row


def _move(
    connection: sa.Connection, row: Any, event: Event, cause: Cause, *, lock_reason: str
) -> None:
    """Moves an account and lets everybody know."""
    moves.move(
        connection,
        Entity.ACCOUNT,
        row.account_id,
        event,
        cause,
        lock_reason=lock_reason,
        unlock_ms=None,
    )
    kinds: dict[object, Kind] = {
        AccountEvent.LOCK: Kind.ACCOUNT_LOCKED,
        AccountEvent.UNLOCK: Kind.ACCOUNT_UNLOCKED,
        AccountEvent.CLOSE: Kind.ACCOUNT_CLOSED,
    }
    person_events.add(
        connection,
        kinds[event],
        cause,
        person_id=row.person_id,
        account_ids=[row.account_id],
    )


def _tell(connection: sa.Connection, row: Any, kind: str, cause: Cause) -> None:
    notices.put(connection, account_ids=[row.account_id], kind=kind, now_ms=cause.now_ms)


def _release_all(connection: sa.Connection, account_id: str, cause: Cause) -> None:
    table = _tables.identifiers
    for identifier_id in connection.scalars(
        sa.select(table.c.identifier_id).where(
            table.c.account_id == account_id, table.c.state != IdentifierState.RELEASED
        )
    ).all():
        identifier_rows.release(connection, identifier_id, cause)


def _done(
    connection: sa.Connection,
    response_type: Callable[..., Any],
    account_id: str,
    others: Sequence[str],
) -> Done[Any]:
    shown = account_message(connection, account_id)
    return Done(response_type(account=shown), account_ids=[account_id, *others])
