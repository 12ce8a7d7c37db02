"""Checks a history by the ledger's journal alone.

Owns: a plain fold of the events into who counted with whom and who had what. Must not use the
ledger's own answers about limits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .town import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastunit.stock.v1 import event_pb2

    from .interleaving import Story
    from .town import Town

LIMIT = 1


class Books:
    """Is who counts with whom, and what each has in one sale, event by event.

    Attributes:
        groups_at: Who counted with the buyer when a reservation was made.
        units: What each reservation holds.
        most: The most units that a group had right after it reserved.
    """

    def __init__(self, sale_id: str) -> None:
        self._sale_id = sale_id
        self._groups: dict[str, frozenset[str]] = {}
        self._buyers: dict[str, str] = {}
        self.units: dict[str, int] = {}
        self.groups_at: dict[str, frozenset[str]] = {}
        self.most = 0

    def group(self, person_id: str) -> frozenset[str]:
        """Returns who counts together with a person."""
        return self._groups.get(person_id, frozenset({person_id}))

    def take(self, events: Iterable[event_pb2.Event]) -> None:
        """Takes events in, in their order."""
        for event in events:
            if event.HasField("persons_merged"):
                merged = event.persons_merged
                self._count_together(
                    self.group(merged.source_person_id) | self.group(merged.target_person_id)
                )
            elif event.HasField("persons_split"):
                going = frozenset(event.persons_split.person_ids)
                staying = self.group(event.persons_split.person_ids[0]) - going
                self._count_together(going)
                self._count_together(staying)
            elif event.sale_id == self._sale_id and event.HasField("reserved"):
                self._reserve(event)
            elif event.sale_id == self._sale_id and event.HasField("released"):
                del self.units[event.reservation_id]

    def _count_together(self, person_ids: frozenset[str]) -> None:
        self._groups.update(dict.fromkeys(person_ids, person_ids))

    def _reserve(self, event: event_pb2.Event) -> None:
        buyer = event.reserved.person_id
        self._buyers[event.reservation_id] = buyer
        self.units[event.reservation_id] = sum(taken.units for taken in event.reserved.taken)
        group = self.group(buyer)
        self.groups_at[event.reservation_id] = group
        theirs = (self.units[each] for each in self.units if self._buyers[each] in group)
        self.most = max(self.most, sum(theirs))


async def check(town: Town, story: Story) -> None:
    """Checks that nobody got more than the limit and that no phone is lost.

    Raises:
        AssertionError: It is not so; names the seed.
    """
    seed = f"seed {story.seed}"
    books = Books(story.sale_id)
    books.take(await town.events(story.first_sequence))
    assert books.most <= LIMIT, f"{seed}: a group had {books.most} when it reserved"

    for order in story.bought:
        group = books.groups_at[order.order_id]
        assert order.home_person_id in group, seed
        missing = order.told - group
        assert not missing, f"{seed}: {missing} were told to be one, and did not count for an order"

    assert set(books.units) == story.kept, f"{seed}: a phone is held that nobody was told of"
    held = sum(books.units.values())
    counters = await town.counters(story.sale_id)
    places = counters.pop("available", 0), counters.pop("held", 0)
    assert places == (UNITS - held, held), f"{seed}: {places}"
    for order_id in story.kept:
        await town.cancel(order_id)
    counters = await town.counters(story.sale_id)
    assert counters["available"] == UNITS, f"{seed}: {counters}"
    assert not counters.get("held"), f"{seed}: {counters}"
