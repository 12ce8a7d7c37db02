"""Every reply by its place: sorted, replayed in the reference model, and compared.

Owns the replay. Must not take anything on trust but the order itself, which it checks against real
time. Next: `lastunit.reference` for the model, `windows.py` for a check that does not use places.

Every reply says at which place of the ledger's one order it stands, so the check is one walk:

- No two replies have one place, and numbers that nobody got belong to timers or to lost calls.
- An operation that ended before another began stands before it.
- What a reply shows (`as_of_sequence`) never goes back, is durable when it is told, and is still
  there after the server was killed.
- The model, given the same operations in the same order, gives the same replies and writes the same
  events as are in the journal. What the clock did by itself is taken from the journal, and the
  model says whether it might.
- Every event was asked for by somebody or is the clock's. An operation whose answer was lost is
  found there by its id, or it had no effect.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lastunit.reference import Ledger
from lastunit.stock.v1 import outcome_pb2

from .steps import History, Lost, Step, could_write, event_identity, identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.stock.v1 import event_pb2

    from .streams import Watched

CALLER: Final = "history"
# A broken history breaks everything after it: the first findings tell what happened.
_FINDINGS_MAX: Final = 10
_TOO_LATE: Final = outcome_pb2.OUTCOME_TOO_LATE
_REPLIED_MS_MAX: Final = 2**52


class _PartedError(Exception):
    """The walk cannot go on: model and server have parted."""


@dataclass
class Tally:
    """What was checked.

    Attributes:
        operations: Replies compared.
        events: Events compared.
        timers: Commands of the clock and the node among what wrote them.
        lost: Operations without an answer.
        lost_found: Those of them whose effect is in the journal.
        faults: Operations that were not decided.
        outcomes: Replies by kind and outcome.
    """

    operations: int = 0
    events: int = 0
    timers: int = 0
    lost: int = 0
    lost_found: int = 0
    faults: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON has it, the most frequent outcomes first."""
        return {**vars(self), "outcomes": dict(self.outcomes.most_common())}


class Numbers:
    """Whose the numbers are: those of replies, of what the journal tells of, and of lost calls.

    A lost call can have used a number in the epoch in which it was sent, and in no other: it was
    sent after the last answer of the epoch before, and before the first call of the epoch after.
    """

    def __init__(self) -> None:
        self._last = (0, 0)
        self._used = 0
        self._nobodys = 0
        self._lost_calls: list[int] = []
        self._first_call: dict[int, int] = {}
        self._last_return: dict[int, int] = {}

    def know(self, history: History) -> None:
        """Notes when epochs began and ended for the clients, and when lost calls were sent."""
        self._lost_calls += [lost.call_ns for lost in history.lost]
        self._lost_calls.sort()
        for step in history.steps:
            epoch = step.order[0]
            first = self._first_call.get(epoch, step.call_ns)
            self._first_call[epoch] = min(first, step.call_ns)
            self._last_return[epoch] = max(self._last_return.get(epoch, 0), step.return_ns)

    def begin(self) -> None:
        """An epoch begins: numbers start again."""
        self._used = 0

    def use(self) -> None:
        """A command that the journal tells of, and no reply, used a number."""
        self._used += 1

    def take(self, order: tuple[int, int]) -> str:
        """Takes the next reply's number; returns what is wrong with it, in words."""
        epoch, number = order
        last_epoch, last = self._last
        is_same = epoch == last_epoch
        missing = number - (last if is_same else 0) - 1 - self._used
        used, self._used = self._used, 0
        self._last = order
        if is_same and number == last:
            return "another reply has this number too"
        if missing < 0:
            return f"{used} commands stand before it, which need more numbers than there are"
        self._nobodys = missing + (self._nobodys if is_same else 0)
        if missing and self._nobodys > self._lost_in(epoch):
            return f"{self._nobodys} numbers of its epoch are nobody's"
        return ""

    def _lost_in(self, epoch: int) -> int:
        """Returns how many calls without an answer can have been decided in an epoch."""
        ends = [at for known, at in self._last_return.items() if known < epoch]
        starts = [at for known, at in self._first_call.items() if known > epoch]
        after = bisect_right(self._lost_calls, max(ends, default=0))
        before = bisect_left(self._lost_calls, min(starts)) if starts else len(self._lost_calls)
        return before - after


