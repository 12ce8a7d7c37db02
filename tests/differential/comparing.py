"""Runs one history through the model and the real ledger and finds the first difference.

Owns what is compared: every reply, and after the last one everything that can be seen. Must not
know how histories are made.
"""

from __future__ import annotations

import difflib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lastunit.reference import Ledger
from lastunit.reference.words import millis
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

from .histories import START_MS, Clock, Reopen
from .real import CALLER, FIELD_OF_REQUEST, RealLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .histories import Operation

BATCH_MAX: Final = 64
PAGE: Final = 3


@dataclass(frozen=True)
class Difference:
    """The first difference of a history.

    Attributes:
        index: Place of the operation, or the length of the history for what is compared last.
        operation: What was asked.
        model: What the model answered.
        real: What the real ledger answered.
    """

    index: int
    operation: Any
    model: Any
    real: Any

    def __str__(self) -> str:
        lines = [str(side).splitlines() for side in (self.model, self.real)]
        changes = difflib.unified_diff(*lines, "model", "real", n=6, lineterm="")
        asked = f"{type(self.operation).__name__} {' '.join(str(self.operation).split())}"
        return "\n".join((f"operation {self.index}: {asked}", *changes))


def run(
    history: Sequence[Operation],
    *,
    model: Callable[..., Ledger] = Ledger,
    batch_max: int = BATCH_MAX,
    is_journal_compared: bool = True,
) -> Difference | None:
    """Runs a history on both sides.

    Args:
        history: What is asked, in order.
        model: Makes the model.
        batch_max: Operations of one Exchange, 1 or more.
        is_journal_compared: Whether every event is compared in the end.

    Returns:
        The first difference, or None.
    """
    with tempfile.TemporaryDirectory(prefix="lastunit-differential-") as directory:
        real = RealLedger(Path(directory), now_ms=START_MS)
        expected = model(now_ms=START_MS, is_journal_kept=is_journal_compared, epoch=real.epoch)
        try:
            pair = Pair(expected, real, batch_max)
            return pair.play(history) or pair.compare_all(
                len(history), is_journal_compared=is_journal_compared
            )
        finally:
            real.close()


class Pair:
    """The model and the real ledger, asked the same.

    Args:
        model: The model.
        real: The real ledger, as new as the model.
        batch_max: Operations of one Exchange.
    """

    def __init__(self, model: Ledger, real: RealLedger, batch_max: int) -> None:
        self.model = model
        self.real = real
        self.batch_max = batch_max

    def play(self, history: Sequence[Operation]) -> Difference | None:
        """Asks both, batch by batch; returns the first difference."""
        batch: list[Any] = []
        for index, operation in enumerate(history):
            is_batchable = type(operation).__name__ in FIELD_OF_REQUEST
            if batch and (not is_batchable or len(batch) == self.batch_max):
                difference = self.ask_batch(index - len(batch), batch)
                batch = []
                if difference:
                    return difference
            if is_batchable:
                batch.append(operation)
                continue
            difference = self.ask(index, operation)
            if difference:
                return difference
        return self.ask_batch(len(history) - len(batch), batch) if batch else None

    def ask_batch(self, start: int, batch: list[Any]) -> Difference | None:
        """Asks both a batch."""
        replies = self.real.exchange(batch)
        for place, (operation, reply) in enumerate(zip(batch, replies, strict=True)):
            expected = self.model.apply(operation, caller=CALLER)
            if not is_equal(expected, reply):
                return Difference(start + place, operation, expected, reply)
        return None

    def ask(self, index: int, operation: Operation) -> Difference | None:
        """Asks both one thing."""
        if isinstance(operation, Clock):
            return self.move_clock(index, operation)
        if isinstance(operation, Reopen):
            return self.open(index, operation)
        expected = self.model.apply(operation, caller=CALLER)
        reply = self.real.call(operation)
        if is_equal(expected, reply):
            return None
        return Difference(index, operation, expected, reply)

    def open(self, index: int, operation: Reopen) -> Difference | None:
        """Opens both anew; the real ledger says from when its time goes on, within its promise."""
        if operation.is_clean:
            self.real.reopen()
        else:
            self.real.recover()
        [opened] = self.real.events(self.model.sequence)
        at = millis(opened.time)
        earliest, latest = self.model.last_event_time, self.model.now
        self.model.open(at, epoch=opened.node_opened.epoch)
        if earliest <= at <= latest:
            return None
        return Difference(index, operation, (earliest, latest), at)

    def move_clock(self, index: int, clock: Clock) -> Difference | None:
        """Moves both clocks."""
        now = self.model.now + clock.by_ms
        last = self.model.advance(now)
        place = self.real.set_clock(now).place
        told = (place.sequence, place.as_of_sequence)
        expected = (last, self.model.sequence)
        if told == expected:
            self.model.op_number = place.op_number
            return None
        return Difference(
            index, clock, f"{expected}\n{self.tail(expected[1])}", f"{told}\n{self.real_tail()}"
        )

    def tail(self, _: int) -> str:
        """Shows the model's last events."""
        return "\n".join(str(event) for event in self.model.events[-4:])

    def real_tail(self) -> str:
        """Shows the real ledger's last events."""
        return "\n".join(str(event) for event in self.real.events()[-4:])

    def compare_all(self, end: int, *, is_journal_compared: bool = True) -> Difference | None:
        """Compares everything that can be seen: stock, reservations, audit, events."""
        for sale_id in self.model.sales:
            request = stock_pb2.GetAvailabilityRequest(sale_id=sale_id)
            difference = self.ask(end, request) or self.compare_pages(end, sale_id)
            if difference:
                return difference
        difference = self.ask(end, admin_pb2.AuditRequest())
        if difference or not is_journal_compared:
            return difference
        return self.compare_events(end)

    def compare_pages(self, end: int, sale_id: str) -> Difference | None:
        """Compares every reservation of a sale, page by page; tokens are the ledger's own."""
        shown: list[Any] = []
        for side in (self.model.apply, self.real.call):
            rows: list[Any] = []
            token = ""
            while True:
                request = stock_pb2.ListReservationsRequest(
                    sale_id=sale_id, page_size=1_000, page_token=token
                )
                page = side(request)
                rows += page.reservations
                token = page.next_page_token
                if not token:
                    break
            shown.append(rows)
        self.model.op_number = page.place.op_number
        for mine, theirs in zip(*shown, strict=False):
            if mine != theirs:
                return Difference(end, request, mine, theirs)
        if len(shown[0]) != len(shown[1]):
            return Difference(end, request, len(shown[0]), len(shown[1]))
        return None

    def compare_events(self, end: int) -> Difference | None:
        """Compares the whole journal."""
        real = self.real.events()
        for mine, theirs in zip(self.model.events, real, strict=False):
            if mine != theirs:
                return Difference(end, "events", mine, theirs)
        if len(real) != len(self.model.events):
            return Difference(end, "events", len(self.model.events), len(real))
        return None


def is_equal(expected: Any, reply: Any) -> bool:
    """Compares two replies; what is durable is the real ledger's own affair, within its promise."""
    place = getattr(reply, "place", None)
    if place is None or place.durable_sequence < place.as_of_sequence:
        return False
    for side in (expected, reply):
        for oldest in getattr(side, "oldest", ()):
            # Of two that are due at the same time either may be named.
            oldest.ClearField("reservation_id")
            oldest.ClearField("create_time")
    expected.place.durable_sequence = place.durable_sequence
    expected.place.durability = place.durability
    return bool(expected == reply)
