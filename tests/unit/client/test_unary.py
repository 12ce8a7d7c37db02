"""Calls that travel alone: retries, deadlines and what they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from lastunit import errors
from lastunit.client.aio import Line, StockClient
from lastunit.service.faults import FaultError

from .fake_ledger import unavailable

if TYPE_CHECKING:
    from .fake_ledger import FakeLedger


async def test_unavailable_is_tried_again_until_it_is_not(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Two failures and an answer are three tries and one reply."""
    ledger.call_script.extend([unavailable(), unavailable(pushback_seconds=0.01)])

    reply = await client.get_availability("flash")

    assert reply.is_ok
    assert len(ledger.metadata) == 3


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    ],
)
async def test_other_statuses_are_tried_once(
    ledger: FakeLedger, client: StockClient, code: grpc.StatusCode
) -> None:
    """Any status but UNAVAILABLE is an answer."""
    ledger.call_script.append(FaultError(code, "no", reason="NO"))

    with pytest.raises(errors.LastunitError):
        await client.get_availability("flash")

    assert len(ledger.metadata) == 1


async def test_a_pushback_past_the_deadline_ends_the_call_at_once(
    ledger: FakeLedger, client: StockClient
) -> None:
    """Waiting for what cannot come in time would help nobody."""
    ledger.call_script.append(unavailable(pushback_seconds=60))

    with pytest.raises(errors.UnavailableError) as caught:
        await client.get_availability("flash", deadline_seconds=5)

    assert caught.value.retry_after_seconds == 60
    assert caught.value.reason == "JOURNAL_FAILED"
    assert len(ledger.metadata) == 1


async def test_a_silent_server_costs_the_deadline(ledger: FakeLedger, client: StockClient) -> None:
    """The server is told the deadline, and the client keeps it."""
    ledger.answers.clear()

    with pytest.raises(errors.DeadlineExceededError) as caught:
        await client.get_availability("flash", deadline_seconds=0.1)

    assert caught.value.deadline_seconds == 0.1


async def test_a_client_that_does_not_batch_retries_with_the_same_id(ledger: FakeLedger) -> None:
    """The unary form of a call keeps every promise of the batched one."""
    ledger.call_script.append(unavailable())
    async with StockClient(ledger.address, is_batching=False) as client:
        reply = await client.reserve("r-1", sale_id="flash", person_id="p-1", lines=[Line("phone")])

    assert reply.is_ok
    assert ledger.received == ["r-1"]
    assert ledger.message_sizes == []


async def test_calls_carry_the_caller_and_what_it_has_seen(
    ledger: FakeLedger, client: StockClient
) -> None:
    """The place of each reply raises what the next call carries."""
    ledger.sequence = 41
    await client.get_availability("flash")
    await client.admin.audit()

    first, second = ledger.metadata
    assert first["lastunit-caller"] == "test"
    assert "lastunit-seen-sequence" not in first
    assert second["lastunit-seen-sequence"] == "41"
    assert client.seen_sequence == 41


@pytest.mark.parametrize("deadline_seconds", [0, -1, 3600.5, float("nan")])
async def test_deadlines_outside_of_their_range_are_refused(
    client: StockClient, deadline_seconds: float
) -> None:
    """More than 0 and at most an hour; nothing is sent."""
    with pytest.raises(ValueError, match="deadline_seconds"):
        await client.get_availability("flash", deadline_seconds=deadline_seconds)
    with pytest.raises(ValueError, match="deadline_seconds"):
        StockClient("127.0.0.1:1", deadline_seconds=deadline_seconds)


async def test_the_longest_deadline_is_taken(client: StockClient) -> None:
    """An hour is within the range."""
    assert (await client.get_availability("flash", deadline_seconds=3600)).is_ok
