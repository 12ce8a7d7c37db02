"""The one tree of errors that lastunit raises, drawn.

Owns the classes and their data. Must not know gRPC: `lastunit.client._status` turns statuses
into these errors and `lastunit.service.faults` turns these errors into statuses.

```
LastunitError                 reason, metadata
├── InvalidArgumentError      violations: which field, which rule
├── ShedError                 retry_after_seconds, lane, bucket: admission said not now
├── UnavailableError          retry_after_seconds: no answer, the effect is unknown
├── RolledBackError           seen_sequence: the server has forgotten what it once told
├── EventsRemovedError        first_sequence: the events asked for are not kept any more
├── DeadlineExceededError     deadline_seconds: time ran out, the effect is unknown
├── AccessError               is_authenticated: who are you, or you may not
├── BusyError                 limit: a bounded queue of this process is full, nothing was sent
├── ClosedError               used after close, or closed while waiting
└── StatusError               code: any other status
```

A domain answer such as SOLD_OUT is no error: it is the outcome of a reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AccessError",
    "BusyError",
    "ClosedError",
    "DeadlineExceededError",
    "EventsRemovedError",
    "InvalidArgumentError",
    "LastunitError",
    "RolledBackError",
    "ShedError",
    "StatusError",
    "UnavailableError",
    "Violation",
]


class LastunitError(Exception):
    """Is the root of everything lastunit raises on purpose.

    Attributes:
        reason: Stable machine name such as `JOURNAL_ROLLED_BACK`; empty if none was given.
        metadata: Facts of the text for machines.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata: Mapping[str, str] = dict(metadata or {})


@dataclass(frozen=True, slots=True)
class Violation:
    """Names one field of a request that breaks a rule.

    Attributes:
        field: Path of the field, such as `lines[3].units`.
        description: The rule in words.
        rule: Stable name of the rule, such as `int64.lte`; empty if unknown.
    """

    field: str
    description: str
    rule: str = ""


class InvalidArgumentError(LastunitError):
    """A request breaks the contract; sending it again can never help.

    Attributes:
        violations: Every field that was found wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[Violation] = (),
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.violations: tuple[Violation, ...] = tuple(violations)


class ShedError(LastunitError):
    """Admission refused the call before it could have any effect.

    Attributes:
        retry_after_seconds: Seconds until it makes sense to come back; None: it never does.
        lane: Lane that refused, such as `reservation`; empty if unknown.
        bucket: Bucket or limit that refused; empty if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        lane: str = "",
        bucket: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after_seconds = retry_after_seconds
        self.lane = lane
        self.bucket = bucket


class UnavailableError(LastunitError):
    """No server answered within the deadline; the effect is unknown, retry with the same id.

    Attributes:
        retry_after_seconds: Seconds the server asked to wait; None if it said nothing.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.retry_after_seconds = retry_after_seconds


class RolledBackError(LastunitError):
    """The server's journal ends before what it had already told this client.

    Attributes:
        seen_sequence: Highest sequence this client was told.
    """

    def __init__(
        self,
        message: str,
        *,
        seen_sequence: int,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.seen_sequence = seen_sequence


class EventsRemovedError(LastunitError):
    """The events asked for were removed; what they did is in the ledger's state.

    Compare your own state with the ledger's (`get_reservation`, `list_reservations`), then read
    after `first_sequence - 1`.

    Attributes:
        first_sequence: The oldest event that the journal still has.
    """

    def __init__(
        self,
        message: str,
        *,
        first_sequence: int,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.first_sequence = first_sequence


class DeadlineExceededError(LastunitError):
    """The deadline passed; unless the server said otherwise the effect is unknown.

    Attributes:
        deadline_seconds: The deadline that was set for the call; 0 if it is not known here.
    """

    def __init__(
        self,
        message: str,
        *,
        deadline_seconds: float = 0.0,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.deadline_seconds = deadline_seconds


class AccessError(LastunitError):
    """The caller is unknown to the server or may not do this.

    Attributes:
        is_authenticated: True if the caller is known but may not do this.
    """

    def __init__(
        self,
        message: str,
        *,
        is_authenticated: bool,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.is_authenticated = is_authenticated


class BusyError(LastunitError):
    """A bounded queue of this process is full; nothing was started or sent.

    Attributes:
        limit: How many entries the queue holds.
    """

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(message, reason="BUSY", metadata={"limit": str(limit)})
        self.limit = limit


class ClosedError(LastunitError):
    """The object was closed before or while it was used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="CLOSED")


class StatusError(LastunitError):
    """A call ended with a status that no other branch stands for.

    Attributes:
        code: Name of the gRPC status, such as `NOT_FOUND`.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, metadata=metadata)
        self.code = code
