"""Joins two accounts whose owner can log in to both: CanLink and LinkByLogin.

Owns the rule of who becomes a part of whom. Must not change a tree itself.
Next: `lastunit.account.merging`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lastunit.account import merging, moves, trees, views
from lastunit.account.deeds import Done, RefusedError, carry_out, proof_content
from lastunit.account.real_names import usable_account
from lastunit.account.states import Entity, PersonState
from lastunit.account.v1 import account_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from lastunit.account.moves import Cause
    from lastunit.account.ports import Means

__all__ = ["Linking"]


class Linking:
    """Joins accounts.

    Args:
        means: What to work with.
    """

    def __init__(self, means: Means) -> None:
        self._means = means

    async def CanLink(  # noqa: N802 - named by the contract
        self, request: pb.CanLinkRequest, _context: object
    ) -> pb.CanLinkResponse:
        """Says whether two accounts can be joined, and changes nothing."""
        with self._means.database.read() as connection:
            try:
                source, target = _direction(
                    connection, request.source_account_id, request.target_account_id
                )
            except RefusedError as refused:
                return pb.CanLinkResponse(refusal=refused.refusal, **refused.fields)
        return pb.CanLinkResponse(source_person_id=source, target_person_id=target)

    async def LinkByLogin(  # noqa: N802 - named by the contract
        self, request: pb.LinkByLoginRequest, _context: object
    ) -> pb.LinkByLoginResponse:
        """Joins the persons of two accounts that the caller can log in to."""
        proofs = self._means.proofs

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.LinkByLoginResponse]:
            account_ids = []
            for proof in (request.source_proof, request.target_proof):
                proved = proofs.check(connection, proof, cause.now_ms)
                if proved.refusal:
                    # Returned, not raised: a wrong code counts as a try.
                    return Done(pb.LinkByLoginResponse(refusal=proved.refusal))
                account_ids.append(proved.account_id)
            return self._link(connection, cause, *account_ids)

        return await carry_out(
            self._means,
            request,
            pb.LinkByLoginResponse,
            work,
            content={
                "source_proof": proof_content(self._means, request.source_proof),
                "target_proof": proof_content(self._means, request.target_proof),
            },
        )

    def _link(
        self,
        connection: sa.Connection,
        cause: Cause,
        source_account_id: str,
        target_account_id: str,
    ) -> Done[pb.LinkByLoginResponse]:
        try:
            source, target = _direction(connection, source_account_id, target_account_id)
        except RefusedError as refused:
            return Done(pb.LinkByLoginResponse(refusal=refused.refusal))
        if source == target:
            return Done(pb.LinkByLoginResponse(person_id=target))
        told = trees.accounts_of(connection, trees.members_of(connection, target))
        moved = trees.accounts_of(connection, trees.members_of(connection, source))
        merge_id = f"m-{self._means.new_id()}"
        sequence = merging.execute(
            connection, cause, merge_id=merge_id, source_root=source, target_root=target
        )
        self._means.notices.put(
            connection,
            account_ids=[*told, *moved],
            kind="ACCOUNTS_LINKED",
            data={"merge_id": merge_id},
            now_ms=cause.now_ms,
        )
        merge: Any = views.merge_row(connection, merge_id)
        response = pb.LinkByLoginResponse(person_id=target, merge=views.merge(merge))
        return Done(response, account_ids=moved, event_sequence=sequence)


def _direction(
    connection: sa.Connection, source_account_id: str, target_account_id: str
) -> tuple[str, str]:
    """Returns who would become a part of whom; twice the same if they are one person already.

    Raises:
        RefusedError: They cannot be joined.
    """
    source = str(usable_account(connection, source_account_id).person_id)
    target = str(usable_account(connection, target_account_id).person_id)
    if source == target:
        return source, target
    if moves.state_of(connection, Entity.PERSON, source) is PersonState.VERIFIED:
        if moves.state_of(connection, Entity.PERSON, target) is PersonState.VERIFIED:
            raise RefusedError(
                pb.REFUSAL_DIFFERENT_VERIFIED_PERSONS,
                **_hints(connection, source, target),
            )
        # Whoever has a real name stays, whichever account was named first.
        source, target = target, source
    parts = len(trees.members_of(connection, source)) + len(trees.members_of(connection, target))
    if parts > merging.PARTS_MAX:
        raise RefusedError(pb.REFUSAL_TOO_MANY_PARTS)
    return source, target


def _hints(connection: sa.Connection, *person_ids: str) -> dict[str, Sequence[Any]]:
    members = [each for root in person_ids for each in trees.members_of(connection, root)]
    account_ids = trees.accounts_of(connection, members)
    return {"hints": views.identifiers_of(connection, account_ids, is_leading=True)}
