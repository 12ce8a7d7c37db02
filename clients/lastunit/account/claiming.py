"""The way out of the dead lock: a human whose old logins are dead claims the person they were.

Owns the calls on claims. Must not change a tree itself, nor know times.
Next: `lastunit.account.claim_rules` for the times, `lastunit.account.merging`.

A claim opens only after the real name has met another person's and a strong check took it. Then
every identifier of that person is told and its owner may object; whoever can still log in wins.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.account import (
    _tables,
    claim_rules,
    identifier_rows,
    merging,
    moves,
    person_events,
    trees,
    views,
)
from lastunit.account.deeds import Done, RefusedError, carry_out, proof_content, stable_digest
from lastunit.account.name_checker import normalized_number
from lastunit.account.person_events import Kind
from lastunit.account.real_names import fingerprints, owner_of, usable_account
from lastunit.account.states import (
    AccountEvent,
    AccountState,
    ClaimEvent,
    ClaimState,
    Entity,
    IdentifierState,
    IllegalMoveError,
)
from lastunit.account.v1 import account_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.keys import Key
    from lastunit.account.moves import Cause
    from lastunit.account.ports import Means, NameChecker

__all__ = ["Claiming"]

_log: Final = logging.getLogger(__name__)


class Claiming:
    """Opens, stops and carries out claims.

    Args:
        means: What to work with.
        checker: Judges names.
    """

    def __init__(self, means: Means, checker: NameChecker) -> None:
        self._means = means
        self._checker = checker
        self.disputed_count = 0

    async def OpenClaim(  # noqa: N802 - named by the contract
        self, request: pb.OpenClaimRequest, _context: object
    ) -> pb.OpenClaimResponse:
        """Opens a claim and tells the owner."""
        means = self._means
        number = normalized_number(request.real_name.number)
        is_taken = await self._checker.check_strongly(
            request.real_name.name, request.real_name.number, request.real_name.evidence
        )

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.OpenClaimResponse]:
            account = usable_account(connection, request.account_id)
            owner = owner_of(connection, fingerprints(means.vault.ring(connection), number))
            self._check_claimant(connection, account, owner, cause.now_ms)
            if not is_taken:
                raise RefusedError(pb.REFUSAL_CHECK_FAILED)
            return self._open(connection, cause, account, owner, request.dead_identifier_ids)

        response = await carry_out(
            means,
            request,
            pb.OpenClaimResponse,
            work,
            content={
                "account_id": request.account_id,
                "real_name.number": stable_digest(means, "identity", number),
                "dead_identifier_ids": ",".join(sorted(request.dead_identifier_ids)),
            },
        )
        if not response.refusal:
            # Made anew each time, so that it is stored nowhere.
            response.claim_token = self._token(response.claim.claim_id)
        return response

    async def CancelClaim(  # noqa: N802 - named by the contract
        self, request: pb.CancelClaimRequest, _context: object
    ) -> pb.CancelClaimResponse:
        """Stops a claim, by the owner's objection or by the claimant's own wish."""
        proofs = self._means.proofs

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.CancelClaimResponse]:
            claim = self._aged(connection, request.claim_id, cause.now_ms)
            proved = proofs.check(connection, request.proof, cause.now_ms)
            if proved.refusal:
                return Done(pb.CancelClaimResponse(refusal=proved.refusal))
            return self._cancel(connection, cause, claim, proved.account_id)

        return await carry_out(
            self._means,
            request,
            pb.CancelClaimResponse,
            work,
            content={
                "claim_id": request.claim_id,
                "proof": proof_content(self._means, request.proof),
            },
        )

    async def ConfirmClaim(  # noqa: N802 - named by the contract
        self, request: pb.ConfirmClaimRequest, _context: object
    ) -> pb.ConfirmClaimResponse:
        """Carries an approved claim out."""
        token_digest = _digest(request.claim_token)

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.ConfirmClaimResponse]:
            claim = self._aged(connection, request.claim_id, cause.now_ms)
            if not hmac.compare_digest(claim.token_digest, token_digest):
                raise RefusedError(pb.REFUSAL_PROOF_BAD)
            refused = _not_approved(claim)
            if refused is not None:
                # Returned, not raised: what the clock did stays done.
                return Done(refused)
            return self._execute(connection, cause, claim)

        return await carry_out(
            self._means,
            request,
            pb.ConfirmClaimResponse,
            work,
            content={"claim_id": request.claim_id, "claim_token": token_digest.hex()},
        )

    async def ApproveClaim(  # noqa: N802 - named by the contract
        self, request: pb.ApproveClaimRequest, _context: object
    ) -> pb.ApproveClaimResponse:
        """Cuts the wait of a claim short; support is sure."""

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.ApproveClaimResponse]:
            claim = self._aged(connection, request.claim_id, cause.now_ms)
            try:
                claim_rules.approve(
                    connection, claim, ClaimEvent.APPROVE, cause, from_ms=cause.now_ms
                )
            except IllegalMoveError:
                shown = views.claim(claim)
                return Done(pb.ApproveClaimResponse(refusal=pb.REFUSAL_WRONG_STATE, claim=shown))
            self._tell_claimant(connection, claim, "CLAIM_APPROVED", cause.now_ms)
            return Done(pb.ApproveClaimResponse(claim=_shown(connection, claim)))

        return await carry_out(
            self._means,
            request,
            pb.ApproveClaimResponse,
            work,
            content={"claim_id": request.claim_id},
        )

    async def RejectClaim(  # noqa: N802 - named by the contract
        self, request: pb.RejectClaimRequest, _context: object
    ) -> pb.RejectClaimResponse:
        """Says no to a claim."""

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.RejectClaimResponse]:
            claim = self._aged(connection, request.claim_id, cause.now_ms)
            try:
                _end(connection, claim, ClaimEvent.REJECT, cause)
            except IllegalMoveError:
                shown = views.claim(claim)
                return Done(pb.RejectClaimResponse(refusal=pb.REFUSAL_WRONG_STATE, claim=shown))
            self._tell_claimant(connection, claim, "CLAIM_REJECTED", cause.now_ms)
            return Done(pb.RejectClaimResponse(claim=_shown(connection, claim)))

        return await carry_out(
            self._means,
            request,
            pb.RejectClaimResponse,
            work,
            content={"claim_id": request.claim_id},
        )

    # --- in the writer's thread ---

    def _check_claimant(
        self, connection: sa.Connection, account: sa.Row[Any], owner: str, now_ms: int
    ) -> None:
        if owner not in trees.matched_owners(connection, account.person_id):
            raise RefusedError(pb.REFUSAL_NOTHING_TO_CLAIM)
        quota_ms = claim_rules.quota_ms(connection, account.person_id, now_ms)
        if quota_ms > now_ms:
            raise _later(pb.REFUSAL_TOO_MANY_CLAIMS, quota_ms)
        found = claim_rules.open_claim_on(connection, owner)
        if found is not None and claim_rules.age(connection, found, now_ms).state in (
            claim_rules.OPEN_STATES
        ):
            raise _later(pb.REFUSAL_CLAIM_OPEN, claim_rules.decided_ms(found))

    def _open(
        self,
        connection: sa.Connection,
        cause: Cause,
        account: sa.Row[Any],
        owner: str,
        dead_identifier_ids: Sequence[str],
    ) -> Done[pb.OpenClaimResponse]:
        owned = trees.accounts_of(connection, trees.members_of(connection, owner))
        leading = views.identifiers_of(connection, owned, is_leading=True)
        dead = sorted(set(dead_identifier_ids))
        if not {each.identifier_id for each in leading}.issuperset(dead):
            raise RefusedError(pb.REFUSAL_UNKNOWN_IDENTIFIER)
        claim_id = f"c-{self._means.new_id()}"
        wait_until_ms = cause.now_ms + claim_rules.wait_ms(connection, owner, cause.now_ms)
        row = {
            "claim_id": claim_id,
            "account_id": account.account_id,
            "person_id": account.person_id,
            "owner_person_id": owner,
            "create_ms": cause.now_ms,
            "wait_until_ms": wait_until_ms,
            "due_ms": wait_until_ms,
            "token_digest": _digest(_token_of(self._means.vault.ring(connection).active, claim_id)),
            "merge_id": "",
            "dead_identifier_ids": json.dumps(dead),
            "told_count": 0,
        }
        moves.begin(connection, Entity.CLAIM, ClaimEvent.OPEN, [row])
        told_count = self._means.notices.put(
            connection,
            account_ids=owned,
            kind="CLAIM_OPENED",
            data={"claim_id": claim_id, "wait_until_ms": str(wait_until_ms)},
            now_ms=cause.now_ms,
        )
        moves.move(
            connection, Entity.CLAIM, claim_id, ClaimEvent.TELL, cause, told_count=told_count
        )
        claim: Any = views.claim_row(connection, claim_id)
        return Done(pb.OpenClaimResponse(claim=views.claim(claim), told_count=told_count))

    def _cancel(
        self, connection: sa.Connection, cause: Cause, claim: sa.Row[Any], account_id: str
    ) -> Done[pb.CancelClaimResponse]:
        accounts = _tables.accounts
        person_id = connection.scalar(
            sa.select(accounts.c.person_id).where(accounts.c.account_id == account_id)
        )
        is_owner = person_id == trees.root_of(connection, claim.owner_person_id)
        if not is_owner and person_id != trees.root_of(connection, claim.person_id):
            return Done(pb.CancelClaimResponse(refusal=pb.REFUSAL_PROOF_BAD))
        event = ClaimEvent.CANCEL_BY_OWNER if is_owner else ClaimEvent.WITHDRAW
        try:
            _end(connection, claim, event, cause)
        except IllegalMoveError:
            return Done(
                pb.CancelClaimResponse(refusal=pb.REFUSAL_WRONG_STATE, claim=views.claim(claim))
            )
        response = pb.CancelClaimResponse(claim=_shown(connection, claim))
        if not is_owner:
            return Done(response)
        self.disputed_count += 1
        _log.error(
            "an owner objected to a claim on their person; look at the account that claimed",
            extra={"claim": claim.claim_id, "account": claim.account_id, "severity": "S3"},
        )
        self._tell_claimant(connection, claim, "CLAIM_CANCELLED", cause.now_ms)
        return self._lock(connection, cause, claim, response)

    def _lock(
        self,
        connection: sa.Connection,
        cause: Cause,
        claim: sa.Row[Any],
        response: pb.CancelClaimResponse,
    ) -> Done[pb.CancelClaimResponse]:
        """Locks the account that claimed, unless it is locked or closed for another reason."""
        account_id = claim.account_id
        if moves.state_of(connection, Entity.ACCOUNT, account_id) is not AccountState.ACTIVE:
            return Done(response)
        moves.move(
            connection,
            Entity.ACCOUNT,
            account_id,
            AccountEvent.LOCK,
            cause,
            lock_reason="CLAIM",
            unlock_ms=cause.now_ms + claim_rules.CLAIM_LOCK_MS,
        )
        merging.end_sessions(connection, [account_id], "LOCKED", cause.now_ms)
        sequence = person_events.add(
            connection,
            Kind.ACCOUNT_LOCKED,
            cause,
            person_id=trees.root_of(connection, claim.person_id),
            account_ids=[account_id],
        )
        return Done(response, account_ids=[account_id], event_sequence=sequence)

    def _execute(
        self, connection: sa.Connection, cause: Cause, claim: sa.Row[Any]
    ) -> Done[pb.ConfirmClaimResponse]:
        source = trees.root_of(connection, claim.person_id)
        target = trees.root_of(connection, claim.owner_person_id)
        if target not in trees.matched_owners(connection, source):
            # It proved another name meanwhile, or is a part of the claimed person already.
            return Done(
                pb.ConfirmClaimResponse(refusal=pb.REFUSAL_WRONG_STATE, claim=views.claim(claim))
            )
        owned = trees.accounts_of(connection, trees.members_of(connection, target))
        moved = trees.accounts_of(connection, trees.members_of(connection, source))
        merge_id = f"m-{self._means.new_id()}"
        released = _release(connection, cause, json.loads(claim.dead_identifier_ids))
        try:
            sequence = merging.execute(
                connection,
                moves.Cause(claim.claim_id, cause.now_ms),
                merge_id=merge_id,
                source_root=source,
                target_root=target,
                claim_id=claim.claim_id,
                released_identifier_ids=released,
            )
        except merging.TooManyPartsError:
            raise RefusedError(pb.REFUSAL_TOO_MANY_PARTS) from None
        # Whoever holds the old phone now is out as well.
        merging.end_sessions(connection, owned, "CLAIMED", cause.now_ms)
        _end(connection, claim, ClaimEvent.CONFIRM, cause, merge_id=merge_id)
        self._means.notices.put(
            connection,
            account_ids=[*owned, *moved],
            kind="CLAIM_EXECUTED",
            data={"claim_id": claim.claim_id, "merge_id": merge_id},
            now_ms=cause.now_ms,
        )
        merge: Any = views.merge_row(connection, merge_id)
        response = pb.ConfirmClaimResponse(
            claim=_shown(connection, claim), merge=views.merge(merge)
        )
        return Done(response, account_ids=[*moved, *owned], event_sequence=sequence)

    def _aged(self, connection: sa.Connection, claim_id: str, now_ms: int) -> sa.Row[Any]:
        claim = views.claim_row(connection, claim_id)
        if claim is None:
            raise RefusedError(pb.REFUSAL_UNKNOWN_CLAIM)
        return claim_rules.age(connection, claim, now_ms)

    def _tell_claimant(
        self, connection: sa.Connection, claim: sa.Row[Any], kind: str, now_ms: int
    ) -> None:
        self._means.notices.put(
            connection,
            account_ids=[claim.account_id],
            kind=kind,
            data={"claim_id": claim.claim_id},
            now_ms=now_ms,
        )

    def _token(self, claim_id: str) -> str:
        """Returns the token of a claim, whichever key it was made under; empty if that is gone."""
        with self._means.database.read() as connection:
            claim = views.claim_row(connection, claim_id)
        for key in self._means.vault.present().keys:
            token = _token_of(key, claim_id)
            if claim is not None and hmac.compare_digest(claim.token_digest, _digest(token)):
                return token
        return ""


def _token_of(key: Key, claim_id: str) -> str:
    return key.digest("claim-token", claim_id).hex()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _later(refusal: pb.Refusal.ValueType, when_ms: int) -> RefusedError:
    response = pb.OpenClaimResponse()
    response.come_back_time.FromMilliseconds(when_ms)
    return RefusedError(refusal, come_back_time=response.come_back_time)


def _not_approved(claim: sa.Row[Any]) -> pb.ConfirmClaimResponse | None:
    """Returns why a claim cannot be confirmed; None if it can."""
    if claim.state == ClaimState.APPROVED:
        return None
    response = pb.ConfirmClaimResponse(refusal=pb.REFUSAL_WRONG_STATE, claim=views.claim(claim))
    if claim.state == ClaimState.WAITING:
        response.refusal = pb.REFUSAL_WAITING
        response.come_back_time.FromMilliseconds(claim.wait_until_ms)
    elif claim.state == ClaimState.EXPIRED:
        response.refusal = pb.REFUSAL_TOO_LATE
    return response


def _end(
    connection: sa.Connection,
    claim: sa.Row[Any],
    event: ClaimEvent,
    cause: Cause,
    **changes: object,
) -> None:
    """Moves a claim to where no clock moves it."""
    moves.move(connection, Entity.CLAIM, claim.claim_id, event, cause, due_ms=None, **changes)


def _shown(connection: sa.Connection, claim: sa.Row[Any]) -> Any:
    fresh: Any = views.claim_row(connection, claim.claim_id)
    return views.claim(fresh)


def _release(
    connection: sa.Connection, cause: Cause, identifier_ids: Sequence[str]
) -> Sequence[str]:
    """Releases the dead identifiers that still lead somewhere; returns them."""
    released = []
    for identifier_id in identifier_ids:
        state = moves.state_of(connection, Entity.IDENTIFIER, identifier_id)
        if state is not IdentifierState.RELEASED:
            identifier_rows.release(connection, identifier_id, cause)
            released.append(identifier_id)
    return released
