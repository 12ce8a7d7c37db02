"""Turns newcomers away while the gate of a sale says so.

Owns what each gate was last seen as, and when that is too old to be believed. Must not hold anybody
up: no answer waits for a gate, and a gate that is not known lets everybody on. Who has an order is
never asked here. Next: `docs/operating/gate.md`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from lastunit.admission.v1 import gate_pb2
from lastunit.errors import LastunitError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["Doorman", "GatePort", "TurnedAway"]

# Sales that are watched; a buyer can name any, so there must be an end. More are let on unseen.
SALES_MAX: Final = 64
# A gate that is watched tells its numbers once a second; older than this the stream is broken.
BELIEVED_SECONDS: Final = 5.0
# A sale that has no gate is asked for again no sooner than this.
_RETRY_SECONDS: Final = 5.0
# All come back at once if all are told the same.
_SPREAD_MAX: Final = 1.5

# What the ledger itself says with an outcome of its own, in the same moment in which it changes: a
# gate that was seen a tenth of a second ago must not keep the first buyers of a sale out.
_LEDGER_SAYS: Final = frozenset(
    {
        gate_pb2.GATE_CAUSE_NOT_OPEN_YET,
        gate_pb2.GATE_CAUSE_SALE_PAUSED,
        gate_pb2.GATE_CAUSE_SALE_ENDED,
    }
)

_log: Final = logging.getLogger(__name__)


class GatePort(Protocol):
    """Watches gates; `lastunit.client.admission.GateWatch` does."""

    def watch(self, sale_id: str) -> AsyncGenerator[gate_pb2.Gate]:
        """Gives out a gate as it is and whenever it changes."""
        ...


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Says that a newcomer is to come back.

    Attributes:
        is_closed: Nobody new comes in; otherwise buyers queue outside.
        come_back_seconds: When to try again, spread over those who are told; None: not known.
    """

    is_closed: bool
    come_back_seconds: float | None


@dataclass(slots=True)
class _Seen:
    """One gate as it was last seen."""

    task: asyncio.Task[None]
    gate: gate_pb2.Gate | None = None
    seen_at: float = 0.0
    failed_at: float | None = None


class Doorman:
    """Knows the gates of the sales that buyers ask for.

    Args:
        gates: Watches them.
        clock: Seconds that never go back.
        seed: Of the spread of coming back; None: unpredictable.

    Attributes:
        turned_away_count: Newcomers that were told to come back.
    """

    def __init__(
        self,
        gates: GatePort,
        *,
        clock: Callable[[], float] = time.monotonic,
        seed: int | None = None,
    ) -> None:
        self._gates = gates
        self._clock = clock
        self._spread = random.Random(seed)  # noqa: S311 - spreads returns, keeps no secret
        self._seen: dict[str, _Seen] = {}
        self.turned_away_count = 0

    def ask(self, sale_id: str) -> TurnedAway | None:
        """Says whether a newcomer of a sale is to come back later; None lets them on.

        Call it on a running event loop; the first question about a sale begins to watch it.
        """
        seen = self._seen.get(sale_id)
        if seen is None or self._is_retry_due(seen):
            self._watch(sale_id)
            return None
        gate = seen.gate
        if gate is None or self._clock() - seen.seen_at > BELIEVED_SECONDS:
            return None
        if gate.state == gate_pb2.GATE_STATE_OPEN or gate.cause in _LEDGER_SAYS:
            return None
        self.turned_away_count += 1
        come_back = None
        if gate.HasField("come_back_after"):
            seconds = gate.come_back_after.ToMilliseconds() / 1_000
            come_back = seconds * self._spread.uniform(1.0, _SPREAD_MAX)
        return TurnedAway(gate.state == gate_pb2.GATE_STATE_CLOSED, come_back)

    async def close(self) -> None:
        """Ends all watching."""
        tasks = [seen.task for seen in self._seen.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._seen.clear()

    def _is_retry_due(self, seen: _Seen) -> bool:
        return seen.failed_at is not None and self._clock() - seen.failed_at >= _RETRY_SECONDS

    def _watch(self, sale_id: str) -> None:
        if sale_id not in self._seen and len(self._seen) >= SALES_MAX:
            # Those of which nothing is known make room first: anybody can invent them.
            unknown = (name for name, seen in self._seen.items() if seen.failed_at is not None)
            place = next(unknown, None)
            if place is None:
                return
            del self._seen[place]
        task = asyncio.get_running_loop().create_task(self._follow(sale_id))
        self._seen[sale_id] = _Seen(task)

    async def _follow(self, sale_id: str) -> None:
        try:
            async with contextlib.aclosing(self._gates.watch(sale_id)) as gates:
                async for gate in gates:
                    seen = self._seen[sale_id]
                    _log_change(seen.gate, gate)
                    seen.gate, seen.seen_at = gate, self._clock()
        except LastunitError as error:
            _log.info(
                "a gate can't be watched; its buyers are let on to the ledger",
                extra={"sale_id": sale_id, "why": str(error), "reason": error.reason},
            )
        except Exception:  # noqa: BLE001 - a gate must never keep a buyer out by its own fault
            _log.exception("a gate is not watched any more", extra={"sale_id": sale_id})
        if sale_id in self._seen:
            self._seen[sale_id].failed_at = self._clock()


def _log_change(before: gate_pb2.Gate | None, now: gate_pb2.Gate) -> None:
    if before is not None and before.state != now.state:
        _log.warning(
            "the gate of a sale has changed",
            extra={
                "sale_id": now.sale_id,
                "state": gate_pb2.GateState.Name(now.state).removeprefix("GATE_STATE_"),
                "cause": gate_pb2.GateCause.Name(now.cause).removeprefix("GATE_CAUSE_"),
            },
        )
