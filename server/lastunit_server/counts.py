"""How many calls of which method ended with which code, per listener.

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

    def add(self, method: str, code: int) -> None:
        """Counts one finished call by gRPC path and status code."""
        with self._lock:
            self._counts[method, code] += 1

    def snapshot(self) -> dict[tuple[str, int], int]:
        """Returns a copy of all counts."""
        with self._lock:
            return dict(self._counts)
