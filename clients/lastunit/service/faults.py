"""Faults: how a service says over gRPC that a request or the system is wrong.

Owns the one mapping of errors to gRPC statuses on the services' side. Must not hold business
refusals: those are fields of a normal reply. Next: `lastunit.service.server`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from lastunit import errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.message import Message

__all__ = ["DOMAIN", "FaultError", "fault_from_error"]

DOMAIN: Final = "lastunit"
"""The domain of every `google.rpc.ErrorInfo` of lastunit."""

# Seconds after which a caller may come back to a full queue: some groups have committed by then.
_BUSY_RETRY_SECONDS: Final = 0.25


class FaultError(Exception):
    """Ends the call that raises it with a status and its details.

    Args:
        code: The gRPC status.
        message: Lowercase, no full stop: what happened, then what to do.
        reason: Stable machine name in capitals, such as `UNKNOWN_ORDER`.
        metadata: What is in the text, for machines.
        violations: The fields that are wrong, for INVALID_ARGUMENT.
        retry_after_seconds: When to come back, if waiting helps.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[errors.Violation] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds

    def trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        """Returns the trailing metadata: `google.rpc.Status`, and when to come back."""
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)
        ]
        if self.violations:
            details.append(_bad_request(self.violations))
        pushback: tuple[tuple[str, str | bytes], ...] = ()
        if self.retry_after_seconds is not None:
            milliseconds = max(0, round(self.retry_after_seconds * 1000))
            span = duration_pb2.Duration()
            span.FromMilliseconds(milliseconds)
            details.append(error_details_pb2.RetryInfo(retry_delay=span))
            pushback = (("grpc-retry-pushback-ms", str(milliseconds)),)
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        status.details.extend(_pack(detail) for detail in details)
        return (("grpc-status-details-bin", status.SerializeToString()), *pushback)


def _bad_request(violations: Sequence[errors.Violation]) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(
                field=violation.field, description=violation.description, reason=violation.rule
            )
            for violation in violations
        ]
    )


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def fault_from_error(error: errors.LastunitError) -> FaultError | None:
    """Returns the fault a service answers with when a call of its own failed.

    Args:
        error: What the client library or the writer raised.

    Returns:
        The fault; None if the error is a bug of this service and its text must not leave it.
    """
    code: grpc.StatusCode
    retry_after: float | None = None
    match error:
        case errors.ShedError():
            code, retry_after = grpc.StatusCode.RESOURCE_EXHAUSTED, error.retry_after_seconds
        case errors.BusyError():
            code, retry_after = grpc.StatusCode.RESOURCE_EXHAUSTED, _BUSY_RETRY_SECONDS
        case errors.UnavailableError():
            code, retry_after = grpc.StatusCode.UNAVAILABLE, error.retry_after_seconds
        case errors.ClosedError():
            code = grpc.StatusCode.UNAVAILABLE
        case errors.RolledBackError():
            code = grpc.StatusCode.FAILED_PRECONDITION
        case errors.DeadlineExceededError():
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        case _:
            return None
    return FaultError(
        code,
        str(error),
        reason=error.reason or code.name,
        metadata=error.metadata,
        retry_after_seconds=retry_after,
    )
