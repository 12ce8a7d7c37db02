"""Fixtures: one ledger server for all tests, and services around a new sale for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .system import LedgerProcess, System

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    import sqlalchemy as sa

    from lastunit.payment.sandbox.knobs import SandboxKnobs


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerProcess]:
    """A ledger server on a manual clock."""
    started = LedgerProcess.start(tmp_path_factory.mktemp("ledger"))
    yield started
    started.stop()


# Each unit of work is tried on both in tests/unit; here the second time is for the long run.
@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> sa.URL | None:
    """Where the services keep their tables; None: in files."""
    if request.param == "sqlite":
        return None
    url: sa.URL = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def system(
    ledger: LedgerProcess, tmp_path: Path, database: sa.URL | None
) -> AsyncIterator[Callable[..., Awaitable[System]]]:
    """Makes services around a new sale; at the end their orders are rebuilt and compared."""
    made: list[System] = []

    async def make(*, units: int = 1, knobs: SandboxKnobs | None = None) -> System:
        created = System(ledger, tmp_path, units=units, knobs=knobs, database=database)
        made.append(created)
        await created.open()
        return created

    yield make
    for each in made:
        await each.check_rebuild()
        await each.close()
