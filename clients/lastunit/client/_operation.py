"""One operation on its way through a batch stream.

Owns its future and what is known of its tries. Must not send anything.
Next: `lastunit.client._exchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

    from lastunit.client._status import Failure

__all__ = ["Operation"]


class Operation:
    """Waits for the reply of one operation.

    Args:
        kind: Name of the operation's field in the contract.
        part: An `ExchangeRequest` with this one operation, serialized.
        future: Resolves to the response message.
        deadline: On the event loop's clock, in seconds.
        deadline_seconds: What the caller had set, for the text of an error.

    Attributes:
        failure_count: Tries that failed.
        last_failure: Why the last one did; None before the first failure.
    """

    __slots__ = (
        "deadline",
        "deadline_seconds",
        "failure_count",
        "future",
        "kind",
        "last_failure",
        "part",
    )

    def __init__(
        self,
        kind: str,
        part: bytes,
        future: asyncio.Future[Any],
        deadline: float,
        deadline_seconds: float,
    ) -> None:
        self.kind = kind
        self.part = part
        self.future = future
        self.deadline = deadline
        self.deadline_seconds = deadline_seconds
        self.failure_count = 0
        self.last_failure: Failure | None = None

    @property
    def is_done(self) -> bool:
        """True if it has its answer, its error, or a caller that went away."""
        return self.future.done()

    def resolve(self, response: Any) -> None:
        """Hands the response over, unless nobody waits for it any more."""
        if not self.future.done():
            self.future.set_result(response)

    def fail(self, error: Exception) -> None:
        """Hands an error over, unless nobody waits for it any more."""
        if not self.future.done():
            self.future.set_exception(error)
