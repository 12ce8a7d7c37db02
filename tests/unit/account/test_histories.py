"""Random lives of a few humans: whatever they do, rows, events and the ledger's groups agree.

`LASTUNIT_TEST_SEED='7 8' pytest tests/unit/account/test_histories.py` runs further seeds.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from lastunit.account import person_events
from lastunit.account.person_events import Kind
from lastunit.account.real_names import fingerprints, owner_of
from lastunit.errors import UnavailableError

from .world import DAY_MS, HOUR_MS, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.v1 import account_service_pb2 as pb

NUMBERS = ("AB123451", "CD123452", "EF123453")
STEPS = 40
SEEDS = [*range(2), *map(int, os.environ.get("LASTUNIT_TEST_SEED", "").split())]


class Lives:
    """Lets humans do things at random, and remembers what can be gone on with.

    Args:
        world: Where.
        random_: Chooses.
    """

    def __init__(self, world: World, random_: random.Random) -> None:
        self.world = world
        self.random = random_
        self.accounts: list[str] = []
        self.merges: list[str] = []
        self.claims: list[pb.OpenClaimResponse] = []
        self.carried_out: list[str] = []

    async def step(self) -> None:
        """Does one thing; while the ledger is away some of them fail, and are repeated later."""
        act = self.random.choice(
            [
                self.sign_up,
                self.bind,
                self.bind,
                self.link,
                self.claim,
                self.claim,
                self.confirm,
                self.cancel,
                self.reverse,
                self.log_in,
                self.wait,
                self.lose_ledger,
                self.restart,
            ]
        )
        if not self.accounts:
            act = self.sign_up
        try:
            await act()
        except UnavailableError:
            # Nobody was told; the loop finishes it.
            self.world.ledger.is_away = False
            while await self.world.feeder.feed_once():
                pass
        else:
            self.carried_out.append(act.__name__)

    def _account(self) -> str:
        return self.random.choice(self.accounts)

    async def sign_up(self) -> None:
        """Somebody registers."""
        self.accounts.append(await self.world.sign_up(f"human{len(self.accounts)}@example.org"))

    async def bind(self) -> None:
        """Somebody gives a real name; who is told that it is another's counts with that one."""
        account_id, number = self._account(), self.random.choice(NUMBERS)
        answer = await self.world.bind(account_id, number)
        if answer.is_quota_united:
            with self.world.database.read() as connection:
                owner = owner_of(connection, fingerprints(self.world.ring, number))
            assert owner in self.world.counted_with(account_id)

    async def link(self) -> None:
        """Somebody logs in to two accounts; both count together if it is done."""
        source, target = self._account(), self._account()
        answer = await self.world.link(source, target)
        if not answer.refusal:
            assert self.world.counted_with(source) == self.world.counted_with(target)
            assert self.world.home(source) in self.world.counted_with(target)
        if answer.HasField("merge"):
            self.merges.append(answer.merge.merge_id)

    async def claim(self) -> None:
        """Somebody claims."""
        opened = await self.world.claim(self._account(), self.random.choice(NUMBERS))
        if not opened.refusal:
            self.claims.append(opened)

    async def confirm(self) -> None:
        """Somebody confirms a claim, perhaps too early or too late."""
        if self.claims:
            opened = self.random.choice(self.claims)
            done = await self.world.confirm(opened.claim.claim_id, opened.claim_token)
            if done.HasField("merge"):
                self.merges.append(done.merge.merge_id)

    async def cancel(self) -> None:
        """Anybody tries to stop a claim."""
        if self.claims:
            opened = self.random.choice(self.claims)
            await self.world.cancel(opened.claim.claim_id, self._account())

    async def reverse(self) -> None:
        """Support undoes a merge; who is back in their own person counts without the other."""
        if not self.merges:
            return
        answer = await self.world.reverse(self.random.choice(self.merges))
        if not answer.refusal:
            for account_id in answer.account_ids:
                assert self.world.person(account_id) == answer.merge.source_person_id

    async def log_in(self) -> None:
        """Somebody logs in."""
        await self.world.log_in(self._account())

    async def wait(self) -> None:
        """Hours or weeks go by."""
        await self.world.pass_time(self.random.choice([HOUR_MS, 24 * HOUR_MS, 20 * DAY_MS]))

    async def lose_ledger(self) -> None:
        """The ledger is away for the next things."""
        self.world.ledger.is_away = True

    async def restart(self) -> None:
        """The process dies and starts again."""
        self.world.start()


async def live(world: World, seed: int, steps: int = STEPS) -> Sequence[str]:
    """Lets one history happen and checks after each step; returns what was done."""
    lives = Lives(world, random.Random(seed))
    for _ in range(steps):
        await lives.step()
        world.check()
    world.ledger.is_away = False
    while await world.feeder.feed_once():
        pass
    world.check()
    with world.database.read() as connection:
        last = person_events.last_sequence(connection)
    assert world.feeder.position() == last
    return lives.carried_out


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_humans_do_everything_agrees(world: World, seed: int) -> None:
    """Chains stay one step long, names have one owner, the ledger groups what belongs together."""
    assert len(await live(world, seed)) > STEPS // 2


@pytest.mark.one_database
async def test_every_kind_of_step_is_carried_out(world: World) -> None:
    """The histories reach everything that a human can do, and claims that are carried out."""
    done: set[str] = set()
    for seed in range(100, 104):
        done |= set(await live(world, seed))

    assert done >= {"bind", "link", "claim", "confirm", "cancel", "reverse", "wait"}
    kinds = {event.kind for event in world.events()}
    assert kinds >= {Kind.PERSONS_UNITED, Kind.PERSONS_MERGED, Kind.PERSONS_SPLIT}


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.one_database
async def test_many_lives_agree() -> None:
    """The same, 250 times from an empty database; LASTUNIT_TEST_LIVES says another number."""
    for seed in range(1_000, 1_000 + int(os.environ.get("LASTUNIT_TEST_LIVES", "250"))):
        world = World()
        try:
            await live(world, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        world.database.close()
