"""Whoever asks who stands behind an account is answered, however the asks fall."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lastunit.order.persons import AccountState, PersonDirectory, ResolvedPerson
from lastunit.service.clock import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Accounts:
    """Answers at once."""

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        return {
            each: ResolvedPerson(f"p-{each}", f"p-{each}", AccountState.ACTIVE)
            for each in account_ids
        }


@pytest.mark.parametrize("turns", range(12))
async def test_a_caller_that_comes_as_the_last_call_ends_is_answered(turns: int) -> None:
    """With as many calls as allowed just ending, the next account still gets a call."""
    directory = PersonDirectory(_Accounts(), SimulatedClock(0))
    answered: list[str] = []

    async def find(account_id: str, wait_turns: int) -> None:
        for _ in range(wait_turns):
            await asyncio.sleep(0)
        answered.append((await directory.find(account_id)).person_id)

    async with asyncio.timeout(5):
        await asyncio.gather(*(find(f"a{n}", 0) for n in range(4)), find("late", turns))

    assert sorted(answered) == ["p-a0", "p-a1", "p-a2", "p-a3", "p-late"]
