"""How many calls are open, and how many of which method ended with which code, per listener.

Owns the counting on the hot path; must not know Prometheus (see `metrics`).
"""

import threading
from collections import Counter

__all__ = ["CallCounts"]


class CallCounts:
    """The counts of one listener.

    The lock is held for one addition: sync handlers run on many threads, and adding to a dict is
    not one step under the GIL.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, int]] = Counter()
        self._open_count = 0

    def begin(self) -> None:
        """Counts one call or stream that was let in."""
        with self._lock:
            self._open_count += 1

    def end(self) -> None:
        """Takes one finished call or stream out of those that are open."""
        with self._lock:
            self._open_count -= 1

    @property
    def open_count(self) -> int:
        """Calls and streams of ours that are not finished."""
        return self._open_count

    def add(self, method: str, code: int) -> None:
        """Counts one finished call by gRPC path and status code."""
        with self._lock:
            self._counts[method, code] += 1

    def snapshot(self) -> dict[tuple[str, int], int]:
        """Returns a copy of all counts."""
        with self._lock:
            return dict(self._counts)