class OrderCheck:
    """Walks through the rounds of one server's life, from its first opening on.

    Args:
        watched: What watches of availability were told meanwhile. They use numbers of their own,
            so with them a number that nobody got is no finding.
    """

    def __init__(self, watched: Sequence[Watched] = ()) -> None:
        self.findings: list[str] = []
        self._watched = watched
        self.tally = Tally()
        self._events: Sequence[event_pb2.Event] = ()
        self._base = 0
        self._ledger: Any = None
        self._lost: dict[str, list[Lost]] = {}
        self._numbers = Numbers()
        self._latest_call = 0
        self._latest_step: Step | Lost | None = None
        self._durable = 0

    def check(self, history: History, events: Sequence[event_pb2.Event]) -> list[str]:
        """Checks one round; the rounds of a server come one after the other.

        Args:
            history: What all clients sent and got in the round.
            events: The journal from the end of the last round to its end now.

        Returns:
            What is wrong, in words; empty if everything is as it must be.
        """
        self._events, self._base = events, self._ledger.sequence if self._ledger else 0
        self._lost = defaultdict(list)
        for lost in history.lost:
            if name := identity(lost.request):
                self._lost[name].append(lost)
        self._numbers.know(history)
        self.tally.lost += len(history.lost)
        self.tally.faults += history.fault_count
        with contextlib.suppress(_PartedError):
            self._check_journal()
            for step in history.steps:
                self._walk(step)
            while self._next_event() is not None:
                self._follow()
            self._close(history)
        return self.findings

    def _close(self, history: History) -> None:
        """What is left to look at when the round is replayed."""
        for text in history.strange_faults:
            self._find("fault", text)
        for watched in self._watched:
            for text in watched.rest():
                self._find("watch", text)
        for broken in self._ledger.check():
            self._find("invariant", " ".join(broken))

    def forget(self, sale_ids: Sequence[str]) -> None:
        """Drops what the model knows of sales that nobody will ask for again."""
        for sale_id in sale_ids:
            self._ledger.forget_sale(sale_id)

    def _find(self, kind: str, text: str) -> None:
        self.findings.append(f"{kind}: {text}")
        if len(self.findings) >= _FINDINGS_MAX:
            raise _PartedError

    def _check_journal(self) -> None:
        """The events have no gap, and time does not go back."""
        time = (0, 0)
        for index, event in enumerate(self._events):
            if event.sequence != self._base + index + 1:
                self._find("journal", f"event {event.sequence} is at {self._base + index + 1}")
                raise _PartedError
            now = (event.time.seconds, event.time.nanos)
            if now < time:
                self._find("journal", f"time goes back at event {event.sequence}")
            time = now

    def _next_event(self) -> event_pb2.Event | None:
        done = self._ledger.sequence if self._ledger else 0
        index = done - self._base
        return self._events[index] if index < len(self._events) else None

    def _walk(self, step: Step) -> None:
        """Checks one reply."""
        self._check_order(step)
        place = step.reply.place
        own = self._go_to(step)
        ledger = self._ledger
        if ledger is None:
            self._find("order", f"{_told(step)} came before the first opening")
            raise _PartedError
        if place.epoch != ledger.epoch:
            self._find("epoch", f"{_told(step)}, but the journal is in epoch {ledger.epoch}")
            raise _PartedError
        self._durable = max(self._durable, place.durable_sequence)
        before = ledger.sequence
        reply = self._ask(step, own)
        self._compare(step, reply)
        self._compare_events(before)
        self.tally.operations += 1
        kind = type(step.request).__name__.removesuffix("Request")
        outcome = outcome_pb2.Outcome.Name(reply.result.outcome).removeprefix("OUTCOME_")
        self.tally.outcomes[f"{kind} {outcome}"] += 1

    def _check_order(self, step: Step) -> None:
        """Places agree with real time."""
        if step.return_ns < self._latest_call:
            late = self._latest_step
            self._find(
                "real time",
                f"{_told(step)} ended {self._latest_call - step.return_ns} ns before"
                f" {_asked(late)} began, which stands before it",
            )
        if step.call_ns > self._latest_call:
            self._latest_call, self._latest_step = step.call_ns, step
        place = step.reply.place
        if place.durable_sequence < place.as_of_sequence:
            self._find("durable", f"{_told(step)} shows more than is durable")
        end = self._base + len(self._events)
        if max(place.as_of_sequence, place.durable_sequence) > end:
            self._find("durable", f"{_told(step)}, but the journal ends at {end}")

    def _go_to(self, step: Step) -> event_pb2.Event | None:
        """Follows the journal to where a reply stands; returns the first event of its own."""
        place = step.reply.place
        name = identity(step.request)
        own = None
        while (event := self._next_event()) is not None:
            if event.sequence > place.as_of_sequence:
                break
            is_mine = event.sequence <= place.sequence and not step.reply.result.replayed
            if is_mine and event_identity(event) == name:
                own = event
                break
            self._follow()
        if not self._watched and (text := self._numbers.take(step.order)):
            self._find("order", f"{_told(step)}: {text}")
        return own

    def _follow(self) -> None:
        """Does what the journal says next and no reply asked for."""
        event = self._next_event()
        assert event is not None
        before = self._ledger.sequence if self._ledger else 0
        if (name := event_identity(event)) != "":
            self._follow_lost(name, event)
        elif not self._follow_clock(event):
            self._find("clock", f"event {event.sequence} was not due: {event}")
            raise _PartedError
        else:
            self.tally.timers += 1
        self._numbers.use()
        self._compare_events(before)

    def _follow_lost(self, name: str, event: event_pb2.Event) -> None:
        """An effect whose answer was lost."""
        candidates = self._lost.get(name, [])
        lost = next((lost for lost in candidates if could_write(lost.request, event)), None)
        if lost is None:
            words = _words(event)
            self._find("journal", f"nobody has asked for event {event.sequence}, {name}: {words}")
            raise _PartedError
        candidates.remove(lost)
        if lost.call_ns > self._latest_call:
            self._latest_call, self._latest_step = lost.call_ns, lost
        self._ledger.apply(lost.request, _ms(event.time), caller=CALLER)
        self.tally.lost_found += 1
        if self._next_event() is event:
            self._find("journal", f"event {event.sequence}, {name}, is not what the model does")
            raise _PartedError

    def _follow_clock(self, event: event_pb2.Event) -> bool:
        """What the clock or the node did; false if it might not."""
        now, body = _ms(event.time), event.WhichOneof("body")
        if body == "node_opened":
            self._open(event)
            return True
        ledger, reservation_id = self._ledger, event.reservation_id
        if body == "outage_credited":
            ledger.now = max(ledger.now, now)
            credit = event.outage_credited.credit
            ledger.credit_outage(credit.seconds * 1000 + credit.nanos // 1_000_000)
            return True
        if body == "released":
            is_done = ledger.expire(reservation_id, now)
            return bool(is_done or ledger.end_of_cancelled(reservation_id, now))
        if body == "became_overdue":
            return bool(ledger.become_overdue(reservation_id, now))
        if body == "sale_state_changed":
            return bool(ledger.move_sale(event.sale_id, now))
        return bool(body == "release_requested" and ledger.end_of_cancelled(reservation_id, now))

    def _open(self, event: event_pb2.Event) -> None:
        """A start of the server: nothing that was told to be durable may be gone."""
        if self._durable >= event.sequence:
            self._find(
                "durable",
                f"{self._durable} was told to be durable, but a start stands at {event.sequence}",
            )
        epoch = event.node_opened.epoch
        if self._ledger is None:
            self._ledger = Ledger(now_ms=_ms(event.time), is_journal_kept=True, epoch=epoch)
        else:
            self._ledger.open(_ms(event.time), epoch=epoch)
        self._numbers.begin()
        if epoch != self._ledger.epoch:
            self._find("epoch", f"event {event.sequence} opens {epoch}")

    def _ask(self, step: Step, own: event_pb2.Event | None) -> Any:
        """Has the model answer, at the time at which the server did.

        A command's time is that of its events. A refusal or a question has no event: its time lies
        between two, and only few answers tell more of it.
        """
        ledger, result = self._ledger, step.reply.result
        if own is not None:
            return ledger.apply(step.request, _ms(own.time), caller=CALLER)
        now, place_before = ledger.now, ledger.sequence
        following = self._next_event()
        latest = _ms(following.time) if following is not None else _REPLIED_MS_MAX
        if result.HasField("come_back_time"):
            ledger.now = max(now, min(_ms(result.come_back_time), latest))
        elif result.outcome == _TOO_LATE:
            ledger.now = latest
        reply = ledger.apply(step.request, caller=CALLER)
        if ledger.sequence == place_before:
            ledger.now = now
        return reply

    def _compare(self, step: Step, reply: Any) -> None:
        place, expected = step.reply.place, reply.place
        if place.as_of_sequence != expected.as_of_sequence:
            self._find(
                "order",
                f"{_told(step)}, but the ledger stood at {expected.as_of_sequence} there"
                f" ({_words(step.request)}; expected {_words(reply)}, got {_words(step.reply)})",
            )
            raise _PartedError
        if place.sequence != expected.sequence:
            self._find("reply", f"{_told(step)}, but its last event is {expected.sequence}")
        expected.CopyFrom(place)
        if getattr(reply, "next_page_token", "") and step.reply.next_page_token:
            # What a token says is the server's own affair; whether there is one is not.
            reply.next_page_token = step.reply.next_page_token
        if reply != step.reply:
            self._find(
                "reply",
                f"{_told(step)}, asked {_words(step.request)};"
                f" expected {_words(reply)}, got {_words(step.reply)}",
            )

    def _compare_events(self, before: int) -> None:
        """What the model wrote is what is in the journal."""
        written = self._ledger.events
        start = before - self._base
        there = self._events[start : start + len(written)]
        self.tally.events += len(written)
        for expected, event in zip(written, there, strict=False):
            if expected != event:
                self._find("journal", f"expected event {_words(expected)}, found {_words(event)}")
        if len(there) != len(written):
            self._find("journal", f"{len(written)} events expected after {before}")
            raise _PartedError
        written.clear()
        for watched in self._watched:
            watched.look(self._ledger)


def _ms(time: Any) -> int:
    return int(time.seconds * 1000 + time.nanos // 1_000_000)


def _words(message: Any) -> str:
    return " ".join(str(message).split())


def _told(step: Step) -> str:
    place = step.reply.place
    return (
        f"{type(step.reply).__name__} {place.op_number} of epoch {place.epoch} to client"
        f" {step.client} shows {place.as_of_sequence}"
    )


def _asked(step: Step | Lost | None) -> str:
    return f"{type(getattr(step, 'request', None)).__name__} of client {getattr(step, 'client', 0)}"
