"""A node without a ledger: answers what a test tells it to, through a real completion port.

Stands in for `_native.Node` where a test is about the front alone: the order of answers, what a
fault becomes, what a bug shows to the caller.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lastunit.stock.v1 import outcome_pb2, stock_service_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = tuple[int, bytes]


@dataclass(frozen=True)
class Submitted:
    """One call as the node got it."""

    method: str
    request: bytes
    caller: str
    deadline_ms: int | None
    seen_sequence: int
    seen_epoch: int
    listener: str


class FakePort:
    """A completion port over a real eventfd."""

    def __init__(self) -> None:
        self._file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._answers: deque[tuple[int, int, bytes]] = deque()

    def fileno(self) -> int:
        """Returns the eventfd."""
        return self._file

    def complete(self, ticket: int, code: int, body: bytes) -> None:
        """Makes one answer available and wakes the reader."""
        self._answers.append((ticket, code, body))
        os.eventfd_write(self._file, 1)

    def drain(self) -> list[tuple[int, int, bytes]]:
        """Takes all waiting answers."""
        os.eventfd_read(self._file)
        taken = list(self._answers)
        self._answers.clear()
        return taken


@dataclass
class FakeWatch:
    """A watch that shows one state and then nothing for ever."""

    request: bytes
    asked_count: int = 0

    def next(self, port: FakePort, ticket: int) -> None:
        """Answers the first question with an OK state and leaves the others open."""
        self.asked_count += 1
        if self.asked_count == 1:
            result = outcome_pb2.Result(outcome=outcome_pb2.OUTCOME_OK)
            message = stock_service_pb2.WatchAvailabilityResponse(result=result)
            port.complete(ticket, 0, message.SerializeToString())


@dataclass
class FakeNode:
    """Answers each call by `answer_of`; None keeps it open until `release`."""

    answer_of: Callable[[Submitted], Answer | None] = lambda call: (0, call.request)
    submitted: list[Submitted] = field(default_factory=list)
    held: deque[tuple[FakePort, int, Submitted]] = field(default_factory=deque)
    sequence: int = 0
    notified: list[tuple[FakePort, int, int]] = field(default_factory=list)
    table_json: str | None = None
    asked: list[tuple[str, str, str | None, bool]] = field(default_factory=list)
    refusal_of: Callable[[str, str], Answer | None] = lambda _caller, _method: None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def port(self) -> FakePort:
        """Makes a port."""
        return FakePort()

    def submit(  # noqa: PLR0917 - the shape of the native class
        self,
        port: FakePort,
        ticket: int,
        method: str,
        request: bytes,
        caller: str,
        deadline_ms: int | None,
        seen_sequence: int,
        listener: str,
        seen_epoch: int = 0,
    ) -> Answer | None:
        """Notes the call and answers it at once, or holds it."""
        call = Submitted(method, request, caller, deadline_ms, seen_sequence, seen_epoch, listener)
        with self.lock:
            self.submitted.append(call)
            answer = self.answer_of(call)
            if answer is None:
                self.held.append((port, ticket, call))
        return answer

    def call(  # noqa: PLR0917 - the shape of the native class
        self,
        method: str,
        request: bytes,
        caller: str,
        timeout_ms: int | None,
        seen_sequence: int,
        listener: str,
        seen_epoch: int = 0,
    ) -> Answer:
        """Notes the call and answers it."""
        call = Submitted(method, request, caller, timeout_ms, seen_sequence, seen_epoch, listener)
        with self.lock:
            self.submitted.append(call)
            answer = self.answer_of(call)
        assert answer is not None, "a blocking call can't be held"
        return answer

    def set_permissions(self, table_json: str | None) -> None:
        """Keeps the table."""
        self.table_json = table_json

    def permission_refusal(
        self, caller: str, method: str, sale_id: str | None, is_any_sale: bool
    ) -> Answer | None:
        """Refuses whoever is named as a stranger."""
        self.asked.append((caller, method, sale_id, is_any_sale))
        return self.refusal_of(caller, method)

    def read_events(self, after_sequence: int, limit: int) -> tuple[bytes, int]:
        """Returns the numbers of the events after a position, as text."""
        last = min(self.sequence, after_sequence + limit)
        return f"{after_sequence + 1}-{last}".encode(), last

    def notify_after(self, port: FakePort, ticket: int, sequence: int) -> None:
        """Notes who wants to know of events after a position."""
        self.notified.append((port, ticket, sequence))

    def watch(self, request: bytes) -> FakeWatch:
        """Opens a watch that never has news."""
        return FakeWatch(request)

    def grow(self, sequence: int) -> None:
        """Makes events durable and tells who asked."""
        self.sequence = sequence
        asked, self.notified = self.notified, []
        for port, ticket, _after in asked:
            port.complete(ticket, 0, b"")

    def release(self, *, in_reverse: bool = False) -> int:
        """Answers everything that is held with its own request; returns how many."""
        with self.lock:
            taken = list(self.held)
            self.held.clear()
        for port, ticket, call in reversed(taken) if in_reverse else taken:
            port.complete(ticket, 0, call.request)
        return len(taken)
