"""Carries out a call that changes something: once for each request id, the ledger told first.

Owns the order of things: look the id up, do it, remember the answer, commit, tell the ledger, and
only then the caller. Must not know what is done. Next: `lastunit.account.linking` is a short user.

If the process dies after the commit, the answer is remembered and the event is in the list: the
repeat of the call, or the loop that feeds the ledger, goes on from there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lastunit.account import calls
from lastunit.account.moves import Cause
from lastunit.account.v1 import account_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import sqlalchemy as sa

    from lastunit.account.ports import Means

__all__ = ["Done", "RefusedError", "carry_out", "proof_content", "stable_digest"]

ResponseT = TypeVar("ResponseT")


class RefusedError(Exception):
    """A guard says no; whatever the transaction wrote is undone.

    Attributes:
        refusal: Why.
        fields: Further fields of the response.
    """

    def __init__(self, refusal: pb.Refusal.ValueType, **fields: Any) -> None:
        super().__init__(pb.Refusal.Name(refusal))
        self.refusal = refusal
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Done(Generic[ResponseT]):
    """Is what a transaction did.

    Attributes:
        response: What the caller is told; with a refusal it is not remembered.
        account_ids: Accounts whose kept answers are outdated.
        event_sequence: The last person event that the ledger must have first; 0 if there is none.
    """

    response: ResponseT
    account_ids: Sequence[str] = field(default=())
    event_sequence: int = 0


async def carry_out(
    means: Means,
    request: Any,
    response_type: Callable[..., ResponseT],
    work: Callable[[sa.Connection, Cause], Done[ResponseT]],
    *,
    content: Mapping[str, str],
) -> ResponseT:
    """Does what a request asks for, once.

    Args:
        means: What to work with.
        request: Has a `request_id`, perhaps `actor` and `reason`; its type names the method.
        response_type: Has `refusal`, `replayed` and `conflict_field`.
        work: Runs in a transaction; it may run again if the database goes away.
        content: The compared fields; personal ones as keyed digests.

    Raises:
        UnavailableError: It is done, but the ledger could not be told; the repeat goes on.
    """
    method = type(request).__name__.removesuffix("Request")
    now_ms = means.clock.now_ms()
    cause = Cause(
        request.request_id,
        now_ms,
        actor=getattr(request, "actor", ""),
        reason=getattr(request, "reason", ""),
    )

    def unit(connection: sa.Connection) -> Done[ResponseT]:
        earlier = calls.find(connection, request.request_id, method=method, content=content)
        if earlier is not None:
            return _repeated(earlier, response_type)
        done = work(connection, cause)
        response: Any = done.response
        if not response.refusal:
            calls.keep(
                connection,
                request.request_id,
                method=method,
                content=content,
                answer=response.SerializeToString(),
                now_ms=now_ms,
                event_sequence=done.event_sequence,
            )
        return done

    try:
        done = await means.database.run(unit)
    except RefusedError as refused:
        return response_type(refusal=refused.refusal, **refused.fields)
    if done.account_ids:
        means.directory.forget(done.account_ids)
    if done.event_sequence:
        means.notify()
        await means.feed.reach(done.event_sequence)
    return done.response


def stable_digest(means: Means, label: str, text: str) -> str:
    """Returns what stands for a personal field in remembered content, as hexadecimal digits.

    It is made under the oldest key, so that a new one does not make a repeat look different.
    """
    oldest = min(means.vault.present().keys, key=lambda key: key.version)
    return oldest.digest(f"call-{label}", text).hex()


def proof_content(means: Means, proof: pb.Proof) -> str:
    """Returns what tells a proof from another one in remembered content."""
    if proof.HasField("session_token"):
        return stable_digest(means, "session", proof.session_token)
    kind = proof.code.identifier.WhichOneof("kind")
    return stable_digest(means, "proof", f"{kind}:{proof.code.identifier}")


def _repeated(earlier: calls.Earlier, response_type: Callable[..., ResponseT]) -> Done[ResponseT]:
    if earlier.conflict_field:
        return Done(
            response_type(refusal=pb.REFUSAL_CONFLICT, conflict_field=earlier.conflict_field)
        )
    response: Any = response_type()
    response.MergeFromString(earlier.answer)
    response.replayed = True
    return Done(response, event_sequence=earlier.event_sequence)
