"""When to try again: a pure rule over the attempt, the push-back and the time left.

Owns the back-off. Must not sleep or read a clock. Next: `lastunit.client._unary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random

__all__ = ["BACKOFF_SECONDS_MAX", "BACKOFF_SECONDS_MIN", "backoff_seconds"]

# The first pause outlasts a dropped connection; the longest still finds a restarted server
# within a second.
BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 0.8

# 0.05 s doubles to 0.8 s in four steps; more would only make a huge power of two.
_DOUBLINGS_MAX: Final = 4


def backoff_seconds(
    failure_count: int, *, pushback_seconds: float | None, jitter: random.Random
) -> float | None:
    """Tells how long to wait before the next try.

    Args:
        failure_count: How many tries have failed in a row, 1 or more.
        pushback_seconds: What the server asked for; negative: never again; None: nothing.
        jitter: Spreads clients that failed together.

    Returns:
        Seconds to wait, 0 or more; None: do not try again.
    """
    if failure_count < 1:
        raise ValueError(f"failure_count is {failure_count}; it must be 1 or more")
    if pushback_seconds is not None:
        return None if pushback_seconds < 0 else pushback_seconds
    doublings = min(failure_count - 1, _DOUBLINGS_MAX)
    ceiling: float = min(BACKOFF_SECONDS_MIN * 2**doublings, BACKOFF_SECONDS_MAX)
    # Half is fixed so that a client never hammers, half is random so that clients spread.
    return ceiling / 2 + jitter.uniform(0, ceiling / 2)
