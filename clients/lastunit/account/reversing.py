"""Undoes a merge that was wrong: ReverseMerge.

Owns who may ask and until when. Must not change a tree itself. Next: `lastunit.account.merging`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lastunit.account import _tables, merging, moves, trees, views
from lastunit.account.deeds import Done, RefusedError, carry_out
from lastunit.account.states import ClaimEvent, Entity, MergeState
from lastunit.account.v1 import account_service_pb2 as pb

if TYPE_CHECKING:
    from lastunit.account.moves import Cause
    from lastunit.account.ports import Means

__all__ = ["Reversing"]


class Reversing:
    """Undoes merges.

    Args:
        means: What to work with.
    """

    def __init__(self, means: Means) -> None:
        self._means = means

    async def ReverseMerge(  # noqa: N802 - named by the contract
        self, request: pb.ReverseMergeRequest, _context: object
    ) -> pb.ReverseMergeResponse:
        """Undoes a merge; by support, or by whoever proves an account of either person."""
        proofs = self._means.proofs
        proof = request.proof if request.HasField("proof") else None

        def work(connection: sa.Connection, cause: Cause) -> Done[pb.ReverseMergeResponse]:
            merge = views.merge_row(connection, request.merge_id)
            if merge is None:
                raise RefusedError(pb.REFUSAL_UNKNOWN_MERGE)
            if proof is not None:
                proved = proofs.check(connection, proof, cause.now_ms)
                if proved.refusal:
                    return Done(pb.ReverseMergeResponse(refusal=proved.refusal))
                if not _is_concerned(connection, merge, proved.account_id):
                    return Done(pb.ReverseMergeResponse(refusal=pb.REFUSAL_PROOF_BAD))
            return self._reverse(connection, cause, merge)

        return await carry_out(
            self._means,
            request,
            pb.ReverseMergeResponse,
            work,
            content={"merge_id": request.merge_id},
        )

    def _reverse(
        self, connection: sa.Connection, cause: Cause, merge: sa.Row[Any]
    ) -> Done[pb.ReverseMergeResponse]:
        shown = views.merge(merge)
        is_over = merge.state == MergeState.EXECUTED and cause.now_ms >= merge.reversible_until_ms
        if is_over or merge.state == MergeState.FINAL:
            raise RefusedError(pb.REFUSAL_TOO_LATE, merge=shown)
        if merge.state == MergeState.REVERSED:
            raise RefusedError(pb.REFUSAL_WRONG_STATE, merge=shown)
        root = trees.root_of(connection, merge.source_person_id)
        before = trees.accounts_of(connection, trees.members_of(connection, root))
        try:
            account_ids, sequence = merging.reverse(connection, cause, merge)
        except merging.TooManyPartsError:
            raise RefusedError(pb.REFUSAL_TOO_MANY_PARTS, merge=shown) from None
        if merge.claim_id:
            moves.move(connection, Entity.CLAIM, merge.claim_id, ClaimEvent.REVERSE, cause)
        self._means.notices.put(
            connection,
            account_ids=before,
            kind="MERGE_REVERSED",
            data={"merge_id": merge.merge_id},
            now_ms=cause.now_ms,
        )
        fresh: Any = views.merge_row(connection, merge.merge_id)
        response = pb.ReverseMergeResponse(merge=views.merge(fresh), account_ids=account_ids)
        return Done(response, account_ids=account_ids, event_sequence=sequence)


def _is_concerned(connection: sa.Connection, merge: sa.Row[Any], account_id: str) -> bool:
    """Tells whether an account is of the person that the merge made larger."""
    table = _tables.accounts
    person_id = connection.scalar(
        sa.select(table.c.person_id).where(table.c.account_id == account_id)
    )
    return person_id == trees.root_of(connection, merge.source_person_id)
