"""Readers of both streams that resume after every break, and the checks of what they were told.

Owns the following of events and of availability. Must not ask anything else. Next: `order.py`,
whose replay says what each message of a watch has to show.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.journal_service_pb2_grpc import JournalServiceStub
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from pathlib import Path

    from lastunit.reference import Ledger
    from lastunit.stock.v1 import event_pb2

_PAGE: Final = 50
_QUIET_SECONDS: Final = 0.02
_SETTLE_SECONDS_MAX: Final = 30.0


class _Reader(threading.Thread):
    """Follows a stream from where it was, on whatever server is there, until it is told to end."""

    def __init__(self, addresses: Path) -> None:
        super().__init__(daemon=True)
        self._addresses = addresses
        self._is_over = threading.Event()
        self._call: Any = None
        self.findings: list[str] = []
        self.breaks = 0

    def run(self) -> None:
        """Follows until the end."""
        while not self._is_over.is_set():
            address = json.loads(self._addresses.read_text())["data"]
            with grpc.insecure_channel(address) as channel:
                try:
                    self._call = self._open(channel)
                    self._follow(self._call)
                except grpc.RpcError as error:
                    self._note(error)
            self.breaks += 1
            self._is_over.wait(_QUIET_SECONDS)

    def end(self) -> None:
        """Stops following."""
        self._is_over.set()
        self.interrupt()
        self.join()

    def interrupt(self) -> None:
        """Breaks the stream, as a lost connection would."""
        if self._call is not None:
            self._call.cancel()

    def wait_for(self, sequence: int) -> None:
        """Waits until the reader has been told of a sequence.

        Raises:
            TimeoutError: That did not happen.
        """
        end = time.monotonic() + _SETTLE_SECONDS_MAX
        while self.reached() < sequence:
            if time.monotonic() > end:
                raise TimeoutError(f"told up to {self.reached()}, not to {sequence}")
            time.sleep(_QUIET_SECONDS)

    def _note(self, error: grpc.RpcError) -> None:
        code = error.code() if isinstance(error, grpc.Call) else None
        if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self.findings.append(f"the stream ended with {code}: {error}")

    def reached(self) -> int:
        """Returns the last sequence it was told of."""
        raise NotImplementedError

    def _open(self, channel: grpc.Channel) -> Any:
        raise NotImplementedError

    def _follow(self, messages: Any) -> None:
        raise NotImplementedError


class EventReader(_Reader):
    """Reads the journal as it is written."""

    def __init__(self, addresses: Path) -> None:
        super().__init__(addresses)
        self.events: list[event_pb2.Event] = []
        self._epoch = 0

    def reached(self) -> int:
        """Returns the last event it has."""
        return self.events[-1].sequence if self.events else 0

    def _open(self, channel: grpc.Channel) -> Any:
        request = journal.ReadEventsRequest(
            after_sequence=self.reached(), follow=True, page_size=_PAGE
        )
        return JournalServiceStub(channel).ReadEvents(request)

    def _follow(self, messages: Any) -> None:
        for message in messages:
            self.take(message)

    def take(self, message: journal.ReadEventsResponse) -> None:
        """Takes one message; notes what is wrong with it."""
        if message.epoch < self._epoch:
            self.findings.append(f"epoch {message.epoch} after {self._epoch}")
        self._epoch = message.epoch
        for event in message.events:
            if event.sequence != self.reached() + 1:
                self.findings.append(f"event {event.sequence} follows {self.reached()}")
            if event.sequence > message.durable_sequence:
                self.findings.append(f"event {event.sequence} is told before it is durable")
            self.events.append(event)


@dataclass
class Message:
    """One message of a watch.

    Attributes:
        after: What the reader had seen: the state of the message before it; 0 for the first of a
            stream, which tells everything.
        response: What it says.
    """

    after: int
    response: stock.WatchAvailabilityResponse


@dataclass
class Watched:
    """What the messages of one watch have to be.

    Attributes:
        sale_id: What was watched, all skus of it.
        messages: In the order in which they came.
        findings: What is wrong.
    """

    sale_id: str
    messages: list[Message] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    _done: int = 0

    def look(self, ledger: Ledger) -> None:
        """Checks the messages that show the state in which the model is now."""
        while self._done < len(self.messages):
            message = self.messages[self._done]
            as_of = message.response.place.as_of_sequence
            if as_of > ledger.sequence:
                return
            self._done += 1
            if as_of < ledger.sequence:
                self.findings.append(f"a message shows {as_of}, within a command or out of order")
                continue
            self._compare(message, ledger)

    def rest(self) -> list[str]:
        """Returns what is wrong, after the model has come to its end."""
        if self._done < len(self.messages):
            self.findings.append(f"{len(self.messages) - self._done} messages show what never was")
        return self.findings

    def _compare(self, message: Message, ledger: Ledger) -> None:
        shown = ledger.apply(stock.GetAvailabilityRequest(sale_id=self.sale_id)).availabilities
        expected = [one for one in shown if one.changed_sequence > message.after]
        if expected != list(message.response.availabilities):
            place = message.response.place
            told = [one.sku for one in message.response.availabilities]
            news = [one.sku for one in expected]
            self.findings.append(
                f"the message at {place.as_of_sequence} after {message.after} tells of {told};"
                f" what changed is {news}, or its counters are not those of that state"
            )


class AvailabilityReader(_Reader):
    """Watches all skus of one sale."""

    def __init__(self, addresses: Path, sale_id: str) -> None:
        super().__init__(addresses)
        self.watched = Watched(sale_id)

    def reached(self) -> int:
        """Returns the last state it was shown."""
        messages = self.watched.messages
        return messages[-1].response.place.as_of_sequence if messages else 0

    def _open(self, channel: grpc.Channel) -> Any:
        request = stock.WatchAvailabilityRequest(
            sale_id=self.watched.sale_id, after_sequence=self.reached()
        )
        return StockServiceStub(channel).WatchAvailability(request)

    def _follow(self, messages: Any) -> None:
        is_first = True
        for response in messages:
            self.take(response, is_first=is_first)
            is_first = False

    def take(self, response: stock.WatchAvailabilityResponse, *, is_first: bool) -> None:
        """Takes one message; notes what is wrong with it."""
        seen, place = self.reached(), response.place
        if place.as_of_sequence < seen or (not is_first and place.as_of_sequence == seen):
            self.findings.append(f"a message shows {place.as_of_sequence} after {seen}")
        if place.durable_sequence < place.as_of_sequence:
            self.findings.append(f"a message shows {place.as_of_sequence} before it is durable")
        if not is_first and not response.availabilities:
            self.findings.append(f"the message at {place.as_of_sequence} has no news")
        self.watched.messages.append(Message(0 if is_first else seen, response))
