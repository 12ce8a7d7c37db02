"""Ten accounts of one human, ordering while the service finds out that they are one.

Owns: one random history, made by its seed, and what was told to whom when. The services answer in
an order of their own, so a seed makes the plan, and the proof holds for whatever came of it.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lastunit.account.v1 import account_service_pb2 as account_pb
from lastunit.stock.v1 import outcome_pb2

if TYPE_CHECKING:
    from .town import Member, Town

ACCOUNTS = 10
ORDERS = 24

# All of it happens within so long.
SPAN_SECONDS = 0.03


@dataclass(frozen=True)
class Bought:
    """Is an order that holds a phone, or held one.

    Attributes:
        order_id: Also the reservation's.
        home_person_id: Who bought.
        told: Who was known to be the same human when the call began.
    """

    order_id: str
    home_person_id: str
    told: frozenset[str]


@dataclass
class Story:
    """Is one history.

    Attributes:
        seed: Makes its plan.
        sale_id: Its own sale, limit 1.
        members: The accounts.
        first_sequence: The ledger's last event before its people signed up.
        bought: Orders that got a phone.
        refused: How many got none because of the limit.
        kept: Orders that were not cancelled.
        reversed_count: Merges that were taken back.
        merged_count: Merges.
        united_count: Answers that a real name is another person's.
    """

    seed: int
    sale_id: str
    members: list[Member]
    first_sequence: int
    bought: list[Bought] = field(default_factory=list)
    kept: set[str] = field(default_factory=set)
    refused: int = 0
    reversed_count: int = 0
    merged_count: int = 0
    united_count: int = 0
    _told: dict[str, frozenset[str]] = field(default_factory=dict)

    def told_with(self, member: Member) -> frozenset[str]:
        """Returns whom somebody was told to be one with the account, itself included."""
        home = member.home_person_id
        return self._told.get(home, frozenset({home}))

    def note_one(self, one: Member, other: Member) -> None:
        """Notes that a caller was just told that two accounts are one human's."""
        both = self.told_with(one) | self.told_with(other)
        self._told.update(dict.fromkeys(both, both))

    def note_doubt(self) -> None:
        """Notes that from now on some are being taken apart: nothing that was told holds."""
        self._told.clear()


async def live(town: Town, seed: int, *, does_reverse: bool) -> Story:
    """Lives through a history.

    Args:
        town: The services.
        seed: Makes the plan.
        does_reverse: Some merges are taken back in the middle.
    """
    chance = random.Random(seed)
    sale_id = await town.open_sale()
    shown = await town.ledger.get_availability(sale_id)
    members = await town.sign_up(ACCOUNTS)
    story = Story(seed, sale_id, members, first_sequence=shown.response.place.as_of_sequence)
    number = f"ID{seed:010}{chance.randrange(10**6):06}1"
    owner = members[0]
    verified = await town.bind(owner, number)
    assert not verified.refusal, verified

    early = chance.randrange(ACCOUNTS)
    for member in members[1:early]:
        await _join(town, story, member, number, chance)
    doings = [_joins(town, story, member, number, chance) for member in members[max(1, early) :]]
    doings += [_orders(town, story, chance.choice(members), chance) for _ in range(ORDERS)]
    if does_reverse:
        doings += [_parts(town, story, number, chance) for _ in range(2)]
    await asyncio.gather(*doings)
    return story


async def _joins(
    town: Town, story: Story, member: Member, number: str, chance: random.Random
) -> None:
    await asyncio.sleep(chance.random() * SPAN_SECONDS)
    await _join(town, story, member, number, chance)
    # At once: whoever was told must count already.
    await _order(town, story, member, does_cancel=False)


async def _join(
    town: Town, story: Story, member: Member, number: str, chance: random.Random
) -> None:
    """Proves the name that is another person's, or logs in to both, or one after the other."""
    ways = chance.choice(("bind", "link", "both"))
    owner = story.members[0]
    if ways != "link":
        answer = await town.bind(member, number)
        assert answer.refusal == account_pb.REFUSAL_IDENTITY_BOUND, answer
        story.united_count += 1
        story.note_one(member, owner)
    if ways != "bind":
        await town.link(member, owner)
        story.merged_count += 1
        story.note_one(member, owner)


async def _orders(town: Town, story: Story, member: Member, chance: random.Random) -> None:
    await asyncio.sleep(chance.random() * SPAN_SECONDS)
    await _order(town, story, member, does_cancel=chance.random() < 0.3)


async def _order(town: Town, story: Story, member: Member, *, does_cancel: bool) -> bool:
    """Orders a phone; returns whether there was one for them."""
    told = story.told_with(member)
    answer = await town.order(member, story.sale_id)
    if answer.outcome != outcome_pb2.OUTCOME_OK:
        assert answer.outcome == outcome_pb2.OUTCOME_LIMIT_REACHED, answer
        story.refused += 1
        return False
    story.bought.append(Bought(answer.order_id, member.home_person_id, told))
    story.kept.add(answer.order_id)
    if does_cancel:
        await town.cancel(answer.order_id)
        story.kept.remove(answer.order_id)
    return True


async def _parts(town: Town, story: Story, number: str, chance: random.Random) -> None:
    """Links one more account, and takes that back while others order."""
    [member] = await town.sign_up(1)
    story.members.append(member)
    await asyncio.sleep(chance.random() * SPAN_SECONDS)
    joined = await town.link(member, story.members[0])
    story.merged_count += 1
    has_phone = await _order(town, story, member, does_cancel=False)
    if chance.random() < 0.5:
        await town.bind(member, number)
    story.note_doubt()
    taken_back = await town.reverse(joined.merge.merge_id)
    assert not taken_back.refusal, taken_back
    story.reversed_count += 1
    # Apart from all others again, with what they bought themselves.
    is_granted = await _order(town, story, member, does_cancel=False)
    assert is_granted != has_phone, f"seed {story.seed}: {is_granted} after {has_phone}"
