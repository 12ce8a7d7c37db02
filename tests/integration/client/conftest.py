"""Fixtures: a real ledger and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.client.aio import StockClient

from .ledger_process import LedgerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(params=["", "native_"], ids=["grpcio", "native"])
def ledger(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LedgerProcess]:
    """Gives a ledger that serves, called through each front; it is killed at the end."""
    process = LedgerProcess(tmp_path / "data", prefix=request.param)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def client(ledger: LedgerProcess) -> AsyncIterator[StockClient]:
    """Gives a client with patience enough for a restart on a busy machine."""
    async with StockClient(
        ledger.data, settlement_address=ledger.settlement, caller="tests", deadline_seconds=90
    ) as connected:
        yield connected
