"""Decodes the few requests that this side reads itself and checks their declared rules.

Owns nothing of the rules: they stand in the protos, and the node enforces the same ones on the hot
path. Used once per stream and by control calls only.
"""

from typing import TypeVar

import grpc
import protovalidate
from google.protobuf.message import DecodeError, Message

from lastunit_server.faults import Refusal, Violation, fault

__all__ = ["checked"]

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
    except DecodeError as error:
        return fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            "MALFORMED_REQUEST",
            f"the request does not decode ({error}); send what the contract says",
            metadata={"detail": str(error)},
        )
    violations = tuple(
        Violation(_field_path(found), found.proto.rule_id, found.proto.message)
        for found in protovalidate.collect_violations(message)
    )
    if violations:
        first = violations[0]
        more = f" and {len(violations) - 1} more" if len(violations) > 1 else ""
        return fault(
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            f"field {first.field} {first.description}{more}; correct the request",
            metadata={"field": first.field, "rule": first.rule},
            violations=violations,
        )
    return message


def _field_path(violation: protovalidate.Violation) -> str:
    path = violation.proto.field
    return ".".join(element.field_name for element in path.elements) if path else ""
