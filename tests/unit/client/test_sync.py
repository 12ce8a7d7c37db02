"""The blocking client says what the asyncio one says, to any number of threads."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lastunit import errors
from lastunit.client import aio, sync

from .fake_ledger import FakeLedger

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def served() -> Iterator[FakeLedger]:
    """Gives a scripted ledger whose server runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> FakeLedger:
        fake = FakeLedger()
        await fake.start()
        return fake

    ledger = asyncio.run_coroutine_threadsafe(start(), loop).result()
    yield ledger
    asyncio.run_coroutine_threadsafe(ledger.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_threads_share_messages_and_get_their_own_replies(served: FakeLedger) -> None:
    """Sixteen threads reserve side by side, and each id has one effect."""
    names = [f"r-{index}" for index in range(400)]
    with sync.StockClient(served.address) as client, ThreadPoolExecutor(16) as pool:
        replies = list(
            pool.map(
                lambda name: client.reserve(
                    name, sale_id="flash", person_id="p", lines=[sync.Line("phone")]
                ),
                names,
            )
        )

    assert [served.first_sequences[name] for name in names] == [r.sequence for r in replies]
    assert len(served.message_sizes) < 400


def test_errors_reach_the_calling_thread(served: FakeLedger) -> None:
    """A blocking call raises the same tree of errors."""
    with sync.StockClient(served.address) as client:
        served.answers.clear()
        with pytest.raises(errors.DeadlineExceededError):
            client.get_availability("flash", deadline_seconds=0.1)
        served.answers.set()


def test_events_are_iterated_from_a_thread(served: FakeLedger) -> None:
    """A blocking reader can stop in the middle of a stream."""
    served.write_events(20)
    with sync.StockClient(served.address) as client:
        first = []
        for event in client.read_events(after_sequence=3):
            first.append(event.sequence)
            if len(first) == 5:
                break
        rest = [event.sequence for event in client.read_events(8, follow=False)]

    assert first == [4, 5, 6, 7, 8]
    assert list(range(9, 21)) == rest


def test_a_closed_client_says_so(served: FakeLedger) -> None:
    """Closing twice is fine, calling afterwards is not."""
    client = sync.StockClient(served.address)
    client.close()
    client.close()

    with pytest.raises(errors.ClosedError):
        client.get_availability("flash")


@pytest.mark.parametrize(
    ("blocking", "original"),
    [(sync.StockClient, aio.StockClient), (sync.AdminClient, aio.AdminClient)],
)
def test_both_clients_have_the_same_calls(blocking: type, original: type) -> None:
    """Names, arguments and defaults of every public call agree."""

    def calls(owner: type) -> dict[str, list[tuple[str, object]]]:
        return {
            name: [
                (each.name, each.default) for each in inspect.signature(call).parameters.values()
            ]
            for name, call in inspect.getmembers(owner, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(original) == calls(blocking)
