"""What the order service tells the ledger of how far it is."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from lastunit.client.outcomes import PaymentResult
from lastunit.errors import UnavailableError
from lastunit.order.pressure import PayTimes, PressureReporter, WorkPace
from lastunit.order.settings import OrderSettings
from lastunit.service.database import Database, Lane
from lastunit.stock.v1 import event_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lastunit.admission.v1 import admission_service_pb2

    from .world import World


class Taking:
    """Takes reports, or fails as it is told to."""

    def __init__(self) -> None:
        self.taken: list[admission_service_pb2.ReportPressureRequest] = []
        self.failures: deque[Exception] = deque()

    def report_pressure(self, report: admission_service_pb2.ReportPressureRequest) -> None:
        """Takes one."""
        if self.failures:
            raise self.failures.popleft()
        self.taken.append(report)


class Counting:
    """A writer's counters, set by hand."""

    unit_count = 0
    busy_seconds = 0.0
    queued_count = 0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database."""
    with Database(tmp_path / "order.sqlite", sa.MetaData()) as opened:
        yield opened


def reporter(database: Database, ledger: Taking, pays: PayTimes | None = None) -> PressureReporter:
    """Reports of a service that was started for the third time and has persisted five orders."""
    return PressureReporter(
        ledger,
        writer=database.writer,
        generation=3,
        persisted_count=lambda: 5,
        pays=pays or PayTimes(),
    )


def begun(attempt_id: str, time_ms: int) -> event_pb2.Event:
    """A payment begins."""
    event = event_pb2.Event()
    event.time.FromMilliseconds(time_ms)
    event.payment_begun.attempt_id = attempt_id
    return event


def settled(
    attempt_id: str, time_ms: int, result: PaymentResult = PaymentResult.SUCCEEDED
) -> event_pb2.Event:
    """News of a payment."""
    event = event_pb2.Event()
    event.time.FromMilliseconds(time_ms)
    event.payment_settled.attempt_id = attempt_id
    event.payment_settled.payment_result = result.value
    return event


def test_payments_are_measured_from_their_begin_to_their_news() -> None:
    """Of 200 payments of 1 to 200 s, 99 in a hundred took 198 s at most; failures do not count."""
    pays = PayTimes()
    for each in range(1, 201):
        pays.note(begun(f"a-{each}", 1_000))
        pays.note(settled(f"a-{each}", 1_000 + each * 1_000))
    pays.note(begun("failed", 0))
    pays.note(settled("failed", 9_000_000, PaymentResult.FAILED))
    pays.note(settled("begun-before-the-start", 9_000_000))

    assert (pays.count, pays.paid_count) == (200, 201)
    assert pays.p99_ms() == 198_000
    assert PayTimes().p99_ms() is None


def test_the_pace_is_that_of_times_in_which_work_waited() -> None:
    """Ten units a second for ten busy seconds count; an idle minute and a lone unit do not."""
    writer, now = Counting(), [0.0]
    pace = WorkPace(writer, clock=lambda: now[0])  # type: ignore[arg-type] # only its counters

    def pass_by(seconds: float, units: int, busy: float, queued: int) -> None:
        now[0] += seconds
        writer.unit_count += units
        writer.busy_seconds += busy
        writer.queued_count = queued
        pace.look()

    pass_by(60.0, 1, 0.5, 0)
    assert pace.per_second() == 0.0
    for _ in range(10):
        pass_by(1.0, 10, 1.0, 3)
    pass_by(60.0, 1, 0.5, 1)

    assert pace.per_second() == pytest.approx(10.0)
    pass_by(600.0, 0, 0.0, 0)
    assert pace.per_second() == 0.0


async def test_a_report_says_what_waits_and_for_how_long(database: Database) -> None:
    """A unit that waits behind another is counted, and its wait grows."""
    ledger, entered, leave = Taking(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(_connection: sa.Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(leave.wait(), loop).result()

    first = database.writer.submit(hold)
    await entered.wait()
    second = database.writer.submit(lambda _connection: None, lane=Lane.RESERVATION)
    assert await asyncio.to_thread(reporter(database, ledger).report_once)
    leave.set()
    await asyncio.gather(asyncio.wrap_future(first), asyncio.wrap_future(second))
    reporter(database, ledger).report_once()

    busy, idle = ledger.taken
    assert (busy.generation, busy.persisted_count, busy.queue_count) == (3, 5, 1)
    assert busy.oldest_wait.ToNanoseconds() > 0
    assert (idle.queue_count, idle.oldest_wait.ToNanoseconds()) == (0, 0)
    assert not idle.HasField("pay_p99")


def test_work_per_order_waits_for_thirty_paid_ones(database: Database) -> None:
    """Few paid orders say nothing; 30 of them after 60 units say two units an order."""
    ledger, pays = Taking(), PayTimes()
    database.writer.unit_count = 60
    for each in range(30):
        reporter(database, ledger, pays).report_once()
        pays.note(settled(f"a-{each}", 1_000))
    reporter(database, ledger, pays).report_once()

    assert {report.work_per_order_milli for report in ledger.taken[:-1]} == {0}
    assert ledger.taken[-1].work_per_order_milli == 2_000


def test_a_ledger_that_is_down_is_told_of_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Each outage is one line, and so is its end; reports go on."""
    ledger = Taking()
    ledger.failures.extend(UnavailableError("no answer", reason="UNAVAILABLE") for _ in range(3))
    caplog.set_level("INFO")
    reports = reporter(database, ledger)
    taken = [reports.report_once() for _ in range(5)]

    assert taken == [False, False, False, True, True]
    assert len(caplog.records) == 2


