"""How many calls are open, how many of which method ended how, and how long they took.

Owns the counting on the hot path, per listener; must not know Prometheus (see `metrics`).
"""

import threading
import time
from bisect import bisect_left
from collections import Counter
from typing import Final, NamedTuple, Protocol

__all__ = ["LATENCY_BOUNDS", "CallCounts", "Counts", "DoorCounts", "Latency"]

# Upper bounds in seconds; the last span is open. From a reply out of memory to a deadline that most
# callers have given up by, about three a decade.
LATENCY_BOUNDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class Latency(NamedTuple):
    """How long finished calls of one method took.

    Attributes:
        counts: Calls by span, in the order of LATENCY_BOUNDS, and above the last one.
        seconds: All of them together.
    """

    counts: tuple[int, ...]
    seconds: float


class DoorCounts(NamedTuple):
    """What a listener did to protect good clients from bad ones.

    Attributes:
        refusals: Connections and calls that were refused or ended, by reason.
        connection_count: Connections that are open; None if only the transport knows.
        waiting_bytes: Bytes of answers not taken and of messages not whole; None as above.
    """

    refusals: dict[str, int]
    connection_count: int | None = None
    waiting_bytes: int | None = None


class Counts(Protocol):
    """What a listener counted, whatever front it is of."""

    @property
    def open_count(self) -> int:
        """Calls and streams of ours that are not finished."""

    def snapshot(self) -> dict[tuple[str, int], int]:
        """Returns all counts, by method and status code."""

    def latencies(self) -> dict[str, Latency]:
        """Returns how long unary calls took, by method."""

    def door(self) -> DoorCounts:
        """Returns what was refused or ended to protect good clients."""


class CallCounts:
    """The counts of one listener.

    The lock is held for a few additions: sync handlers run on many threads, and adding to a dict is
    not one step under the GIL. What is kept is bounded by the contract's methods and gRPC's codes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, int]] = Counter()
        self._spans: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()
        self._open_count = 0

    def refuse(self, reason: str) -> None:
        """Counts a call that was refused or ended to protect the others."""
        with self._lock:
            self._refusals[reason] += 1

    def door(self) -> DoorCounts:
        """Returns what was refused or ended to protect good clients."""
        with self._lock:
            return DoorCounts(dict(self._refusals))

    def begin(self) -> float:
        """Counts one call or stream that was let in.

        Returns:
            What to hand to `add`, so that the call's length is known.
        """
        with self._lock:
            self._open_count += 1
        return time.perf_counter()

    def end(self) -> None:
        """Takes one finished call or stream out of those that are open."""
        with self._lock:
            self._open_count -= 1

    @property
    def open_count(self) -> int:
        """Calls and streams of ours that are not finished."""
        return self._open_count

    def add(self, method: str, code: int, begun: float | None = None) -> None:
        """Counts one finished call.

        Args:
            method: Its gRPC path.
            code: Its status code.
            begun: What `begin` returned; None for a stream, which has no length that means
                anything, and for a call that was refused unheard.
        """
        elapsed = None if begun is None else time.perf_counter() - begun
        with self._lock:
            self._counts[method, code] += 1
            if elapsed is None:
                return
            spans = self._spans.get(method)
            if spans is None:
                spans = self._spans[method] = [0] * (len(LATENCY_BOUNDS) + 1)
                self._seconds[method] = 0.0
            spans[bisect_left(LATENCY_BOUNDS, elapsed)] += 1
            self._seconds[method] += elapsed

    def snapshot(self) -> dict[tuple[str, int], int]:
        """Returns a copy of all counts, by method and status code."""
        with self._lock:
            return dict(self._counts)

    def latencies(self) -> dict[str, Latency]:
        """Returns how long unary calls took, by method."""
        with self._lock:
            return {
                method: Latency(tuple(spans), self._seconds[method])
                for method, spans in self._spans.items()
            }
