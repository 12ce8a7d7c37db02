"""Two processes of the order service report as one: the count never falls, and none is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lastunit.admission.v1 import admission_service_pb2 as pb
from lastunit.order import schema, shared_pressure
from lastunit.order.shared_pressure import SharedPressure
from lastunit.service.database import Database

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Lead:
    """Says what a test says."""

    is_leading: bool = False


class Process:
    """One process: what it has counted, and whether it leads."""

    def __init__(self, url: sa.URL) -> None:
        self.lead = Lead()
        self.database = Database(url, schema.ORDER_METADATA, is_flushed=False)
        self.shared = SharedPressure(self.database, self.lead)  # type: ignore[arg-type]
        self.persisted_count = 0

    def report(self, **values: int) -> pb.ReportPressureRequest | None:
        """Shares what it measures; returns what goes to the ledger."""
        own = pb.ReportPressureRequest(persisted_count=self.persisted_count, **values)
        own.oldest_wait.FromMilliseconds(self.persisted_count)
        return self.shared.merge(own)

    def die(self) -> None:
        """Ends without a word."""
        self.shared.close()
        self.database.close()


@pytest.fixture
def pair(
    postgres_url: sa.URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Process, Process]]:
    """Two processes, the first of which leads."""
    # Nobody dies of a machine that is busy.
    monkeypatch.setattr(shared_pressure, "LIVE_MS", 600_000)
    first, second = Process(postgres_url), Process(postgres_url)
    first.lead.is_leading = True
    yield first, second
    first.die()
    second.die()


def test_the_one_that_leads_reports_the_sum(pair: tuple[Process, Process]) -> None:
    """Counts, queues and paces add up, the longest wait is the longest; the other says nothing."""
    first, second = pair
    first.persisted_count, second.persisted_count = 3, 40
    beside = second.report(queue_count=5, work_per_second_milli=100, work_per_order_milli=2_000)
    report = first.report(queue_count=7, work_per_second_milli=300, work_per_order_milli=1_000)

    assert beside is None
    assert report is not None
    assert (report.persisted_count, report.queue_count) == (43, 12)
    assert (report.work_per_second_milli, report.work_per_order_milli) == (400, 3_000)
    assert report.oldest_wait.ToMilliseconds() == 40


def test_the_count_never_falls_within_a_generation(pair: tuple[Process, Process]) -> None:
    """A process dies and another takes the lead: a higher generation, nothing counted is gone."""
    first, second = pair
    first.persisted_count, second.persisted_count = 30, 4
    second.report()
    before = first.report()
    first.lead.is_leading, second.lead.is_leading = False, True
    first.die()
    second.persisted_count = 5
    after = second.report()
    again = second.report()

    assert before is not None
    assert after is not None
    assert again is not None
    assert after.generation > before.generation
    assert again.generation == after.generation
    assert (before.persisted_count, after.persisted_count) == (34, 35)


def test_what_is_gone_with_a_crash_of_the_server_begins_a_generation(
    pair: tuple[Process, Process],
) -> None:
    """The rows are not written to its journal; a count that fell would be refused for ever."""
    first, second = pair
    first.persisted_count, second.persisted_count = 1, 50
    second.report()
    before = first.report()
    with first.database.engine.begin() as connection:
        connection.execute(sa.text("TRUNCATE pressures"))
    after = first.report()

    assert before is not None
    assert after is not None
    assert (before.persisted_count, after.persisted_count) == (51, 1)
    assert after.generation > before.generation


def test_one_that_died_has_no_queue(pair: tuple[Process, Process]) -> None:
    """What it persisted counts on, what it said of the present does not."""
    first, second = pair
    second.persisted_count = 8
    second.report(queue_count=100, work_per_second_milli=100)
    with first.database.engine.begin() as connection:
        connection.execute(sa.update(schema.pressures).values(update_ms=1))
    report = first.report(queue_count=1)

    assert report is not None
    # Its row is an hour old: the lead that was taken just now has removed it, and begun anew.
    assert (report.persisted_count, report.queue_count) == (0, 1)

    second.report(queue_count=100, work_per_second_milli=100)
    first.report()
    with first.database.engine.begin() as connection:
        late = schema.pressures.c.update_ms - 700_000
        connection.execute(sa.update(schema.pressures).values(update_ms=late))
    report = first.report(queue_count=1)

    assert report is not None
    assert (report.persisted_count, report.queue_count) == (8, 1)
    assert report.work_per_second_milli == 0
