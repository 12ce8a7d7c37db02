"""One human with many accounts gets what one human may have, and no unit is lost on the way."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.integration.payment.system import LedgerProcess

from lastunit.stock.v1 import outcome_pb2

from . import interleaving, proof
from .town import UNITS, open_town

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from .town import Town

# The printed seed makes the same plans again.
SEED = int(os.environ.get("LASTUNIT_SEED", random.randrange(1, 1_000_000)))

# Histories that go on at the same time: each has a sale and people of its own.
AT_ONCE = 4


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerProcess]:
    """A running ledger."""
    started = LedgerProcess.start(tmp_path_factory.mktemp("ledger"), clock="system")
    yield started
    started.stop()


@pytest.fixture
async def town(ledger: LedgerProcess, tmp_path: Path) -> AsyncIterator[Town]:
    """The services around it."""
    async with open_town(ledger, tmp_path) as opened:
        yield opened


async def press(town: Town, accounts: int, calls: int, *, merged: int) -> Counter[str]:
    """Orders with all accounts at once; those from `merged` on are joined in the middle."""
    members = await town.sign_up(accounts)
    sale_id = await town.open_sale()
    for member in members[1:merged]:
        await town.link(member, members[0])

    async def one(number: int) -> str:
        answer = await town.order(members[number % accounts], sale_id)
        return outcome_pb2.Outcome.Name(answer.outcome).removeprefix("OUTCOME_")

    orders = [one(number) for number in range(calls)]
    joins = [town.link(member, members[0]) for member in members[merged:]]
    answers = await asyncio.gather(*orders, *joins)
    counters = await town.counters(sale_id)
    got = Counter(str(answer) for answer in answers[:calls])
    assert counters.get("held", 0) == got["OK"]
    assert counters["available"] == UNITS - got["OK"]
    return got


async def test_two_hundred_calls_of_ten_accounts_get_one_unit(town: Town) -> None:
    """They are one human, so one of the calls is granted and the limit refuses all others."""
    assert await press(town, 10, 200, merged=10) == {"OK": 1, "LIMIT_REACHED": 199}


async def test_a_merge_amid_two_hundred_calls_gives_no_unit_beyond_the_limit(town: Town) -> None:
    """Six accounts are one human from the start: they and the four others get five at most."""
    got = await press(town, 10, 200, merged=6)

    assert got["OK"] + got["LIMIT_REACHED"] == 200
    assert 1 <= got["OK"] <= 5


async def live_through(town: Town, count: int) -> Counter[str]:
    """Lives through histories, every second one with merges that are taken back."""
    seen: Counter[str] = Counter()
    for first in range(SEED, SEED + count, AT_ONCE):
        seeds = range(first, min(first + AT_ONCE, SEED + count))
        stories = await asyncio.gather(
            *(interleaving.live(town, seed, does_reverse=seed % 2 == 1) for seed in seeds)
        )
        for story in stories:
            await proof.check(town, story)
            seen["bought"] += len(story.bought)
            seen["refused"] += story.refused
            seen["united"] += story.united_count
            seen["merged"] += story.merged_count
            seen["reversed"] += story.reversed_count
    audit = (await town.ledger.admin.audit()).response
    assert audit.holds, audit
    return seen


async def _check_histories(town: Town, count: int) -> None:
    seen = await live_through(town, count)

    # All of it happened; histories without a merge or without a refusal would prove nothing.
    assert min(seen.values()) >= count / 2, seen
    assert set(seen) == {"bought", "refused", "united", "merged", "reversed"}


async def test_no_interleaving_of_orders_and_merges_breaks_the_limit(town: Town) -> None:
    """Twenty random histories: see `proof` for what holds after each."""
    await _check_histories(town, 20)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_a_thousand_interleavings_of_orders_and_merges_break_no_limit(town: Town) -> None:
    """As the everyday test, a thousand times."""
    await _check_histories(town, 1_000)
