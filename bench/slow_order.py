"""The order service with a database that can be made three times slower while it serves.

Owns the switch: SIGUSR1 makes it slow, SIGUSR2 quick again. Everything else is the order service as
it is shipped. Started by `slow_database`.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from bench.slow_figures import SLOWER
from lastunit.order import serve
from lastunit.order.cli import app

if TYPE_CHECKING:
    from lastunit.service.database import Pace


_factor = 1.0


def _set(factor: float) -> None:
    global _factor  # noqa: PLW0603 - one database, one switch
    _factor = factor


def switched_pace(transactions_per_second: float) -> Pace:
    """Is `steady_pace` with a rate that the signals change."""
    next_time = 0.0

    def wait_for_turn() -> None:
        nonlocal next_time
        now = time.monotonic()
        turn = max(now, next_time)
        next_time = turn + _factor / transactions_per_second
        time.sleep(turn - now)

    return wait_for_turn


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: _set(SLOWER))
    signal.signal(signal.SIGUSR2, lambda *_: _set(1.0))
    serve.steady_pace = switched_pace  # type: ignore[attr-defined] # imported there
    app()
