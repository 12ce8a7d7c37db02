"""Runs tests of a service on SQLite and on a real PostgreSQL.

Owns: the fixtures, and which tests run on both. A conftest that says
`from tests.storage import pytest_generate_tests, storage` runs each test on both whose module has a
`World` or that takes one; not those marked `one_database`, to which storage does not matter.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from tests import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    import sqlalchemy as sa
    from tests.postgres import PostgresServer

    from lastunit.service.database import Database

KINDS = ("sqlite", "postgresql")

_place: sa.URL | None = None
_opened: list[Database] = []


def open_database(metadata: sa.MetaData) -> Database:
    """Opens a database of the present test's kind, unthreaded; it is closed after the test."""
    from lastunit.service.database import Database

    opened = Database(_place, metadata, is_flushed=False, is_threaded=False)
    _opened.append(opened)
    return opened


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server; without one the test is skipped, but fails in CI."""
    # Here, so that tests of other parts need no driver.
    from tests import postgres

    try:
        server = postgres.PostgresServer()
    except postgres.AbsentError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield server
    # Every row that a service wrote is in the files or in the log of what was written to them.
    found = plain_text.findings(server.folder)
    server.close()
    assert found == [], "personal data in plain text in PostgreSQL's files"


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[sa.URL]:
    """A PostgreSQL database with every service's tables, all empty."""
    from lastunit.service.database import parse_url

    with postgres_server.database() as name:
        yield parse_url(postgres_server.url(name))


@pytest.fixture(autouse=True)
def storage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the test keeps its tables."""
    global _place  # noqa: PLW0603 - whoever makes a world in a test is no fixture
    if getattr(request, "param", "sqlite") == "postgresql":
        _place = request.getfixturevalue("postgres_url")
    yield
    _place = None
    while _opened:
        _opened.pop().close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what lives in a world on both."""
    is_in_a_world = "world" in metafunc.fixturenames or hasattr(metafunc.module, "World")
    is_one_enough = metafunc.definition.get_closest_marker("one_database") is not None
    if is_in_a_world and not is_one_enough:
        metafunc.parametrize("storage", KINDS, indirect=True)
