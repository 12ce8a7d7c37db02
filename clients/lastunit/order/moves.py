"""What moves an order: which event, what caused it, who, and when.

Owns the shape that every stored transition has. Must not do I/O or decide a state.
Next: `lastunit.order.states` (the tables), `lastunit.order.store` (the rows).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastunit.order.states import FulfilmentEvent, OrderEvent

__all__ = ["CauseKind", "Entity", "Fact", "Move"]


class Entity(StrEnum):
    """Which machine a transition is of."""

    ORDER = "order"
    FULFILMENT = "fulfilment"


class CauseKind(StrEnum):
    """What kind of thing a transition's cause is the id of."""

    CALL = "CALL"
    """A call to this service, by its request id."""
    LEDGER = "LEDGER"
    """An event of the ledger, which the sequence names: its request, its attempt, or `timer`."""
    REFUND = "REFUND"
    """The payment service's word on a refund, by the refund's id."""
    COMPARISON = "COMPARISON"
    """The ledger's reservation was looked at, because events might have been missed."""


@dataclass(frozen=True, slots=True)
class Move:
    """Is one event of the ledger that moves an order.

    Attributes:
        event: What the ledger said.
        sequence: Its position.
        cause: What caused it there: a request, an attempt, or `timer`.
        actor: Who caused it there: an operator, a caller, or `timer`.
        reason: Why, for operators' commands; otherwise empty.
        time_ms: Ledger time.
        values: Columns that change with it, beside the state.
    """

    event: OrderEvent
    sequence: int
    cause: str
    actor: str
    reason: str
    time_ms: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """Is one move that only this service knows of.

    Attributes:
        event: What happened, to the order or to its goods.
        cause_kind: CALL or REFUND.
        cause: The request's id, or the refund's.
        actor: Who asked; the payment service for what it said.
        reason: Why, up to 256 bytes; empty where nobody was asked.
        time_ms: When, milliseconds since 1970.
        content: What a repeat of the call must say again.
    """

    event: OrderEvent | FulfilmentEvent
    cause_kind: CauseKind
    cause: str
    actor: str
    reason: str
    time_ms: int
    content: Mapping[str, Any] = field(default_factory=dict)
