"""Tells the ledger how far this service is: persisted orders, queue, pace, how long payments take.

Owns what is measured for that and how it is summed up. Must not slow anything down: it only reads
what is counted anyway. Next: `ReportPressure` in `proto/lastunit/admission/v1`.

The ledger grants reservations only as far ahead of this service as its credit window allows, and
an operator's advisor reckons limits from the same figures.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import sqlalchemy as sa

from lastunit.admission.v1 import admission_service_pb2
from lastunit.client.outcomes import PaymentResult
from lastunit.errors import LastunitError
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.order.shared_pressure import SharedPressure
    from lastunit.service.database import Writer
    from lastunit.stock.v1 import event_pb2

__all__ = ["PayTimes", "PressurePort", "PressureReporter", "WorkPace"]

# Payments of which the 99th percentile is told, and begun ones that are waited for.
_PAYS_MAX: Final = 2_048
_BEGUN_MAX: Final = 100_000
# Fewer paid orders say too little of what an order takes.
_PAID_MIN: Final = 30

# Stretches of time in which work waited, and how much of one the writer must have worked.
_STRETCHES_MAX: Final = 100
_STRETCH_SECONDS_MIN: Final = 0.02
_BUSY_SHARE_MIN: Final = 0.9
# A database is not as it was ten minutes ago.
_STRETCH_AGE_SECONDS_MAX: Final = 600.0

_OLDEST_WAIT_SECONDS_MAX: Final = 3_600.0
_PAY_MS_MAX: Final = 86_400_000

_log: Final = logging.getLogger(__name__)


class PayTimes:
    """Measures payments from their begin to their news, in ledger time.

    Attributes:
        paid_count: Payments that succeeded since the start.
    """

    def __init__(self) -> None:
        # One thread takes events in, another sums up.
        self._lock = threading.Lock()
        self._begun: OrderedDict[str, int] = OrderedDict()
        self._spans: deque[int] = deque(maxlen=_PAYS_MAX)
        self.paid_count = 0

    def note(self, event: event_pb2.Event) -> None:
        """Takes in an event of the ledger."""
        body = event.WhichOneof("body")
        if body == "payment_begun":
            self._begun[event.payment_begun.attempt_id] = event.time.ToMilliseconds()
            if len(self._begun) > _BEGUN_MAX:
                self._begun.popitem(last=False)
        elif body == "payment_settled":
            settled = event.payment_settled
            begun = self._begun.pop(settled.attempt_id, None)
            if settled.payment_result != PaymentResult.SUCCEEDED.value:
                return
            self.paid_count += 1
            if begun is not None:
                with self._lock:
                    self._spans.append(event.time.ToMilliseconds() - begun)

    @property
    def count(self) -> int:
        """Payments that are measured now, up to 2,048."""
        return len(self._spans)

    def p99_ms(self) -> int | None:
        """Returns how long all but one in a hundred took at most; None before the first."""
        with self._lock:
            spans = sorted(self._spans)
        # Rounded up, so that of fewer than a hundred it is the longest.
        return spans[-(-99 * len(spans) // 100) - 1] if spans else None


@dataclass(frozen=True, slots=True)
class _Stretch:
    ended: float
    unit_count: int
    seconds: float


class WorkPace:
    """Measures what a database can do: units of work a second while work waited for it.

    A database that is asked for little says nothing of what it can do, so other times do not count.

    Args:
        writer: Counts its units and the time it works.
        clock: Seconds that never go back.
    """

    def __init__(self, writer: Writer, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._clock = clock
        self._stretches: deque[_Stretch] = deque(maxlen=_STRETCHES_MAX)
        self._begun = clock()
        self._unit_count = writer.unit_count
        self._busy_seconds = writer.busy_seconds

    def look(self) -> None:
        """Ends the present stretch; called with each report."""
        now = self._clock()
        seconds = now - self._begun
        if seconds < _STRETCH_SECONDS_MIN:
            return
        units, busy = self._writer.unit_count, self._writer.busy_seconds
        is_full = self._writer.queued_count and busy - self._busy_seconds >= (
            _BUSY_SHARE_MIN * seconds
        )
        if is_full:
            self._stretches.append(_Stretch(now, units - self._unit_count, seconds))
        while self._stretches and now - self._stretches[0].ended > _STRETCH_AGE_SECONDS_MAX:
            self._stretches.popleft()
        self._begun, self._unit_count, self._busy_seconds = now, units, busy

    def per_second(self) -> float:
        """Returns units of work a second; 0 if work never waited lately."""
        seconds = sum(stretch.seconds for stretch in self._stretches)
        return sum(stretch.unit_count for stretch in self._stretches) / seconds if seconds else 0.0


class PressurePort(Protocol):
    """Takes reports; `lastunit.client.admission.PressureLine` does."""

    def report_pressure(
        self, report: admission_service_pb2.ReportPressureRequest
    ) -> admission_service_pb2.CreditWindow | None:
        """Reports once."""
        ...


class PressureReporter:
    """Reports again and again, in a thread of its own.

    Args:
        ledger: Takes the reports.
        writer: Of the order database.
        generation: Higher with each start of the service.
        persisted_count: Tells how many grants were dealt with since the start.
        pays: How long payments take.
        interval_seconds: Between two reports.
        shared: Adds up what several processes measure; None: there is this one only.
    """

    def __init__(
        self,
        ledger: PressurePort,
        *,
        writer: Writer,
        generation: int,
        persisted_count: Callable[[], int],
        pays: PayTimes,
        interval_seconds: float = 0.1,
        shared: SharedPressure | None = None,
    ) -> None:
        self._ledger = ledger
        self._writer = writer
        self._generation = generation
        self._persisted_count = persisted_count
        self._pays = pays
        self._pace = WorkPace(writer)
        self._interval_seconds = interval_seconds
        self._shared = shared
        self._is_failing = False
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pressure", daemon=True)

    def start(self) -> None:
        """Begins to report."""
        self._thread.start()

    def stop(self) -> None:
        """Ends with the report under way."""
        self._is_stopping.set()
        self._thread.join()
        if self._shared is not None:
            self._shared.close()

    def _run(self) -> None:
        while True:
            try:
                self.report_once()
            except Exception:  # noqa: BLE001 - the thread must outlive whatever it is
                _log.exception("a report of pressure failed; the next one is tried")
            if self._is_stopping.wait(self._interval_seconds):
                return

    def report_once(self) -> bool:
        """Reports how far the service is; returns whether that was taken, or another's to say.

        A ledger that is down is told of once and not with each try: the follower of its events
        says so too, and it takes the next report when it is back.
        """
        self._pace.look()
        try:
            report = self.report()
            merged = report if self._shared is None else self._shared.merge(report)
            if merged is None:
                return True
            self._ledger.report_pressure(merged)
        except (LastunitError, sa.exc.DBAPIError) as error:
            if not self._is_failing:
                self._is_failing = True
                _log.warning(
                    "the ledger takes no report of pressure; with a credit window it grants no "
                    "more than its floor rate until it does",
                    extra={"why": str(error), "reason": getattr(error, "reason", "")},
                )
            return False
        if self._is_failing:
            self._is_failing = False
            _log.info("the ledger takes reports of pressure again")
        return True

    def report(self) -> admission_service_pb2.ReportPressureRequest:
        """Sums up how far the service is."""
        report = admission_service_pb2.ReportPressureRequest(
            generation=self._generation,
            persisted_count=self._persisted_count(),
            queue_count=self._writer.queued_count,
            work_per_second_milli=round(self._pace.per_second() * 1_000),
            pay_count=self._pays.count,
        )
        if self._pays.paid_count >= _PAID_MIN:
            report.work_per_order_milli = 1_000 * self._writer.unit_count // self._pays.paid_count
        wait = self._writer.oldest_wait_seconds(Lane.RESERVATION)
        report.oldest_wait.FromNanoseconds(round(min(wait, _OLDEST_WAIT_SECONDS_MAX) * 1e9))
        p99_ms = self._pays.p99_ms()
        if p99_ms is not None:
            report.pay_p99.FromMilliseconds(min(max(p99_ms, 0), _PAY_MS_MAX))
        return report
