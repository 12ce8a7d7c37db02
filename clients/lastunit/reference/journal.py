"""Events as messages of the contract, from what the ledger recorded.

Owns the form of events. Must not decide anything.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

from lastunit.reference.words import duration, timestamp
from lastunit.stock.v1 import event_pb2, sale_pb2

if TYPE_CHECKING:
    from lastunit.reference.state import Policy

__all__ = ["message_of", "taken_messages"]

SPANS: Final = frozenset({"ttl", "extension", "credit"})
POLICY_SPANS: Final = frozenset(
    {"reservation_ttl", "settle_by", "retry_grace", "max_life", "expiry_brake_lag", "forget_after"}
)


def message_of(name: str, head: dict[str, Any], fields: dict[str, Any]) -> event_pb2.Event:
    """Builds one event; `name` is the field of its body."""
    event = event_pb2.Event(**head)
    body = getattr(event, name)
    body.SetInParent()
    for field, value in fields.items():
        if value is not None:
            put(body, field, value)
    return event


def put(body: Any, field: str, value: Any) -> None:
    """Sets one field of an event's body from what the ledger recorded."""
    if field.endswith("_time"):
        getattr(body, field).CopyFrom(timestamp(value))
    elif field in SPANS:
        getattr(body, field).CopyFrom(duration(value))
    elif field == "lines":
        for sku, pool, units in value:
            body.lines.add(sku=sku, pool=pool, units=units)
    elif field == "taken":
        for taken in taken_messages(value):
            body.taken.add(**taken)
    elif field == "labels":
        body.labels.update(value)
    elif field == "policy":
        body.policy.CopyFrom(policy_message(value))
    elif isinstance(value, list):
        getattr(body, field).extend(value)
    else:
        setattr(body, field, value)


def taken_messages(taken: Any) -> list[dict[str, Any]]:
    """Returns drawn parts as replies and events show them."""
    return [
        {
            "line_index": line_index,
            "sku": sku,
            "pool": pool,
            "units": units,
            "is_from_buffer": is_from_buffer,
        }
        for line_index, sku, pool, units, is_from_buffer in taken
    ]


def policy_message(policy: Policy) -> sale_pb2.SalePolicy:
    """Shows a policy with every field set."""
    message = sale_pb2.SalePolicy()
    for field in dataclasses.fields(policy):
        value = getattr(policy, field.name)
        if field.name in POLICY_SPANS:
            getattr(message, field.name).CopyFrom(duration(value))
        else:
            setattr(message, field.name, value)
    return message
