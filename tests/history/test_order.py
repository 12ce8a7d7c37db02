"""Many clients, a server that is killed again and again, and every reply checked by its place."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from .calls import read_files
from .load import Field, Shape, run_round
from .order import OrderCheck
from .steps import open_calls
from .streams import AvailabilityReader, EventReader
from .worlds import sale_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = Shape(operations=1650, unary_operations=40, batch_max=64, ends=2)
LARGE = Shape(processes=3, operations=3_000, unary_operations=150, batch_max=128, ends=6)
WATCHED = Shape(processes=1, operations=400, unary_operations=40, batch_max=16, ends=2)


@pytest.fixture
def field(tmp_path: Path) -> Iterator[Field]:
    """A server of our own; its seed is printed, and taken from LASTUNIT_HISTORY_SEED."""
    seed = int(os.environ.get("LASTUNIT_HISTORY_SEED", random.randrange(2**32)))
    print(f"LASTUNIT_HISTORY_SEED={seed}")  # noqa: T201 - pytest shows it when a test fails
    opened = Field(tmp_path, seed)
    yield opened
    opened.stop()


def test_every_reply_is_explained_by_its_place(field: Field) -> None:
    """Twenty thousand operations through two ends of the server: each reply is the model's."""
    played = run_round(field, SMALL, 0)
    check = OrderCheck()

    findings = check.check(open_calls(read_files(played.calls)), played.events)

    assert findings == []
    assert check.tally.operations > SMALL.operation_count() * 0.9
    assert check.tally.timers > 0
    assert sum(played.ends.values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_reply_of_a_longer_run_is_explained_by_its_place(field: Field) -> None:
    """Fifty thousand operations a round, three rounds, eighteen ends or more."""
    check = OrderCheck()
    for number in range(3):
        played = run_round(field, LARGE, number)

        assert check.check(open_calls(read_files(played.calls)), played.events) == []
    assert sum(field.ends.values()) >= 3 * LARGE.ends
    assert check.tally.lost_found > 0


def test_streams_tell_everything_once_and_in_order(field: Field) -> None:
    """Readers that resume after each break get the journal's events and each state's counters."""
    number = 0
    events = EventReader(field.addresses)
    watches = [AvailabilityReader(field.addresses, sale_id(number, kind)) for kind in ("scarce",)]
    readers = [events, *watches]
    events.start()
    # A watch of a sale that is not there yet ends at once: it begins when the sale is made.
    played = run_round(
        field,
        WATCHED,
        number,
        when_set_up=lambda: [reader.start() for reader in watches],
        at_each_look=lambda look: look % 100 or [reader.interrupt() for reader in readers],
    )
    for reader in readers:
        reader.wait_for(_last_news(reader, played.events))
        reader.end()
    # The clock goes on: readers may have been told of what it did after the round was read.
    played.events += field.read_events()
    check = OrderCheck([reader.watched for reader in watches])

    assert check.check(open_calls(read_files(played.calls)), played.events) == []
    assert [[] for _ in readers] == [reader.findings for reader in readers]
    assert played.events[: len(events.events)] == events.events
    assert all(reader.breaks > sum(played.ends.values()) for reader in readers)
    assert all(len(reader.watched.messages) > 10 for reader in watches)


def _last_news(reader: EventReader | AvailabilityReader, events: list) -> int:
    """Returns the last event that a reader has to be told of."""
    if isinstance(reader, EventReader):
        return int(events[-1].sequence)
    of_sale = [event.sequence for event in events if event.sale_id == reader.watched.sale_id]
    return int(of_sale[-1])
