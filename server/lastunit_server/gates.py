"""The gates as this side shows them: what the node measures, joined with the operator's orders.

Owns the joining, the order in which an order is kept and laid on, and who is woken by news. Must
not judge a gate (the node does, core_rs/node/src/gates.rs), nor know a transport.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lastunit_server import logs
from lastunit_server.gate_book import GateBook, Order

if TYPE_CHECKING:
    from lastunit_server._native import Node

__all__ = ["Gate", "Gates", "RevisionError", "UnknownSaleError"]

# How often news are looked for; the node measures as often.
_LOOK_SECONDS = 0.1
_MILLISECONDS = 1000


class UnknownSaleError(LookupError):
    """There is no gate of that sale."""


class RevisionError(ValueError):
    """Somebody gave another order meanwhile; `revision` is the last one."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"the last order is revision {revision}")
        self.revision = revision


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate at one look. Times are milliseconds; `core_rs/node/README.md` explains each."""

    sale_id: str
    state: str
    cause: str
    since_ms: int
    as_of_ms: int
    come_back_ms: int | None
    pressure: float
    queue_count: int
    queue_count_max: int
    held_count: int
    paying_count: int
    callback_lag_ms: int
    reservation_ttl_ms: int
    calls_in_flight: int
    calls_in_flight_max: int
    drain_per_second_milli: int
    sale_state: str
    opens_ms: int | None
    closes_ms: int | None
    is_sold_out: bool
    hand: str | None
    hand_until_ms: int | None


class Gates:
    """All gates of a node.

    Args:
        node: The open node.
        book: The orders given until now; they are laid on at once.
    """

    def __init__(self, node: "Node", book: GateBook) -> None:
        self._node = node
        self.book = book
        # Held while something is read from the node or laid on: an order must not be undone by one
        # who only looks.
        self._lock = threading.RLock()
        self._version = 0
        # Seconds of the monotonic clock when the gates were last taken over.
        self.seen_at = time.monotonic()
        self._gates: dict[str, Gate] = {}
        self._changed = asyncio.Event()
        for order in book.all_last():
            self._lay_on(order.sale_id, order)

    def all(self) -> list[Gate]:
        """Returns every gate, in the order of the sales' names."""
        self.refresh()
        return list(self._gates.values())

    def one(self, sale_id: str) -> Gate:
        """Returns the gate of a sale.

        Raises:
            UnknownSaleError: There is no such sale, or it is archived.
        """
        self.refresh()
        found = self._gates.get(sale_id)
        if found is not None:
            return found
        # A sale that was defined a moment ago has not been looked at yet.
        with self._lock:
            if not self._lay_on(sale_id, self.book.last(sale_id)):
                raise UnknownSaleError(sale_id)
            self.refresh()
            found = self._gates.get(sale_id)
        if found is None:
            raise UnknownSaleError(sale_id)
        return found

    def known(self, sale_id: str) -> Gate | None:
        """Returns the gate of a sale as last seen; costs one look-up, whoever asks how often."""
        return self._gates.get(sale_id)

    def order_of(self, gate: Gate) -> Order | None:
        """Returns the order that holds a gate; None while the measurements decide."""
        return self.book.last(gate.sale_id) if gate.hand is not None else None

    def revision_of(self, sale_id: str) -> int:
        """Returns how many orders were given for a sale."""
        last = self.book.last(sale_id)
        return last.revision if last else 0

    def set(
        self,
        make: Callable[[int, int], Order],
        sale_id: str,
        *,
        expected_revision: int | None = None,
    ) -> Gate:
        """Keeps an order, lays it on and returns what the gate shows then.

        Args:
            make: Makes the order of its revision and the present ledger time.
            sale_id: Whose gate.
            expected_revision: The last revision that was seen; None takes any.

        Raises:
            UnknownSaleError: There is no such sale.
            RevisionError: There is another order by now.
            OSError: The order could not be kept; nothing has changed.
        """
        with self._lock:
            last = self.book.last(sale_id)
            # Looks at once, so that the time below is of now.
            if not self._lay_on(sale_id, last):
                raise UnknownSaleError(sale_id)
            revision = last.revision if last else 0
            if expected_revision is not None and expected_revision != revision:
                raise RevisionError(revision)
            order = make(revision + 1, self.one(sale_id).as_of_ms)
            self.book.write(order)
            self._lay_on(sale_id, order)
            logs.event("gate_order", **order.model_dump())
            return self.one(sale_id)

    def _lay_on(self, sale_id: str, order: Order | None) -> bool:
        hand = None if order is None or order.hand == "automatic" else order.hand
        return self._node.set_gate_hand(sale_id, hand, order.until_ms if order else None)

    def refresh(self) -> bool:
        """Takes over what the node shows; returns whether that was something else."""
        with self._lock:
            text = self._node.gates_json(self._version)
            if text is None:
                return False
            shown: dict[str, Any] = json.loads(text)
            self._version = shown["version"]
            gates = {row["sale_id"]: Gate(**row) for row in shown["gates"]}
            before, self._gates = self._gates, gates
            self.seen_at = time.monotonic()
        for gate in self._gates.values():
            _log_change(before.get(gate.sale_id), gate)
        return True

    async def follow(self) -> None:
        """Looks for news and wakes who waits for them; runs on one loop until it is cancelled."""
        last = -1
        while True:
            self.refresh()
            if self._version != last:
                last = self._version
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(_LOOK_SECONDS)

    def news(self) -> asyncio.Event:
        """Returns what is set once anything is shown that is not now; for the loop that follows."""
        return self._changed


def _log_change(before: Gate | None, now: Gate) -> None:
    if before is None or (before.state, before.cause) == (now.state, now.cause):
        return
    logs.event(
        "gate_changed",
        level=logging.INFO if now.state == "open" else logging.WARNING,
        sale_id=now.sale_id,
        state_from=before.state,
        state_to=now.state,
        cause=now.cause,
        pressure=now.pressure,
        queue_count=now.queue_count,
        queue_count_max=now.queue_count_max,
        callback_lag_seconds=now.callback_lag_ms / _MILLISECONDS,
        calls_in_flight=now.calls_in_flight,
    )
