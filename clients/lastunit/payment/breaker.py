"""The breaker of one provider: whether new attempts go to it, as one table of data.

Owns the states, what moves them, and the counting behind it. Time is an argument. Must not call the
provider: `lastunit.payment.providers` does, and tells what came of it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "Breaker", "BreakerEvent", "BreakerLimits", "BreakerState"]


class BreakerState(StrEnum):
    """Whether a provider is trusted with new attempts."""

    CLOSED = "CLOSED"
    """It is; money flows."""
    OPEN = "OPEN"
    """It is not; new attempts go to the next one. Those that it has stay with it."""
    HALF_OPEN = "HALF_OPEN"
    """A few attempts may try it."""


class BreakerEvent(StrEnum):
    """What was seen of a provider."""

    MANY_ERRORS = "MANY_ERRORS"
    """Half of the last calls had an error or no answer."""
    CHECKS_LOST = "CHECKS_LOST"
    """Several health checks in a row had no answer."""
    REST_OVER = "REST_OVER"
    """It was left alone long enough."""
    PROBES_WELL = "PROBES_WELL"
    """All attempts that tried it were answered."""
    PROBE_FAILED = "PROBE_FAILED"
    """One of the attempts that tried it was not."""


_S = BreakerState
_E = BreakerEvent

TRANSITIONS: Final[Mapping[tuple[BreakerState, BreakerEvent], BreakerState]] = {
    (_S.CLOSED, _E.MANY_ERRORS): _S.OPEN,
    (_S.CLOSED, _E.CHECKS_LOST): _S.OPEN,
    (_S.OPEN, _E.REST_OVER): _S.HALF_OPEN,
    (_S.HALF_OPEN, _E.PROBES_WELL): _S.CLOSED,
    (_S.HALF_OPEN, _E.PROBE_FAILED): _S.OPEN,
    (_S.HALF_OPEN, _E.CHECKS_LOST): _S.OPEN,
}
"""The only moves; any other pair leaves the state as it is."""


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """Says when a provider is given up and tried again.

    Attributes:
        call_count: So many of the last calls are looked at, 2 to 1,000.
        error_count: So many errors among them open it, 1 to `call_count`.
        lost_check_count: So many health checks in a row without an answer open it, 1 to 100.
        rest_ms: Pause before it is tried again, milliseconds, 1 or more.
        probe_count: Attempts that try it then; all must be answered; 1 to 100.
    """

    call_count: int = 20
    error_count: int = 10
    lost_check_count: int = 3
    rest_ms: int = 30_000
    probe_count: int = 3


class Breaker:
    """Counts what comes of calls to one provider.

    Args:
        limits: When it opens and closes.
        now_ms: The time, milliseconds since 1970.

    Attributes:
        state: Where it stands.
        since_ms: When it got there.
        cause: The last event that moved it; None at first.
    """

    def __init__(self, limits: BreakerLimits, *, now_ms: int) -> None:
        self._limits = limits
        self._calls: deque[bool] = deque(maxlen=limits.call_count)
        self._lost_checks = 0
        self._probes_left = 0
        self._probes_well = 0
        self.state = BreakerState.CLOSED
        self.since_ms = now_ms
        self.cause: BreakerEvent | None = None

    @property
    def error_count(self) -> int:
        """How many of the last calls had an error or no answer."""
        return self._calls.count(False)

    def take(self, now_ms: int) -> bool:
        """Tells whether a new attempt may go to the provider, and counts it as a probe if so."""
        if self.state is _S.OPEN and now_ms - self.since_ms >= self._limits.rest_ms:
            self._move(_E.REST_OVER, now_ms)
        if self.state is _S.HALF_OPEN and self._is_stuck(now_ms):
            # Probes whose outcome nobody told, as after a cancelled call, must not bar it for ever.
            self._begin_probes(now_ms)
        if self.state is _S.HALF_OPEN and self._probes_left > 0:
            self._probes_left -= 1
            return True
        return self.state is _S.CLOSED

    def note_call(self, *, is_well: bool, now_ms: int) -> None:
        """Counts what came of a new attempt; a refusal of it counts as an error."""
        if self.state is _S.HALF_OPEN:
            self._probes_well += is_well
            if not is_well:
                self._move(_E.PROBE_FAILED, now_ms)
            elif self._probes_well >= self._limits.probe_count:
                self._move(_E.PROBES_WELL, now_ms)
            return
        self._calls.append(is_well)
        if self.error_count >= self._limits.error_count:
            self._move(_E.MANY_ERRORS, now_ms)

    def note_check(self, *, is_answered: bool, now_ms: int) -> None:
        """Counts a health check."""
        self._lost_checks = 0 if is_answered else self._lost_checks + 1
        if self._lost_checks >= self._limits.lost_check_count:
            self._move(_E.CHECKS_LOST, now_ms)

    def _is_stuck(self, now_ms: int) -> bool:
        return self._probes_left == 0 and now_ms - self.since_ms >= self._limits.rest_ms

    def _begin_probes(self, now_ms: int) -> None:
        self._probes_left = self._limits.probe_count
        self._probes_well = 0
        self.since_ms = now_ms

    def _move(self, event: BreakerEvent, now_ms: int) -> None:
        target = TRANSITIONS.get((self.state, event), self.state)
        if target is self.state:
            return
        self.state, self.since_ms, self.cause = target, now_ms, event
        self._calls.clear()
        if target is _S.HALF_OPEN:
            self._begin_probes(now_ms)