async def test_each_grant_is_counted_once_whatever_becomes_of_its_order(world: World) -> None:
    """Written, repeated and failed ones: the ledger granted two reservations."""
    await world.place()
    await world.place()
    world.runner.fail_next = True
    with pytest.raises(UnavailableError):
        await world.place("request-2", account_id="account-2")
    await world.place("request-2", account_id="account-2")

    assert world.core.grants.persisted_count == 2


async def test_a_grant_whose_answer_was_lost_is_counted_with_the_repeat(world: World) -> None:
    """The ledger granted once and the order is written by the repeat: one, not none."""
    world.ledger.lost_replies.append(UnavailableError("lost", reason="UNAVAILABLE"))
    with pytest.raises(UnavailableError):
        await world.place()
    assert world.core.grants.persisted_count == 0
    await world.place()
    await world.place()

    assert world.core.grants.persisted_count == 1


@pytest.mark.parametrize("is_granted", [True, False])
async def test_what_is_granted_after_its_caller_has_left_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_granted: bool
) -> None:
    """The ledger has the call and answers it: a grant keeps no place, a refusal had none."""
    asked, answer, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    reserve = world.ledger.reserve

    async def slow_reserve(*arguments: Any, **named: Any) -> Any:
        asked.set()
        await answer.wait()
        answered.set()
        return await reserve(*arguments, **named)

    monkeypatch.setattr(world.ledger, "reserve", slow_reserve)
    world.ledger.available = 1 if is_granted else 0
    placing = asyncio.create_task(world.place())
    await asked.wait()
    placing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placing
    assert world.core.grants.persisted_count == 0
    answer.set()
    await answered.wait()
    for _ in range(10):
        await asyncio.sleep(0)

    assert world.core.grants.persisted_count == is_granted


@pytest.mark.parametrize("seconds", [0.009, 0.51])
def test_an_interval_that_a_window_cannot_live_with_is_refused(seconds: float) -> None:
    """Slower than half a second the window collapses; faster than 10 ms tells no rate."""
    with pytest.raises(ValueError, match="report_seconds"):
        OrderSettings(report_seconds=seconds)


def test_starts_are_counted(tmp_path: Path) -> None:
    """Each start on the same files has a higher generation."""
    from lastunit.order import store
    from lastunit.order.schema import ORDER_METADATA

    generations: list[Any] = []
    for _ in range(3):
        with Database(tmp_path / "order.sqlite", ORDER_METADATA) as database:
            generations.append(database.writer.submit(store.count_start).result())

    assert generations == [1, 2, 3]
