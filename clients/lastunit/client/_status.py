"""The one place on the clients' side where statuses and faults become errors.

Owns the mapping in both forms: a gRPC status with details, and a `Fault` of one operation of an
exchange. Must not decide about retries. Next: `lastunit.errors`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lastunit import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastunit.stock.v1 import fault_pb2

__all__ = ["Failure", "failure_from_call", "failure_from_fault"]

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_DETAILS_KEY: Final = "grpc-status-details-bin"
_PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"

# What grpc.aio makes of a write into a connection that is just dying, instead of the status that
# the connection's end would have given. No server sends it: it never had the message.
_WRITE_BROKE: Final = "Internal error from Core"

ROLLED_BACK_REASON: Final = "JOURNAL_ROLLED_BACK"


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try, read but not yet judged.

    Attributes:
        code: The gRPC status.
        message: The server's text.
        reason: Stable machine name; empty if the server gave none.
        metadata: Facts for machines.
        violations: Fields that break the contract.
        pushback_seconds: What the server asked to wait; negative: never; None: nothing.
    """

    code: grpc.StatusCode
    message: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[errors.Violation, ...] = ()
    pushback_seconds: float | None = None

    @property
    def is_retryable(self) -> bool:
        """True if the same id may be sent again: only UNAVAILABLE, and not if told never."""
        if self.pushback_seconds is not None and self.pushback_seconds < 0:
            return False
        return self.code is grpc.StatusCode.UNAVAILABLE

    def error(
        self, *, seen_sequence: int = 0, deadline_seconds: float = 0.0
    ) -> errors.LastunitError:
        """Returns the error of the tree that this failure is.

        Args:
            seen_sequence: Highest sequence the client was told, for a journal rolled back.
            deadline_seconds: The deadline that was set, for one that was missed.
        """
        message = self.message or self.code.name.lower().replace("_", " ")
        if self.reason == ROLLED_BACK_REASON:
            return errors.RolledBackError(
                message, seen_sequence=seen_sequence, reason=self.reason, metadata=self.metadata
            )
        found: errors.LastunitError
        match self.code:
            case grpc.StatusCode.INVALID_ARGUMENT:
                found = errors.InvalidArgumentError(message, violations=self.violations)
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                found = errors.ShedError(
                    message,
                    retry_after_seconds=self._wait_seconds(),
                    lane=self.metadata.get("lane", ""),
                    bucket=self.metadata.get("bucket", ""),
                )
            case grpc.StatusCode.UNAVAILABLE:
                found = errors.UnavailableError(message, retry_after_seconds=self._wait_seconds())
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                found = errors.DeadlineExceededError(message, deadline_seconds=deadline_seconds)
            case grpc.StatusCode.UNAUTHENTICATED:
                found = errors.AccessError(message, is_authenticated=False)
            case grpc.StatusCode.PERMISSION_DENIED:
                found = errors.AccessError(message, is_authenticated=True)
            case _:
                found = errors.StatusError(message, code=self.code.name)
        found.reason, found.metadata = self.reason, self.metadata
        return found

    def _wait_seconds(self) -> float | None:
        if self.pushback_seconds is None or self.pushback_seconds < 0:
            return None
        return self.pushback_seconds


def failure_from_call(error: grpc.aio.AioRpcError) -> Failure:
    """Reads a failed call: its status, its details and its push-back."""
    trailers = {str(key): value for key, value in error.trailing_metadata() or ()}
    status = _status(trailers.get(_DETAILS_KEY))
    reason = ""
    metadata: dict[str, str] = {}
    violations: tuple[errors.Violation, ...] = ()
    pushback: float | None = None
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = tuple(
                errors.Violation(field=each.field, description=each.description, rule=each.reason)
                for each in bad_request.field_violations
            )
        elif detail.Unpack(retry):
            pushback = retry.retry_delay.ToMilliseconds() / 1000
    code = error.code()
    if code is grpc.StatusCode.INTERNAL and error.details() == _WRITE_BROKE:
        code = grpc.StatusCode.UNAVAILABLE
    return Failure(
        code=code,
        message=error.details() or "",
        reason=reason,
        metadata=metadata,
        violations=violations,
        # The header is what retry machinery obeys, and it alone can say never.
        pushback_seconds=_header_seconds(trailers.get(_PUSHBACK_KEY), pushback),
    )


def _status(packed: object) -> status_pb2.Status:
    if not isinstance(packed, bytes):
        return status_pb2.Status()
    try:
        return status_pb2.Status.FromString(packed)
    except DecodeError:
        # A proxy may have mangled it; code and text still say what is needed.
        return status_pb2.Status()


def _header_seconds(header: object, otherwise: float | None) -> float | None:
    if header is None:
        return otherwise
    text = header.decode("ascii", "replace") if isinstance(header, bytes) else str(header)
    try:
        return int(text) / 1000
    except ValueError:
        # gRPC's retry design reads an unparsable push-back as: do not retry.
        return -1.0


def failure_from_fault(fault: fault_pb2.Fault) -> Failure:
    """Reads the fault of one operation of an exchange."""
    pushback = None
    if fault.HasField("retry_after"):
        pushback = fault.retry_after.ToMilliseconds() / 1000
    return Failure(
        code=_CODES.get(fault.code, grpc.StatusCode.UNKNOWN),
        message=fault.message,
        reason=fault.reason,
        metadata=dict(fault.metadata),
        violations=tuple(
            errors.Violation(field=each.field, description=each.description, rule=each.rule)
            for each in fault.violations
        ),
        pushback_seconds=pushback,
    )
