"""Fixtures of the order tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.plain_text import nothing_personal
from tests.storage import pytest_generate_tests, storage

from .rebuilt import check_rebuild
from .world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["nothing_personal", "pytest_generate_tests", "storage", "world"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An order service with ten units to sell, whose history a rebuild tells as it was."""
    created = World()
    yield created
    if created.core.follower.position <= len(created.ledger.events):
        while await created.core.follow_once():
            pass
        await check_rebuild(created.database, created.ledger)
    created.close()
