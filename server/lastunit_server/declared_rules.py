"""Decodes the few requests that this side reads itself and checks their declared rules.

Owns nothing of the rules: they stand in the protos, and the node enforces the same ones on the hot
path. Used once per stream and by control calls only.
"""

from typing import TypeVar

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from lastunit_server.faults import Refusal, fault

__all__ = ["checked"]

_REASON = "INVALID_REQUEST"

Request = TypeVar("Request", bound=Message)


def checked(kind: type[Request], request: bytes) -> Request | Refusal:
    """Decodes a request and holds it against its declaration.

    Args:
        kind: The message type.
        request: The message as it arrived.

    Returns:
        The message, or INVALID_ARGUMENT that names each wrong field.
    """
    try:
        message = kind.FromString(request)
    except DecodeError:
        name = kind.DESCRIPTOR.name
        return fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            _REASON,
            f"the message is not a {name}, encode it with the published protos",
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
    return message


def _field_path(violation: protovalidate.Violation) -> str:
    path = violation.proto.field
    return ".".join(element.field_name for element in path.elements) if path else ""
