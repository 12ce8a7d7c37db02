"""Simulated time passes only when all code of an instant has run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lastunit.replay.slow_database import SlowDatabase
from lastunit.replay.stage import Stage
from lastunit.service.database import Database, Lane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METADATA = sa.MetaData()
NAMES = sa.Table("names", METADATA, sa.Column("name", sa.Text, primary_key=True))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A real SQLite file."""
    with Database(tmp_path / "names.sqlite", METADATA, is_threaded=False) as opened:
        yield opened


async def test_settlement_overtakes_orders_in_the_slow_database(database: Database) -> None:
    """At ten a second each transaction is done 100 ms after the one before, settlement first."""
    stage = Stage(0)
    slow = SlowDatabase(database, stage=stage, rate=10.0)
    done: list[tuple[str, float]] = []

    async def write(name: str, lane: Lane) -> None:
        await slow.run(lambda c: c.execute(sa.insert(NAMES), {"name": name}), lane=lane)
        done.append((name, stage.now_ms))

    for name, lane in (("a", Lane.RESERVATION), ("b", Lane.RESERVATION), ("c", Lane.SETTLEMENT)):
        stage.spawn(write(name, lane))
    await stage.settle()
    while slow.next_ms is not None:
        stage.advance_to(slow.next_ms)
        await slow.finish_one()
        await stage.settle()

    assert done == [("c", 100.0), ("a", 200.0), ("b", 300.0)]
    assert slow.peak == 3
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(NAMES)).scalar() == 3


async def test_a_failed_transaction_fails_its_caller_alone(database: Database) -> None:
    """An error inside a transaction reaches whoever waits for it, and the queue goes on."""
    stage = Stage(0)
    slow = SlowDatabase(database, stage=stage, rate=10.0)
    seen: list[str] = []

    async def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            await slow.run(lambda _: 1 // 0)
        seen.append("failed")

    async def succeed() -> None:
        assert await slow.run(lambda _: 7) == 7
        seen.append("done")

    stage.spawn(fail())
    stage.spawn(succeed())
    await stage.settle()
    while slow.next_ms is not None:
        stage.advance_to(slow.next_ms)
        await slow.finish_one()
        await stage.settle()

    assert seen == ["failed", "done"]


async def test_an_instant_waits_for_real_work() -> None:
    """A task that waits for the real world holds simulated time."""
    stage = Stage(0)
    order: list[str] = []

    async def work() -> None:
        for _ in range(50):
            await asyncio.sleep(0)
        order.append("work")

    stage.spawn(work())
    await stage.settle()
    order.append("settled")

    assert order == ["work", "settled"]


async def test_an_error_of_a_task_ends_the_run() -> None:
    """What a task raises is raised where the run waits, and not lost."""
    stage = Stage(0)

    async def work() -> None:
        await asyncio.sleep(0)
        raise ValueError("broken")

    stage.spawn(work())

    with pytest.raises(ValueError, match="broken"):
        await stage.settle()


def test_planned_actions_are_called_in_order() -> None:
    """What is due at the same instant is called in the order in which it was planned."""
    stage = Stage(1_000)
    called: list[str] = []
    stage.plan(3_000, lambda: called.append("late"))
    stage.plan(2_000, lambda: called.append("first"))
    stage.plan(2_000, lambda: called.append("second"))

    stage.advance_to(2_000)
    stage.call_due()

    assert called == ["first", "second"]
    assert stage.next_ms == 3_000
    assert stage.clock.now_ms() == 2_000
