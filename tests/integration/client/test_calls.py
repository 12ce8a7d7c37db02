"""Every call of the client, spoken to the real ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from lastunit import errors
from lastunit.client import sync
from lastunit.client.aio import (
    Disposition,
    Level,
    Line,
    Outcome,
    PaymentResult,
    Reply,
    State,
    StockClient,
)

from .ledger_process import put_on_sale

if TYPE_CHECKING:
    from .ledger_process import LedgerProcess


async def test_a_reservation_is_paid_returned_and_refunded(client: StockClient) -> None:
    """The calls of a whole life reach the ledger over the listener that serves each."""
    await put_on_sale(client, units=3)
    held = await client.reserve(
        "order-1", sale_id="flash", person_id="p-1", lines=[Line("phone", 2)]
    )
    paying = await client.begin_payment("order-1:1", reservation_id="order-1", amount_minor=100)
    second = await client.begin_payment("order-1:2", reservation_id="order-1", amount_minor=100)
    sold = await client.settle_payment(
        "news-1",
        reservation_id="order-1",
        attempt_id="order-1:1",
        payment_result=PaymentResult.SUCCEEDED,
        occurred_ms=1_700_000_000_000,
        evidence="provider 17",
    )
    twice = await client.settle_payment(
        "news-2",
        reservation_id="order-1",
        attempt_id="order-1:2",
        payment_result=PaymentResult.SUCCEEDED,
    )
    refunded = await client.record_refund(
        "refund-1", reservation_id="order-1", attempt_id="order-1:2", evidence="provider 18"
    )
    returned = await client.return_units(
        "return-1",
        reservation_id="order-1",
        sku="phone",
        units=1,
        disposition=Disposition.RESELL,
    )

    replies: list[Reply[Any]] = [held, paying, second, sold, twice, refunded, returned]
    assert [reply.outcome for reply in replies] == [Outcome.OK] * 7
    assert [held.state, paying.state, sold.state] == [State.HELD, State.PAYING, State.CONFIRMED]
    assert twice.response.refund_due
    assert returned.response.returned_units == 1


async def test_holding_extending_confirming_and_releasing(client: StockClient) -> None:
    """The calls without a provider."""
    await put_on_sale(client, units=3)
    for number in (1, 2):
        await client.reserve(
            f"order-{number}", sale_id="flash", person_id=f"p-{number}", lines=[Line("phone")]
        )
    extended = await client.extend("extend-1", reservation_id="order-1", extension_seconds=900.5)
    confirmed = await client.confirm("confirm-1", reservation_id="order-1")
    released = await client.release("release-1", reservation_id="order-2")
    missing = await client.release("release-2", reservation_id="order-9")
    shown = await client.get_reservation("order-2")
    listed = await client.list_reservations("flash", state=State.CONFIRMED)

    assert [extended.is_ok, confirmed.is_ok, released.is_ok] == [True, True, True]
    assert (confirmed.state, released.state) == (State.CONFIRMED, State.RELEASED)
    assert missing.outcome is Outcome.UNKNOWN_RESERVATION
    assert shown.response.reservation.reservation_id == "order-2"
    assert [each.reservation_id for each in listed.response.reservations] == ["order-1"]


async def test_a_thousand_duplicates_have_one_effect(client: StockClient) -> None:
    """Concurrent repeats of one id share one unit and one answer."""
    await put_on_sale(client, units=2)

    replies = await asyncio.gather(
        *(
            client.reserve("order-1", sale_id="flash", person_id="p-1", lines=[Line("phone")])
            for _ in range(1000)
        )
    )

    assert Counter(reply.is_replayed for reply in replies) == {True: 999, False: 1}
    assert len({reply.sequence for reply in replies}) == 1


async def test_buyers_who_share_messages_get_each_their_own_answer(client: StockClient) -> None:
    """Of 2,000 at once 500 win, those hold what they were told, and messages are few."""
    await put_on_sale(client, units=500)
    stream = client._data
    before = stream.message_count, stream.operation_count

    async def buy(number: int) -> Reply[Any]:
        return await client.reserve(
            f"order-{number}", sale_id="flash", person_id=f"p-{number}", lines=[Line("phone")]
        )

    replies = await asyncio.gather(*(buy(number) for number in range(2000)))
    messages = stream.message_count - before[0]
    operations = stream.operation_count - before[1]
    won = {f"order-{number}" for number, reply in enumerate(replies) if reply.is_ok}
    listed = await client.list_reservations("flash", state=State.HELD, page_size=1000)
    held = {each.reservation_id for each in listed.response.reservations}

    assert Counter(reply.outcome for reply in replies) == {
        Outcome.OK: 500,
        Outcome.SOLD_OUT: 1500,
    }
    assert held == won
    # Shed operations go again, so there may be more of them than buyers.
    assert operations >= 2000
    assert messages <= operations / 20


async def test_a_bad_field_is_named_in_a_batch_and_alone(
    ledger: LedgerProcess, client: StockClient
) -> None:
    """The same error comes from an operation of an exchange and from a unary call."""
    await put_on_sale(client, units=2)
    async with StockClient(ledger.data, is_batching=False) as unary:
        for each in (client, unary):
            with pytest.raises(errors.InvalidArgumentError) as caught:
                await each.reserve(
                    "order-1", sale_id="flash", person_id="p-1", lines=[Line("phone", 0)]
                )

            assert [violation.field for violation in caught.value.violations] == ["lines[0].units"]


async def test_a_conflict_names_what_differs(client: StockClient) -> None:
    """The same id with other content is an outcome that names the field."""
    await put_on_sale(client, units=5)
    await client.reserve("order-1", sale_id="flash", person_id="p-1", lines=[Line("phone")])
    conflict = await client.reserve(
        "order-1", sale_id="flash", person_id="p-2", lines=[Line("phone")]
    )

    assert conflict.outcome is Outcome.CONFLICT
    assert conflict.conflict_field == "person_id"


async def test_a_watch_shows_levels_as_they_change(client: StockClient) -> None:
    """The first message is the present state, a later one what changed."""
    await put_on_sale(client, units=1)
    levels: list[Level] = []

    async def watch() -> None:
        async for message in client.watch_availability("flash"):
            levels.extend(Level(each.level) for each in message.availabilities)
            if len(levels) == 1:
                await client.reserve(
                    "order-1", sale_id="flash", person_id="p-1", lines=[Line("phone")]
                )
            if len(levels) == 2:
                return

    await asyncio.wait_for(watch(), 60)
    availability = await client.get_availability("flash", skus=["phone"])

    assert levels[-1] is Level.HELD_OUT
    assert [each.counters.held for each in availability.response.availabilities] == [1]


async def test_a_reservation_is_explained(client: StockClient) -> None:
    """Every move of a reservation can be asked for."""
    await put_on_sale(client, units=1)
    await client.reserve("order-1", sale_id="flash", person_id="p-1", lines=[Line("phone")])
    await client.release("release-1", reservation_id="order-1")
    explained = await client.admin.explain_reservation("order-1")

    assert [State(each.state_to) for each in explained.response.transitions] == [
        State.HELD,
        State.RELEASED,
    ]


def test_a_program_without_asyncio_reserves_and_reads(ledger: LedgerProcess) -> None:
    """The blocking client does the same from any thread."""
    asyncio.run(_prepare(ledger))
    with sync.StockClient(
        ledger.data, settlement_address=ledger.settlement, deadline_seconds=60
    ) as client:
        reply = client.reserve("order-1", sale_id="flash", person_id="p-1", lines=[Line("phone")])
        audit = client.admin.audit()
        events = [event.WhichOneof("body") for event in client.read_events(follow=False)]

    assert reply.is_ok
    assert audit.response.holds
    assert "reserved" in events


async def _prepare(ledger: LedgerProcess) -> None:
    async with StockClient(
        ledger.data, settlement_address=ledger.settlement, deadline_seconds=60
    ) as client:
        await put_on_sale(client, units=1)
