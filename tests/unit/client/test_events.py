"""Streams that outlive their connection, without a gap."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lastunit import errors

if TYPE_CHECKING:
    from lastunit.client.aio import StockClient

    from .fake_ledger import FakeLedger


async def test_events_go_on_where_a_broken_stream_stopped(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Three breaks in the middle of the journal cost no event and repeat none."""
    ledger.write_events(100)
    ledger.event_script.extend([1, 2, 1])

    sequences = [event.sequence async for event in client.read_events(follow=False, page_size=7)]

    assert list(range(1, 101)) == sequences
    assert ledger.stream_count == 4


async def test_a_follower_gets_what_is_written_later(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Following goes on with events to come, even across a restart of the server."""
    ledger.write_events(3)
    sequences: list[int] = []

    async def follow() -> None:
        async for event in client.read_events(after_sequence=1):
            sequences.append(event.sequence)
            if event.sequence == 8:
                return

    follower = asyncio.create_task(follow())
    while sequences != [2, 3]:  # noqa: ASYNC110 - the follower tells nobody but this list
        await asyncio.sleep(0.01)
    await ledger.stop()
    ledger.write_events(5)
    await ledger.start()
    await follower

    assert sequences == [2, 3, 4, 5, 6, 7, 8]


async def test_a_gap_in_the_stream_is_an_error(ledger: FakeLedger, client: StockClient) -> None:
    """An event that does not follow the last one is never given out."""
    ledger.write_events(5)
    del ledger.events[2]
    sequences: list[int] = []

    async def read() -> None:
        async for event in client.read_events(follow=False, page_size=2):
            sequences.append(event.sequence)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(errors.StatusError, match="gap") as caught:
        await read()

    assert sequences == [1, 2]
    assert caught.value.reason == "EVENT_GAP"
    assert dict(caught.value.metadata) == {"expected_sequence": "3", "sequence": "4"}


async def test_a_journal_shorter_than_the_cursor_is_rolled_back(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A reader that has seen more than there is learns that the ledger lost it."""
    ledger.write_events(2)

    with pytest.raises(errors.RolledBackError) as caught:
        async for _event in client.read_events(after_sequence=9):
            pass

    assert caught.value.seen_sequence == 9
    with pytest.raises(errors.RolledBackError):
        await client.read_event_page(9)


async def test_pages_are_read_one_by_one(ledger: FakeLedger, client: StockClient) -> None:
    """A page starts after the cursor, is bounded, and says where the journal ends."""
    ledger.write_events(10)

    page = await client.read_event_page(4, page_size=3)
    last = await client.read_event_page(10, page_size=3)

    assert [event.sequence for event in page.events] == [5, 6, 7]
    assert (page.durable_sequence, page.epoch) == (10, 1)
    assert last.events == ()


async def test_a_page_of_a_server_that_is_down_is_unavailable(
    ledger: FakeLedger, client: StockClient
) -> None:
    """A loop with a cursor of its own learns within its deadline that there is no server."""
    await ledger.stop()

    with pytest.raises(errors.UnavailableError):
        await client.read_event_page(0, deadline_seconds=0.3)

    await ledger.start()


async def test_a_watch_resumes_no_earlier_than_it_was(
    ledger: FakeLedger, client: StockClient
) -> None:
    """After a break the server is told what was shown, so that time never runs backwards."""
    shown: list[int] = []
    stream = client.watch_availability("flash")
    async for message in stream:
        shown.append(message.place.as_of_sequence)
        if len(shown) == 3:
            break
    await stream.aclose()  # type: ignore[attr-defined]

    assert shown == [1, 2, 3]
    assert ledger.received == ["watch after 0", "watch after 1", "watch after 2"]


async def test_a_watch_of_an_unknown_sale_ends(ledger: FakeLedger, client: StockClient) -> None:
    """The refusal is given out, and nothing is asked again."""
    messages = [message async for message in client.watch_availability("nothing")]

    assert [message.result.outcome for message in messages] == [3]
    assert ledger.received == ["watch after 0"]
