"""The life of a refund as one table of data.

Owns which event leads from which state to which, and what has to be done about it. Must not do I/O
or read a clock. Next: `lastunit.payment.refunds` writes the decisions down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "TABLE",
    "RefundDecision",
    "RefundEffect",
    "RefundEvent",
    "RefundState",
    "decide",
]


class RefundState(StrEnum):
    """Where a refund stands."""

    INIT = "INIT"
    """Asked for and written down; the provider has not answered."""
    PENDING = "PENDING"
    """Accepted by the provider, not done."""
    DONE = "DONE"
    """The money went back."""
    FAILED = "FAILED"
    """Refused; tried again for a while, then a human decides."""


class RefundEvent(StrEnum):
    """What was learnt about a refund, by callback, by asking, or what somebody wants."""

    ACCEPTED = "ACCEPTED"
    """The provider took it on; the money is not back yet."""
    DONE = "DONE"
    """The provider says that the money is back."""
    REFUSED = "REFUSED"
    """The provider refused, or says that it came to nothing."""
    NO_ANSWER = "NO_ANSWER"
    """The provider was called and said nothing."""
    TRY_AGAIN = "TRY_AGAIN"
    """Somebody asks for another try, or a callback hurries it."""


class RefundEffect(StrEnum):
    """What a decision obliges the service to do."""

    ASK_LATER = "ASK_LATER"
    """Ask how far it is after 1 min, 5 min, 30 min, then each 2 h."""
    TRY_LATER = "TRY_LATER"
    """Try anew after 1 min, 5 min, 30 min, 2 h, 12 h; then open an incident."""
    CALL_AGAIN = "CALL_AGAIN"
    """Repeat the call soon, with the same key."""
    CALL_NOW = "CALL_NOW"
    SETTLE = "SETTLE"
    """Once all of the attempt's money is back: tell the ledger that waits for it."""
    ALARM = "ALARM"
    """Open an incident: money that was said to be back is not."""
    IGNORE = "IGNORE"
    """Known already: written down and counted."""


@dataclass(frozen=True, slots=True)
class RefundDecision:
    """Says what an event means for a refund.

    Attributes:
        state: State the refund is in afterwards.
        effect: What has to be done.
    """

    state: RefundState
    effect: RefundEffect


_S = RefundState
_E = RefundEvent
_F = RefundEffect


def _until_done(state: RefundState) -> dict[RefundEvent, RefundDecision]:
    """Returns the row of a state in which the money is not back."""
    return {
        _E.ACCEPTED: RefundDecision(_S.PENDING, _F.ASK_LATER),
        _E.DONE: RefundDecision(_S.DONE, _F.SETTLE),
        _E.REFUSED: RefundDecision(_S.FAILED, _F.TRY_LATER),
        _E.NO_ANSWER: RefundDecision(state, _F.CALL_AGAIN),
        _E.TRY_AGAIN: RefundDecision(state, _F.CALL_NOW),
    }


TABLE: Final[Mapping[RefundState, Mapping[RefundEvent, RefundDecision]]] = {
    _S.INIT: _until_done(_S.INIT),
    _S.PENDING: _until_done(_S.PENDING),
    _S.FAILED: _until_done(_S.FAILED),
    # A bank may send money back that the provider called done; only a human can judge that.
    _S.DONE: dict.fromkeys(RefundEvent, RefundDecision(_S.DONE, _F.IGNORE))
    | {_E.REFUSED: RefundDecision(_S.DONE, _F.ALARM)},
}
"""Every state and every event; nothing leaves DONE, and no clock ends a refund."""


def decide(state: RefundState, event: RefundEvent) -> RefundDecision:
    """Returns what an event means for a refund in this state; never fails."""
    return TABLE[state][event]
