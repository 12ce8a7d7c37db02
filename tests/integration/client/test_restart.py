"""A ledger that is killed and started again in the middle of everything."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lastunit import errors
from lastunit.client.aio import Line, Outcome, Reply, StockClient

from .ledger_process import put_on_sale

if TYPE_CHECKING:
    from lastunit.stock.v1 import stock_service_pb2

    from .ledger_process import LedgerProcess

UNITS = 200
BUYERS = 2_000


async def buy(client: StockClient, number: int) -> Reply[stock_service_pb2.ReserveResponse]:
    """Reserves one phone for one person."""
    return await client.reserve(
        f"order-{number}", sale_id="flash", person_id=f"person-{number}", lines=[Line("phone")]
    )


async def test_every_call_ends_once_although_the_ledger_is_killed(
    ledger: LedgerProcess, client: StockClient
) -> None:
    """What was acknowledged is there, every unit is held once, and no call is lost."""
    await put_on_sale(client, units=UNITS)
    told: list[int] = []

    async def arrive(number: int) -> Reply[stock_service_pb2.ReserveResponse]:
        # Buyers come one after the other, so that the kill meets calls in every stage.
        await asyncio.sleep(number / BUYERS)
        reply = await buy(client, number)
        told.append(number)
        return reply

    calls = [asyncio.create_task(arrive(number)) for number in range(BUYERS)]
    while len(told) < UNITS // 4:  # noqa: ASYNC110 - the buyers tell only this list
        await asyncio.sleep(0.005)
    ledger.kill()
    ledger.start()
    replies = await asyncio.gather(*calls)
    audit = (await client.admin.audit()).response

    assert Counter(reply.outcome for reply in replies) == {
        Outcome.OK: UNITS,
        Outcome.SOLD_OUT: BUYERS - UNITS,
    }
    assert audit.holds, audit.findings
    assert [pool.counters.held for pool in audit.pools] == [UNITS]


async def test_an_acknowledged_reservation_survives_and_its_repeat_has_no_effect(
    ledger: LedgerProcess, client: StockClient
) -> None:
    """After a kill the same id gets the first answer again."""
    await put_on_sale(client, units=1)
    first = await buy(client, 1)
    ledger.kill()
    ledger.start()
    again = await buy(client, 1)
    other = await buy(client, 2)

    assert (first.is_ok, first.is_replayed) == (True, False)
    assert (again.is_ok, again.is_replayed) == (True, True)
    assert first.sequence == again.sequence
    assert other.outcome is Outcome.SOLD_OUT


async def test_a_follower_misses_no_event_of_a_killed_ledger(
    ledger: LedgerProcess, client: StockClient
) -> None:
    """The stream goes on after the restart, each sequence once and in order."""
    await put_on_sale(client, units=60)
    sequences: list[int] = []
    reserved: set[str] = set()

    async def follow() -> None:
        async for event in client.read_events():
            sequences.append(event.sequence)
            if event.WhichOneof("body") == "reserved":
                reserved.add(event.reservation_id)
            if len(reserved) == 60:
                return

    follower = asyncio.create_task(follow())
    await asyncio.gather(*(buy(client, number) for number in range(30)))
    ledger.kill()
    ledger.start()
    await asyncio.gather(*(buy(client, number) for number in range(30, 60)))
    await asyncio.wait_for(follower, 60)

    assert sequences == list(range(1, len(sequences) + 1))
    assert reserved == {f"order-{number}" for number in range(60)}


async def test_a_ledger_that_lost_its_journal_is_not_believed(
    ledger: LedgerProcess, client: StockClient
) -> None:
    """A server behind what it told refuses, so that no unit is sold a second time."""
    await put_on_sale(client, units=5)
    await buy(client, 1)
    ledger.lose_everything()
    ledger.start()

    with pytest.raises(errors.RolledBackError) as caught:
        await buy(client, 2)

    assert caught.value.seen_sequence == client.seen_sequence > 0
    client.forget_seen()
    assert (await buy(client, 2)).outcome is Outcome.UNKNOWN_SALE
