"""Spans of calls that the native listeners served, told to the collector afterwards.

Owns the thread that does it, a few times a second. Must not see a call: the listeners keep what is
told of each (core_rs/front/src/traces.rs), and `lastunit.tracing` makes spans of it.
"""

import logging
import threading
from typing import TYPE_CHECKING, Final

from lastunit import tracing
from lastunit_server import logs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastunit_server._native import NativeFront
    from lastunit_server.methods import Listener

__all__ = ["NativeTraces"]

# Often enough that a listener's line of 8,192 calls holds 80,000 a second.
_INTERVAL_SECONDS: Final = 0.1


class NativeTraces:
    """Tells the collector of finished calls until it is closed.

    Args:
        fronts: The listeners, started with `is_traced`.
    """

    def __init__(self, fronts: "Mapping[Listener, NativeFront]") -> None:
        self._fronts = fronts
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="native-traces", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(_INTERVAL_SECONDS):
            self._tell()

    def _tell(self) -> None:
        lost_count = 0
        for listener, front in self._fronts.items():
            calls, lost = front.take_traced_calls()
            lost_count += lost
            for method, begin_ns, end_ns, code, parent, state in calls:
                tracing.tell(
                    method,
                    begin_ns=begin_ns,
                    end_ns=end_ns,
                    code=code,
                    parent=parent,
                    state=state,
                    lastunit_listener=f"native_{listener.value}",
                )
        if lost_count:
            logs.event("traces_lost", level=logging.WARNING, calls=lost_count)

    def close(self) -> None:
        """Tells of what is left, once the listeners have stopped; a second call does nothing."""
        if self._is_over.is_set():
            return
        self._is_over.set()
        self._thread.join()
        self._tell()
