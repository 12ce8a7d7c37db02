"""Fixtures: a scripted ledger and clients that know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit.client.aio import StockClient

from .fake_ledger import FakeLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def ledger() -> AsyncIterator[FakeLedger]:
    """Gives a scripted ledger that serves."""
    fake = FakeLedger()
    await fake.start()
    yield fake
    fake.answers.set()
    await fake.stop()


@pytest.fixture
async def client(ledger: FakeLedger) -> AsyncIterator[StockClient]:
    """Gives a client of it that batches."""
    async with StockClient(ledger.address, caller="test", seed=1) as connected:
        yield connected
