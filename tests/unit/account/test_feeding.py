"""The ledger knows who counts together, whatever either side has lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.account.feeding import NoLedger
from lastunit.account.gate import Bucket, BucketSettings
from lastunit.account.metrics import METRICS, AccountMetrics
from lastunit.errors import StatusError, UnavailableError

from .world import LedgerDouble, World

if TYPE_CHECKING:
    from collections.abc import Sequence


class StrictLedger(LedgerDouble):
    """Refuses to part persons who are not counted together, as the ledger does."""

    def copy(self) -> StrictLedger:
        """Returns a backup."""
        kept = StrictLedger()
        kept.calls, kept._groups = list(self.calls), dict(self._groups)
        kept._seen = dict(self._seen)
        return kept

    async def split(self, person_ids: Sequence[str], *, request_id: str) -> None:
        """Refuses, or parts."""
        if request_id not in self._seen and not self.group(person_ids[0]) >= set(person_ids):
            raise StatusError("refused", code="FAILED_PRECONDITION", reason="LEDGER_REFUSED")
        await super().split(person_ids, request_id=request_id)


async def joined(world: World, count: int = 3) -> list[str]:
    """Returns accounts of which the first has been joined by all others."""
    accounts = [await world.sign_up(f"{number}@example.org") for number in range(count)]
    for account_id in accounts[1:]:
        await world.link(account_id, accounts[0])
    return accounts


def scrape(world: World) -> dict[str, float]:
    """Returns each metric's value by its name and labels."""
    collector = AccountMetrics(
        database=world.database,
        directory=world.directory,
        feeder=world.feeder,
        buckets=[Bucket(BucketSettings("sign_up", 1.0, burst_calls=1, at_once_max=1))],
        disputed_count=lambda: 3,
    )
    samples = [sample for family in collector.collect() for sample in family.samples]
    assert {sample.name for sample in samples} == {family.name for family in METRICS}
    return {
        "_".join((sample.name.removeprefix("lastunit_account_"), *sample.labels.values())): (
            sample.value
        )
        for sample in samples
    }


async def test_a_ledger_that_lost_a_merge_is_told_it_again_by_the_next_start(world: World) -> None:
    """A backup of before the last merge: the process that starts beside it makes both agree."""
    world.ledger = StrictLedger()
    world.start()
    accounts = await joined(world, 2)
    backup = world.ledger.copy()
    third = await world.sign_up("third@example.org")
    await world.link(third, accounts[0])
    world.ledger = backup
    world.start()
    await world.feeder.feed_once()

    assert world.counted_with(third) == {world.home(each) for each in (*accounts, third)}


async def test_a_ledger_that_refuses_is_told_everything_once_more(world: World) -> None:
    """An empty ledger can part nobody, until it was told who belongs together."""
    world.ledger = StrictLedger()
    world.start()
    first, second = await joined(world, 2)
    third, fourth = [await world.sign_up(f"{name}@example.org") for name in ("third", "fourth")]
    await world.link(fourth, third)
    merge = (await world.link(first, third)).merge
    # Behind the back of a process that goes on.
    world.feeder._ledger = world.ledger = StrictLedger()
    await world.reverse(merge.merge_id)

    assert world.feeder.refusal_count == 1
    assert world.counted_with(first) == {world.home(first), world.home(second)}
    assert world.counted_with(third) == {world.home(third), world.home(fourth)}
    world.check()


async def test_what_the_ledger_could_not_be_told_waits_and_is_seen(world: World) -> None:
    """The caller is told to come back; the loop tells the ledger meanwhile."""
    first, second = [await world.sign_up(f"{name}@example.org") for name in ("a", "b")]
    world.ledger.is_away = True
    with pytest.raises(UnavailableError, match="same id"):
        await world.link(second, first)
    waiting = scrape(world)["ledger_waiting_events"]
    world.ledger.is_away = False
    told = await world.feeder.feed_once()

    assert (waiting, told) == (1, 1)
    assert scrape(world)["ledger_waiting_events"] == 0


@pytest.mark.one_database  # the second world would share the first one's tables
async def test_accounts_begun_anew_beside_an_old_ledger_have_request_ids_of_their_own(
    world: World,
) -> None:
    """The same numbers with other persons are not taken for repeats."""
    await joined(world)
    ledger, old_ids = world.ledger, set(world.ledger._seen)
    fresh = World()
    fresh.ledger = ledger
    fresh._numbers = iter(range(5_000, 9_999))  # type: ignore[assignment]
    fresh.start()
    await joined(fresh)

    assert len(set(ledger._seen) - old_ids) == 2


async def test_without_a_ledger_nobody_is_joined_but_logging_in_goes_on(world: World) -> None:
    """The answer names the flag that is missing."""
    world.ledger = NoLedger()  # type: ignore[assignment]
    world.start()
    first = await world.sign_up("a@example.org")
    second = await world.sign_up("b@example.org")
    verified = await world.bind(first, "ID1234561")

    assert not verified.refusal
    with pytest.raises(UnavailableError, match="--settlement-address"):
        await world.link(second, first)
