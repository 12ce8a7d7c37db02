"""The one place of the Python side where faults become gRPC statuses.

Owns the mapping between serialized `google.rpc.Status` and code, text and trailing metadata; must
not decide whether something is a fault (the node does, but for what only a front can see).
"""

import logging
import random
from typing import NamedTuple

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from lastunit_server import logs

__all__ = [
    "DETAILS_KEY",
    "DOMAIN",
    "PUSHBACK_KEY",
    "Refusal",
    "Violation",
    "bug",
    "draining",
    "events_removed",
    "fault",
    "past_the_end",
    "refusal_from",
    "too_many_streams",
    "wrong_listener",
]

DOMAIN = "lastunit"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
# Clients add no jitter of their own to a push-back: without a spread they all come back together.
_SPREAD = 0.5

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_RETRY_INFO_NAME = error_details_pb2.RetryInfo.DESCRIPTOR.full_name


class Refusal(NamedTuple):
    """What a transport needs to refuse a call.

    Attributes:
        code: The gRPC status code, never OK.
        message: The text for the caller.
        trailers: Trailing metadata: the details, and a push-back if waiting helps.
    """

    code: grpc.StatusCode
    message: str
    trailers: tuple[tuple[str, str | bytes], ...]

    @property
    def status(self) -> bytes:
        """The serialized `google.rpc.Status` that goes along as details."""
        return next(value for _key, value in self.trailers if isinstance(value, bytes))


class Violation(NamedTuple):
    """One field that broke a rule.

    Attributes:
        field: Its path from the request, or a metadata key.
        rule: The rule's name, for example `int64.gte`.
        description: What the rule demands.
    """

    field: str
    rule: str
    description: str


def refusal_from(code: int, status_bytes: bytes) -> Refusal:
    """Unpacks a fault of the node.

    Args:
        code: gRPC status code, 1 to 16.
        status_bytes: A serialized `google.rpc.Status`.

    Returns:
        The same fault in the transport's terms.
    """
    status = status_pb2.Status.FromString(status_bytes)
    trailers: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status_bytes)]
    for detail in status.details:
        if detail.type_url.endswith(_RETRY_INFO_NAME):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            delay_ms = retry.retry_delay.seconds * 1000 + retry.retry_delay.nanos / 1_000_000
            spread = delay_ms * random.uniform(1, 1 + _SPREAD)  # noqa: S311 - not a secret
            trailers.append((PUSHBACK_KEY, str(round(spread))))
    return Refusal(_CODES.get(code, grpc.StatusCode.UNKNOWN), status.message, tuple(trailers))


def fault(
    code: grpc.StatusCode,
    reason: str,
    message: str,
    *,
    metadata: dict[str, str] | None = None,
    violations: "tuple[Violation, ...]" = (),
) -> Refusal:
    """Makes a fault that only a front can see.

    Args:
        code: The gRPC status code.
        reason: The stable machine name.
        message: Lowercase, what happened then what to do.
        metadata: Whatever the text says, for machines.
        violations: The fields that broke a rule.

    Returns:
        The refusal with all its details packed.
    """
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata or {})
    status.details.append(_packed(info))
    if violations:
        bad_request = error_details_pb2.BadRequest()
        for found in violations:
            # The status wants a reason in UPPER_SNAKE_CASE: `int64.gte` is told as INT64_GTE.
            reason = found.rule.replace(".", "_").upper()
            bad_request.field_violations.add(
                field=found.field, reason=reason, description=found.description
            )
        status.details.append(_packed(bad_request))
    return Refusal(code, message, ((DETAILS_KEY, status.SerializeToString()),))


def _packed(message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def wrong_listener(method: str, *, here: str, there: str, address: str) -> Refusal:
    """Refuses a method that the other listener serves.

    Args:
        method: The gRPC path.
        here: The name of this listener.
        there: The name of the listener to use.
        address: Its `host:port`.

    Returns:
        FAILED_PRECONDITION with reason WRONG_LISTENER: a retry here never helps.
    """
    return fault(
        grpc.StatusCode.FAILED_PRECONDITION,
        "WRONG_LISTENER",
        f"{method} is not served on the {here} listener, call the {there} listener at {address}",
        metadata={"method": method, "listener": there, "address": address},
    )


def draining() -> Refusal:
    """Ends a stream because the server stops: UNAVAILABLE, safe to open again."""
    return fault(
        grpc.StatusCode.UNAVAILABLE,
        "DRAINING",
        "the server is stopping, open the stream again in a moment",
    )


def too_many_streams(limit: int, *, advice: str) -> Refusal:
    """Refuses one stream more than a listener keeps open.

    Args:
        limit: Streams that may be open at once.
        advice: What else the caller can do, lowercase.

    Returns:
        RESOURCE_EXHAUSTED with reason TOO_MANY_STREAMS.
    """
    return fault(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "TOO_MANY_STREAMS",
        f"{limit} streams are open already, {advice}",
        metadata={"limit": str(limit)},
    )


def past_the_end(after_sequence: int) -> Refusal:
    """Refuses to read events after a position that this journal has not reached.

    Args:
        after_sequence: The position asked for.

    Returns:
        OUT_OF_RANGE: the reader knows events that this journal lacks, so it reads another one.
    """
    return fault(
        grpc.StatusCode.OUT_OF_RANGE,
        "SEQUENCE_NOT_REACHED",
        f"after_sequence {after_sequence} lies beyond the end of the journal, which may have been"
        " rolled back; check that this is the right server before reading from an earlier sequence",
        metadata={"after_sequence": str(after_sequence)},
    )


def events_removed(after_sequence: int, first_sequence: int) -> Refusal:
    """Refuses to read events that are not kept any more.

    Args:
        after_sequence: The position asked for.
        first_sequence: The oldest event that is there.

    Returns:
        OUT_OF_RANGE: reading on from where the journal starts would leave a gap, so the reader must
        say that it knows.
    """
    return fault(
        grpc.StatusCode.OUT_OF_RANGE,
        "EVENTS_REMOVED",
        f"events after {after_sequence} were removed, the journal starts at {first_sequence};"
        " compare your own state with the ledger's (GetReservation, ListReservations), then read"
        f" after {first_sequence - 1}",
        metadata={
            "after_sequence": str(after_sequence),
            "first_sequence": str(first_sequence),
        },
    )


def bug(method: str) -> Refusal:
    """Logs the exception that is being handled and hides its text behind an error id.

    Args:
        method: The gRPC path that it happened in.

    Returns:
        INTERNAL with the id and nothing else of what happened.
    """
    identifier = logs.error_id()
    logs.event(
        "call_failed", level=logging.ERROR, exception=True, method=method, error_id=identifier
    )
    return fault(
        grpc.StatusCode.INTERNAL,
        "INTERNAL",
        f"the server failed on this call, report error id {identifier}",
        metadata={"error_id": identifier},
    )
