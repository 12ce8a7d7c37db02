"""ReadEvents and WatchAvailability: gap-free, resumable, live."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import outcome_pb2 as outcome
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import SKU, Ledger, new_id, refused


def read(ledger: Ledger, after: int, *, page_size: int = 100, follow: bool = False) -> Any:
    """Opens a ReadEvents stream."""
    request = journal.ReadEventsRequest(after_sequence=after, follow=follow, page_size=page_size)
    return ledger.journal.ReadEvents(request, timeout=15)


def sequences(pages: Any) -> list[int]:
    """Returns the sequences of all events of all pages."""
    return [event.sequence for page in pages for event in page.events]


@pytest.mark.parametrize("page_size", [1, 7, 4096])
def test_events_are_gap_free_whatever_the_page(ledger: Ledger, page_size: int) -> None:
    """From any position to the end each sequence comes once, rising by one."""
    start = ledger.sequence()
    sale_id = ledger.put_sale(units=10)
    for _ in range(10):
        ledger.held(sale_id)
    end = ledger.sequence()

    found = sequences(read(ledger, start, page_size=page_size))

    assert found[: end - start] == list(range(start + 1, end + 1))
    assert sequences(read(ledger, start + 3, page_size=page_size))[0] == start + 4


def test_events_say_what_happened(ledger: Ledger) -> None:
    """A Reserve's event carries sale, reservation and what was taken."""
    sale_id = ledger.put_sale(units=2)
    start = ledger.sequence()
    reservation_id = ledger.held(sale_id, 2)

    events = [event for page in read(ledger, start) for event in page.events]

    [event] = [event for event in events if event.reservation_id == reservation_id]
    assert event.sale_id == sale_id
    assert event.WhichOneof("body") == "reserved"
    assert event.HasField("time")


def test_a_follower_gets_the_past_and_then_what_happens(ledger: Ledger) -> None:
    """The stream goes on live without a gap, and ends when the caller ends it."""
    sale_id = ledger.put_sale(units=10)
    start = ledger.sequence()
    before = [ledger.held(sale_id) for _ in range(3)]
    stream = read(ledger, start, follow=True)
    events: list[Any] = list(next(stream).events)

    after = [ledger.held(sale_id) for _ in range(3)]
    while events[-1].reservation_id != after[-1]:
        events += next(stream).events
    stream.cancel()

    assert [event.sequence for event in events] == list(range(start + 1, start + 1 + len(events)))
    # A ledger that was used before has reservations that lapse meanwhile.
    ours = [event.reservation_id for event in events if event.sale_id == sale_id]
    assert ours == before + after


def test_a_follower_at_the_end_is_told_where_it_stands(ledger: Ledger) -> None:
    """Without news the first message is empty but for place and epoch."""
    start = ledger.sequence()
    stream = read(ledger, start, follow=True)

    first = next(stream)
    stream.cancel()

    assert list(first.events) == []
    assert first.durable_sequence >= start
    assert first.epoch >= 1


def test_a_position_past_the_end_is_refused(ledger: Ledger) -> None:
    """A reader that has seen more than there is learns so."""
    with pytest.raises(grpc.RpcError) as caught:
        list(read(ledger, ledger.sequence() + 1_000_000))

    told = refused(caught.value)
    assert told.code is grpc.StatusCode.OUT_OF_RANGE
    assert told.reason == "SEQUENCE_NOT_REACHED"


def watch(ledger: Ledger, sale_id: str, **fields: Any) -> Any:
    """Opens a WatchAvailability stream."""
    request = stock.WatchAvailabilityRequest(sale_id=sale_id, **fields)
    return ledger.stock.WatchAvailability(request, timeout=15)


def test_a_watch_shows_the_present_and_then_each_change(ledger: Ledger) -> None:
    """The first message is the state, later ones show where it went."""
    sale_id = ledger.put_sale(units=5)
    stream = watch(ledger, sale_id)
    first = next(stream)

    ledger.held(sale_id, 2)
    second = next(stream)
    stream.cancel()

    assert [row.sku for row in first.availabilities] == [SKU]
    assert first.availabilities[0].counters.available == 5
    assert second.availabilities[0].counters.available == 3
    assert second.place.as_of_sequence > first.place.as_of_sequence


def test_a_watch_ends_up_at_the_last_state(ledger: Ledger) -> None:
    """Many changes may come folded into few messages; the last one shows the end."""
    sale_id = ledger.put_sale(units=100)
    stream = watch(ledger, sale_id, skus=[SKU])
    available = next(stream).availabilities[0].counters.available
    for _ in range(50):
        ledger.held(sale_id)

    places = []
    while available != 50:
        message = next(stream)
        places.append(message.place.as_of_sequence)
        available = message.availabilities[0].counters.available
    stream.cancel()

    assert places == sorted(set(places))


def test_a_watch_is_quiet_about_other_sales(ledger: Ledger) -> None:
    """A change elsewhere sends nothing; the next message is of this sale."""
    sale_id, other = ledger.put_sale(units=5), ledger.put_sale(units=5)
    stream = watch(ledger, sale_id)
    next(stream)

    ledger.held(other)
    ledger.held(sale_id)
    message = next(stream)
    stream.cancel()

    assert {row.sale_id for row in message.availabilities} == {sale_id}
    assert message.availabilities[0].counters.held == 1


def test_a_watch_resumes_from_a_sequence(ledger: Ledger) -> None:
    """The first message shows at least what the caller has seen."""
    sale_id = ledger.put_sale(units=5)
    ledger.held(sale_id)
    seen = ledger.sequence()

    stream = watch(ledger, sale_id, after_sequence=seen)
    message = next(stream)
    stream.cancel()

    assert message.place.as_of_sequence >= seen
    assert message.availabilities[0].counters.held == 1


def test_a_watch_of_the_unknown_ends_with_its_outcome(ledger: Ledger) -> None:
    """One message says what is unknown, then the stream is over."""
    messages = list(watch(ledger, new_id("sale")))

    assert [message.result.outcome for message in messages] == [outcome.OUTCOME_UNKNOWN_SALE]
