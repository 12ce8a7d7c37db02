"""History on disk is bounded, and whoever asks for what is gone is told so over the wire."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.conformance.kit import Ledger, Refused, Server, refused, reserve_request, start_server
from typer.testing import CliRunner

from lastunit import errors
from lastunit.client import sync
from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.cli import app

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 60
BATCH = 500

# Small segments, snapshots as often as allowed, and nothing kept for its age.
SHORT_HISTORY = (
    *("--set", "journal.segment_bytes=262144"),
    *("--set", "journal.kept_back_bytes=262144"),
    *("--set", "journal.snapshot_events=1000"),
    *("--set", "journal.history_seconds_min=0"),
)


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Ledger]]:
    """A server whose oldest segments are gone."""
    server = start_server(tmp_path_factory.mktemp("short"), *SHORT_HISTORY)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=1_000_000)
    end = time.monotonic() + PATIENCE_SECONDS
    while first_sequence(ledger) == 1:
        assert time.monotonic() < end, "no segment was removed"
        operations = [stock.Operation(reserve=reserve_request(sale_id)) for _ in range(BATCH)]
        message = stock.ExchangeRequest(operations=operations)
        list(ledger.stock.Exchange(iter([message]), timeout=PATIENCE_SECONDS))
    yield server, ledger
    ledger.close()
    server.process.kill()
    server.process.wait(10)


def read(ledger: Ledger, after: int, **fields: object) -> list[journal.ReadEventsResponse]:
    """Reads what is there now."""
    request = journal.ReadEventsRequest(after_sequence=after, page_size=1024, **fields)
    return list(ledger.journal.ReadEvents(request, timeout=PATIENCE_SECONDS))


def refusal(ledger: Ledger, after: int, **fields: object) -> Refused | None:
    """How a read is refused; None if it is not."""
    try:
        read(ledger, after, **fields)
    except grpc.RpcError as error:
        return refused(error)
    return None


def read_from_oldest(ledger: Ledger) -> tuple[int, list[journal.ReadEventsResponse]]:
    """Reads from where the journal starts; again if that has moved in between."""
    for _ in range(10):
        first = first_sequence(ledger)
        if refusal(ledger, first - 1) is None:
            return first, read(ledger, first - 1)
    raise AssertionError("the journal's start does not come to rest")


def first_sequence(ledger: Ledger) -> int:
    """Where the journal starts, as a refusal or the first page tells."""
    told = refusal(ledger, 0)
    if told is None:
        return 1
    assert told.reason == "EVENTS_REMOVED", told
    return int(told.metadata["first_sequence"])


def test_reading_what_was_removed_is_refused_by_name(short: tuple[Server, Ledger]) -> None:
    """OUT_OF_RANGE names the first event that is there, and from there on there is no gap."""
    _server, ledger = short
    told = refusal(ledger, 0)
    assert told is not None
    first, pages = read_from_oldest(ledger)
    sequences = [event.sequence for page in pages for event in page.events]

    assert told.code is grpc.StatusCode.OUT_OF_RANGE
    assert told.reason == "EVENTS_REMOVED"
    assert sequences == list(range(first, first + len(sequences)))
    assert pages[0].first_sequence >= first


def test_client_library_says_it_by_its_own_error(short: tuple[Server, Ledger]) -> None:
    """A follower learns where to go on."""
    server, ledger = short
    with sync.StockClient(server.ready["data"], reader_id="follower") as client:
        with pytest.raises(errors.EventsRemovedError) as caught:
            client.read_event_page(0)
        first, _pages = read_from_oldest(ledger)
        page = client.read_event_page(first - 1)

    assert 1 < caught.value.first_sequence <= first
    assert page.events[0].sequence == first


def test_command_line_starts_with_the_oldest_that_is_there(short: tuple[Server, Ledger]) -> None:
    """Without --from it says what is missing; with one that is gone it ends with 6."""
    server, ledger = short
    target = ("--target", server.ready["data"])
    oldest = CliRunner().invoke(app, ["events", *target, "--limit", "1"])
    gone = CliRunner().invoke(app, ["events", *target, "--from", "1"])

    assert oldest.exit_code == 0
    assert 1 < int(oldest.stdout.split()[0]) <= first_sequence(ledger)
    assert "were removed" in oldest.stderr
    assert gone.exit_code == 6
    assert "the journal starts at" in gone.stderr


def test_reader_needs_an_id_for_a_name(
    short: tuple[Server, Ledger],
) -> None:
    """What is no id is refused before anything is read."""
    _server, ledger = short
    told = refusal(ledger, 0, reader_id="no name")

    assert told is not None
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
