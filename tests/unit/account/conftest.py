"""A database of each kind, a house over it, and a world whose clock is turned by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.plain_text import nothing_personal
from tests.storage import pytest_generate_tests, storage

from lastunit.account.process import open_database

from .house import House
from .world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from lastunit.service.database import Database

__all__ = [
    "database",
    "house",
    "nothing_personal",
    "place",
    "pytest_generate_tests",
    "storage",
    "world",
]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | sa.URL:
    """Gives a database of each kind."""
    if request.param == "sqlite":
        return tmp_path / "account.db"
    url: sa.URL = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def database(place: Path | sa.URL) -> Iterator[Database]:
    """Gives an open database."""
    with open_database(place) as opened:
        yield opened


@pytest.fixture
def house(database: Database) -> House:
    """Gives a service that asks for proofs."""
    return House(database)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Gives a service whose clock is turned by hand; at the end its rows fit each other."""
    created = World()
    yield created
    created.check()
