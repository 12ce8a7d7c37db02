"""An order for a gate as the console's form sends it.

Owns the form's fields; must not judge them: the request is held against the contract's rules.
"""

from typing import Any

from google.protobuf.duration_pb2 import Duration

from lastunit.admission.v1 import gate_pb2 as messages

__all__ = ["order_request"]

_HANDS = {
    "automatic": messages.GATE_HAND_AUTOMATIC,
    "open": messages.GATE_HAND_OPEN,
    "queueing": messages.GATE_HAND_QUEUEING,
    "closed": messages.GATE_HAND_CLOSED,
}


def order_request(body: dict[str, Any], actor: str) -> messages.SetGateRequest | None:
    """Builds the request of a form.

    Args:
        body: `sale_id`, `hand`, `reason`, `hold_seconds` (0: until taken back) and
            `expected_revision`.
        actor: Who is signed in.

    Returns:
        The request; None if a field is missing or of another type.
    """
    hold_seconds = body.get("hold_seconds", 0)
    texts = [body.get(name) for name in ("sale_id", "hand", "reason")]
    numbers = [hold_seconds, body.get("expected_revision", 0)]
    are_numbers = all(type(number) is int and 0 <= number < 2**31 for number in numbers)
    if not all(isinstance(text, str) for text in texts) or not are_numbers:
        return None
    sale_id, hand, reason = map(str, texts)
    request = messages.SetGateRequest(
        sale_id=sale_id,
        hand=_HANDS.get(hand, messages.GATE_HAND_UNSPECIFIED),
        actor=actor,
        reason=reason,
    )
    if hold_seconds:
        request.hold.CopyFrom(Duration(seconds=hold_seconds))
    if "expected_revision" in body:
        request.expected_revision = body["expected_revision"]
    return request
