"""The life of a payment attempt as one table of data.

Owns which news leads from which state to which, and what has to be done about it. Must not do I/O
or read a clock. Next: `lastunit.payment.attempts` writes the decisions down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "OPEN_STATES",
    "TABLE",
    "AttemptState",
    "Decision",
    "Effect",
    "News",
    "decide",
]


class AttemptState(StrEnum):
    """Where an attempt stands, as far as the payment service knows."""

    INIT = "INIT"
    """Written down; the provider has not been called, or a crash hid that it was."""
    OPEN = "OPEN"
    """The provider knows it and the buyer can pay."""
    UNKNOWN = "UNKNOWN"
    """The provider was called and gave no answer."""
    SUCCEEDED = "SUCCEEDED"
    """The money was taken, as it was asked for."""
    FAILED = "FAILED"
    """The provider said that no money was taken; money that comes all the same is honoured."""
    CANCELLED = "CANCELLED"
    """The provider acknowledged that it can never be paid any more."""
    QUARANTINED = "QUARANTINED"
    """Paid, but not what was asked for; a human decides and the unit waits."""


OPEN_STATES: Final = frozenset({AttemptState.INIT, AttemptState.OPEN, AttemptState.UNKNOWN})
"""States in which money may still come: the provider is asked until it says what happened."""


class News(StrEnum):
    """What was learnt about an attempt, by callback, by asking, or from a call's answer."""

    CREATED = "CREATED"
    """The provider made it payable."""
    REFUSED = "REFUSED"
    """The provider refused to create it; it can never be paid."""
    NO_ANSWER = "NO_ANSWER"
    """The provider did not answer the create call."""
    PAID = "PAID"
    """The buyer's money is with the provider, as it was asked for."""
    PAID_DIFFERENTLY = "PAID_DIFFERENTLY"
    """Paid with another amount or currency than asked for."""
    FAILED = "FAILED"
    """The provider says that the payment failed."""
    NOT_PAID = "NOT_PAID"
    """Asked: the provider knows it and it is still open."""
    NOT_FOUND = "NOT_FOUND"
    """Asked: the provider does not know it, yet a create call may still be on its way."""
    CLOSE_ACKNOWLEDGED = "CLOSE_ACKNOWLEDGED"
    """The provider says that it can never be paid any more."""
    CLOSE_REFUSED = "CLOSE_REFUSED"
    """Too young or busy; the close is asked for again."""
    REFUNDED = "REFUNDED"
    """All the money of a quarantined attempt is given back."""


class Effect(StrEnum):
    """What a decision obliges the service to do."""

    NONE = "NONE"
    KEEP_ASKING = "KEEP_ASKING"
    SETTLE_SUCCEEDED = "SETTLE_SUCCEEDED"
    SETTLE_FAILED = "SETTLE_FAILED"
    SETTLE_CANCELLED = "SETTLE_CANCELLED"
    QUARANTINE = "QUARANTINE"
    IGNORE = "IGNORE"
    """Lower in rank than what is known, or known already: written down and counted."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Says what news means for an attempt.

    Attributes:
        state: State the attempt is in afterwards.
        effect: What has to be done, in the same transaction or by an outbox.
    """

    state: AttemptState
    effect: Effect


_S = AttemptState
_N = News
_E = Effect

_SUCCEEDED = Decision(_S.SUCCEEDED, _E.SETTLE_SUCCEEDED)
_FAILED = Decision(_S.FAILED, _E.SETTLE_FAILED)
_CANCELLED = Decision(_S.CANCELLED, _E.SETTLE_CANCELLED)
_QUARANTINED = Decision(_S.QUARANTINED, _E.QUARANTINE)


def _while_money_may_come(state: AttemptState) -> dict[News, Decision]:
    """Returns the row of a state in which the provider has not said the last word."""
    created = _S.OPEN if state is not _S.OPEN else state
    silent = _S.UNKNOWN if state is _S.INIT else state
    return {
        _N.CREATED: Decision(created, _E.KEEP_ASKING),
        _N.REFUSED: _FAILED,
        _N.NO_ANSWER: Decision(silent, _E.KEEP_ASKING),
        _N.PAID: _SUCCEEDED,
        _N.PAID_DIFFERENTLY: _QUARANTINED,
        _N.FAILED: _FAILED,
        _N.NOT_PAID: Decision(_S.OPEN, _E.KEEP_ASKING),
        _N.NOT_FOUND: Decision(silent, _E.KEEP_ASKING),
        _N.CLOSE_ACKNOWLEDGED: _CANCELLED,
        _N.CLOSE_REFUSED: Decision(state, _E.KEEP_ASKING),
        # Nothing was refunded by us yet; whatever it is, asking will tell.
        _N.REFUNDED: Decision(state, _E.IGNORE),
    }


def _final(state: AttemptState, *, is_money_honoured: bool) -> dict[News, Decision]:
    """Returns the row of a state with a last word; only money outranks a no."""
    row = dict.fromkeys(News, Decision(state, _E.IGNORE))
    if is_money_honoured:
        row[_N.PAID] = _SUCCEEDED
        row[_N.PAID_DIFFERENTLY] = _QUARANTINED
    return row


TABLE: Final[Mapping[AttemptState, Mapping[News, Decision]]] = {
    _S.INIT: _while_money_may_come(_S.INIT),
    # A create call that is answered twice cannot make an open attempt less open.
    _S.OPEN: _while_money_may_come(_S.OPEN) | {_N.REFUSED: Decision(_S.OPEN, _E.IGNORE)},
    # An earlier create call may still be on its way, so a refusal of a later one proves nothing.
    _S.UNKNOWN: _while_money_may_come(_S.UNKNOWN)
    | {_N.REFUSED: Decision(_S.UNKNOWN, _E.KEEP_ASKING)},
    _S.SUCCEEDED: _final(_S.SUCCEEDED, is_money_honoured=False),
    _S.FAILED: _final(_S.FAILED, is_money_honoured=True),
    _S.CANCELLED: _final(_S.CANCELLED, is_money_honoured=True),
    # Once a human has sent the money back the unit need not wait any longer.
    _S.QUARANTINED: _final(_S.QUARANTINED, is_money_honoured=False) | {_N.REFUNDED: _CANCELLED},
}
"""Every state and every news: rank SUCCEEDED > CANCELLED, FAILED > OPEN, UNKNOWN > INIT."""


def decide(state: AttemptState, news: News) -> Decision:
    """Returns what news means for an attempt in this state; never fails."""
    return TABLE[state][news]
