"""What one client knows of its reservations: the state it was told, and the units that follow.

Owns the lawful moves of a reservation as a client sees them (design: the reservation's life), so
that a reply or a state that contradicts what was told before is noticed. Must not: send anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lastunit.stock.v1 import reservation_pb2 as words

HELD, PAYING, OVERDUE, CONFIRMED = (
    words.STATE_HELD,
    words.STATE_PAYING,
    words.STATE_OVERDUE,
    words.STATE_CONFIRMED,
)
RELEASED, REFUND_DUE, REFUNDED, RETURNED = (
    words.STATE_RELEASED,
    words.STATE_REFUND_DUE,
    words.STATE_REFUNDED,
    words.STATE_RETURNED,
)
OK, CONFLICT = 1, 2
SUCCEEDED = words.PAYMENT_RESULT_SUCCEEDED

# Where the units of a state are counted.
PLACE_OF_STATE = {HELD: "held", PAYING: "paying", OVERDUE: "overdue", CONFIRMED: "sold"}
# What an OK may leave behind, by command and the state before; nothing else is lawful.
AFTER: dict[str, dict[int, set[int]]] = {
    "BeginPayment": {HELD: {PAYING}, PAYING: {PAYING}, RELEASED: {PAYING}},
    "Confirm": {HELD: {CONFIRMED}},
    "Extend": {HELD: {HELD}},
    "Release": {HELD: {RELEASED}, PAYING: {PAYING}, OVERDUE: {OVERDUE}},
    "ReleaseUnverified": {OVERDUE: {RELEASED}},
    "Return": {CONFIRMED: {CONFIRMED, RETURNED}, REFUND_DUE: {REFUND_DUE}},
    "RecordRefund": {
        state: {state, REFUNDED} for state in (CONFIRMED, REFUND_DUE, REFUNDED, RETURNED)
    },
}
AFTER_SUCCESS = {
    HELD: {CONFIRMED},
    PAYING: {CONFIRMED},
    OVERDUE: {CONFIRMED},
    RELEASED: {CONFIRMED, REFUND_DUE},
}
AFTER_FAILURE = {PAYING: {PAYING, HELD, RELEASED}, OVERDUE: {OVERDUE, RELEASED}}


@dataclass(eq=False)
class Claim:
    """One reservation and what its owner was told of it."""

    reservation_id: str
    sale_id: str
    units: dict[str, int]
    # Timers may move it: its sale has short times.
    is_short: bool
    # 0 until the reservation is acknowledged.
    state: int = 0
    attempts: list[str] = field(default_factory=list)
    refunds: list[str] = field(default_factory=list)
    returned: Counter[str] = field(default_factory=Counter)
    # A call on it is under way or its answer is unknown: the next one waits.
    is_busy: bool = False

    def may_be(self, states: set[int] | None = None) -> set[int]:
        """Returns the states in which it may be found now: timers move it if its times are short.

        Args:
            states: In one of which it was; without, the one that was told last.
        """
        states = states or {self.state}
        if not self.is_short:
            return states
        expired = {RELEASED} if HELD in states else set()
        overdue = {OVERDUE} if PAYING in states else set()
        return states | expired | overdue

    def found(self, state: int) -> str:
        """Notes a state that a reply shows; returns what is wrong with it, or nothing."""
        if state not in self.may_be():
            return f"{self.reservation_id} is {name(state)}, was told {name(self.state)}"
        self.state = state
        return ""

    def answered(self, kind: str, request: Any, response: Any) -> str:
        """Notes the first answer to a call on it; returns what is wrong with it, or nothing."""
        result = response.result
        if result.outcome != OK:
            return self._refused(kind, response)
        if kind == "Reserve":
            self.state = HELD
            return self.found(result.state)
        if kind == "Return":
            self.returned[f"{request.sku} {request.disposition}"] += request.units
        if kind == "RecordRefund":
            self.refunds.remove(request.attempt_id)
        if kind == "SettlePayment" and response.refund_due:
            self.refunds.append(request.attempt_id)
        lawful = set().union(*(lawful_after(kind, request, state) for state in self.may_be()))
        # The answer came late, as a repetition: a timer may have been there before it.
        lawful = self.may_be(lawful) if result.replayed else lawful
        if result.state not in lawful:
            moved = f"{name(self.state)} to {name(result.state)}"
            return f"{self.reservation_id} went from {moved} by {kind}"
        self.state = result.state
        return ""

    def _refused(self, kind: str, response: Any) -> str:
        if response.result.outcome == CONFLICT:
            return f"{self.reservation_id}: {kind} is called another content of the same id"
        if kind == "Reserve" or not response.result.state:
            return ""
        return self.found(response.result.state)

    def counted(self) -> Counter[str]:
        """Returns where its units are, as `sku place`."""
        total: Counter[str] = Counter()
        place = PLACE_OF_STATE.get(self.state)
        for sku, units in self.units.items():
            back = sum(self.returned[f"{sku} {disposition}"] for disposition in (1, 2, 3))
            if place:
                total[f"{sku} {place}"] += units - back
            total[f"{sku} quarantine"] += self.returned[f"{sku} 2"]
            total[f"{sku} written_off"] += self.returned[f"{sku} 3"]
        return total


def lawful_after(kind: str, request: Any, state: int) -> set[int]:
    """Returns the states that an OK to a command may leave behind."""
    if kind != "SettlePayment":
        return AFTER[kind].get(state, set())
    if request.payment_result == SUCCEEDED:
        return AFTER_SUCCESS.get(state, {state})
    return AFTER_FAILURE.get(state, {state})


def name(state: int) -> str:
    """Returns the word for a state."""
    return words.State.keys()[state].removeprefix("STATE_")
