"""The one request that this side decodes: ReadEventsRequest, once per stream.

Owns its check against the rules declared in the proto, and the faults that follow from it.
"""

from typing import NamedTuple

import grpc
import protovalidate
from google.protobuf.message import DecodeError

from lastunit.stock.v1 import journal_service_pb2
from lastunit_server.faults import Refusal, fault

__all__ = ["EventRequest", "event_request_from", "past_the_end"]

_REASON = "INVALID_REQUEST"


class EventRequest(NamedTuple):
    """A checked request for events.

    Attributes:
        after_sequence: 0 or more.
        is_following: Whether the stream goes on live.
        page_size: Events a message, 1 to 4,096.
    """

    after_sequence: int
    is_following: bool
    page_size: int


def event_request_from(request: bytes) -> EventRequest | Refusal:
    """Decodes and checks a request.

    Args:
        request: The message as it arrived.

    Returns:
        The request, or INVALID_ARGUMENT that names each wrong field.
    """
    try:
        message = journal_service_pb2.ReadEventsRequest.FromString(request)
    except DecodeError:
        return fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            _REASON,
            "the message is not a ReadEventsRequest, encode it with the published protos",
        )
    violations = tuple(
        (_field_path(violation), violation.proto.message)
        for violation in protovalidate.collect_violations(message)
    )
    if violations:
        text = "; ".join(f"{field}: {description}" for field, description in violations)
        return fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            _REASON,
            f"the request breaks its declared rules, correct {text}",
            violations=violations,
        )
    return EventRequest(message.after_sequence, message.follow, message.page_size)


def _field_path(violation: protovalidate.Violation) -> str:
    path = violation.proto.field
    return ".".join(element.field_name for element in path.elements) if path else ""


def past_the_end(after_sequence: int) -> Refusal:
    """Refuses a position that this journal has not reached.

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
