"""A database of each kind, and a house over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.account.process import open_database

from .house import House

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from lastunit.service.database import Database


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
