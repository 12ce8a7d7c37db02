"""The words of the comparison: what is sent, what was seen, and who is asked.

Owns: the figures' names. A pair is a reserve of one unit under an id that never came before, for
one of ten million buyers with a limit of five units, and then the confirm of it: two operations,
each durable before it is answered.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

# The most pairs of a load that may be refused: a buyer drawn for the sixth time.
REFUSED_SHARE_MAX = 0.001


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One load.

    Attributes:
        way: How the peer is reached, as the reports name the series.
        workers: How many ask at the same time, each waiting for its answer.
        batch: Operations of one message, pipeline or transaction.
        rate: Pairs a second that come whether or not they are answered; None is a closed loop.
        is_python: Whether the caller is a Python process.
    """

    way: str
    workers: int
    batch: int = 1
    rate: float | None = None
    is_python: bool = False

    def at(self, rate: float) -> Shape:
        """Returns the same load with pairs that come by themselves."""
        return replace(self, rate=rate)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one run of a load showed.

    Attributes:
        pairs_per_second: Pairs that came to their end.
        call_p50_ms: Half of the operations (of the batches of them) were answered in this time.
        call_p99_ms: Nearly all were.
        pair_p50_ms: From the reserve to the answer of the confirm.
        pair_p99_ms: The same.
        server_cpu_us: Of all processes of the server, user and system, a pair.
        unserved: Pairs of an open loop that were given up; their wait so far counts.
    """

    pairs_per_second: float
    call_p50_ms: float | None
    call_p99_ms: float | None
    pair_p50_ms: float
    pair_p99_ms: float
    server_cpu_us: float
    unserved: int = 0


class Peer(Protocol):
    """A server that is up, with the loads that it takes."""

    name: str
    version: str

    def shapes(self) -> Sequence[Shape]:
        """Returns the closed loops to run."""
        ...

    def open_shapes(self) -> Sequence[Shape]:
        """Returns the loops of which open ones are made."""
        ...

    def measure(self, shape: Shape, seconds: float) -> Figures:
        """Runs one load."""
        ...


class Absent(Exception):  # noqa: N818 - not an error: the peer is left out
    """A peer that is not on this machine; says what would bring it."""


def free_port() -> int:
    """Returns a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
