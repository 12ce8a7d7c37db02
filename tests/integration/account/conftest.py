"""A story on each kind of database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.plain_text import nothing_personal

from lastunit.account.process import open_database

from .story import Story

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


__all__ = ["nothing_personal", "story"]


@pytest.fixture(params=["sqlite", "postgresql"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    """Gives a service in which a story can happen."""
    place = tmp_path / "account.db"
    if request.param == "postgresql":
        place = request.getfixturevalue("postgres_url")
    with open_database(place) as database:
        yield Story(database)
