"""What a rule answers: an outcome, what the result says of it, and the response's own fields.

Owns the form of answers inside the model. Must not know how they are sent: `ledger` does that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lastunit.stock.v1 import outcome_pb2

if TYPE_CHECKING:
    from lastunit.reference.state import Reservation

__all__ = ["Answer", "done", "refused"]


@dataclass(slots=True)
class Answer:
    """The answer of one rule.

    Attributes:
        outcome: What came of the command.
        reservation: The one whose state is told; None if none is concerned or known.
        result: Further fields of `Result`, times in milliseconds.
        fields: The response's own fields, times in milliseconds.
    """

    outcome: int
    reservation: Reservation | None = None
    result: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)


def done(reservation: Reservation | None = None, /, **fields: Any) -> Answer:
    """Says that the command was carried out; `fields` are the response's own."""
    return Answer(outcome_pb2.OUTCOME_OK, reservation, {}, fields)


def refused(outcome: int, reservation: Reservation | None = None, /, **result: Any) -> Answer:
    """Says no; `result` are fields of `Result`, times in milliseconds."""
    return Answer(outcome, reservation, result)
