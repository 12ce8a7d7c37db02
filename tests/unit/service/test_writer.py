"""The writer: shared commits, lone failures, lanes, limits."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from lastunit import errors
from lastunit.service.database import (
    Database,
    Lane,
    Writer,
    open_engine,
    steady_pace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.Integer, sa.ForeignKey("notes.id")),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Gives an open database with one table."""
    with Database(tmp_path / "notes.db", metadata) as opened:
        yield opened


def insert(number: int) -> Callable[[sa.Connection], int]:
    """Returns a unit of work that writes one row."""

    def work(connection: sa.Connection) -> int:
        connection.execute(sa.insert(notes).values(id=number))
        return number

    return work


def stored(database: Database) -> list[int]:
    """Returns what is committed."""
    with database.read() as connection:
        return list(connection.scalars(sa.select(notes.c.id).order_by(notes.c.id)))


class Block:
    """Holds the writer's thread inside a unit of work until told otherwise."""

    def __init__(self) -> None:
        self.is_entered = threading.Event()
        self.may_leave = threading.Event()

    def __call__(self, _connection: sa.Connection) -> None:
        """Is the unit of work."""
        self.is_entered.set()
        assert self.may_leave.wait(20)


def hold(writer: Writer) -> Block:
    """Returns once the writer's thread is busy."""
    block = Block()
    writer.submit(block)
    assert block.is_entered.wait(20)
    return block


def count_commits(engine: sa.Engine) -> list[None]:
    """Returns a list that grows with each commit."""
    commits: list[None] = []
    sa.event.listen(engine, "commit", lambda _connection: commits.append(None))
    return commits


async def test_units_that_wait_together_share_a_commit(database: Database) -> None:
    """A hundred units behind a busy writer cost one commit."""
    commits = count_commits(database.engine)
    block = hold(database.writer)
    waiting = [asyncio.ensure_future(database.run(insert(index))) for index in range(100)]
    await asyncio.sleep(0)
    block.may_leave.set()

    assert await asyncio.gather(*waiting) == list(range(100))
    assert stored(database) == list(range(100))
    assert len(commits) == 2


async def test_a_unit_that_fails_is_undone_alone(database: Database) -> None:
    """Its rows go, its error reaches its caller, and its neighbours stay."""

    def fail(connection: sa.Connection) -> None:
        connection.execute(sa.insert(notes).values(id=77))
        raise RuntimeError("no")

    block = hold(database.writer)
    units = [insert(1), fail, insert(2), insert(1), insert(3)]
    waiting = [asyncio.ensure_future(database.run(unit)) for unit in units]
    await asyncio.sleep(0)
    block.may_leave.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert stored(database) == [1, 2, 3]
    assert [results[0], results[2], results[4]] == [1, 2, 3]
    assert isinstance(results[1], RuntimeError)
    assert isinstance(results[3], sa.exc.IntegrityError)


async def test_a_broken_reference_fails_the_unit_that_made_it(database: Database) -> None:
    """Foreign keys are on."""

    def orphan(connection: sa.Connection) -> None:
        connection.execute(sa.insert(notes).values(id=5, parent_id=404))

    with pytest.raises(sa.exc.IntegrityError):
        await database.run(orphan)
    assert stored(database) == []


async def test_settlement_overtakes_reservations_that_came_earlier(database: Database) -> None:
    """Behind a busy writer the settlement lane starts first, each lane in its order."""
    order: list[str] = []
    block = hold(database.writer)
    lanes = [("r1", Lane.RESERVATION), ("r2", Lane.RESERVATION), ("s1", Lane.SETTLEMENT)]
    lanes += [("r3", Lane.RESERVATION), ("s2", Lane.SETTLEMENT)]

    def note(name: str) -> Callable[[sa.Connection], None]:
        return lambda _connection: order.append(name)

    waiting = [asyncio.ensure_future(database.run(note(name), lane=lane)) for name, lane in lanes]
    await asyncio.sleep(0)
    block.may_leave.set()
    await asyncio.gather(*waiting)

    assert order == ["s1", "s2", "r1", "r2", "r3"]


async def test_pace_lets_units_through_one_by_one_settlement_first(tmp_path: Path) -> None:
    """What arrives while the pace waits is chosen by lane, and each unit commits alone."""
    turns = threading.Semaphore(0)
    order: list[str] = []

    def pace() -> None:
        turns.acquire()

    def note(name: str) -> Callable[[sa.Connection], None]:
        return lambda _connection: order.append(name)

    with Database(tmp_path / "notes.db", metadata, pace=pace) as database:
        commits = count_commits(database.engine)
        waiting = [
            asyncio.ensure_future(database.run(note(name), lane=lane))
            for name, lane in [
                ("r1", Lane.RESERVATION),
                ("r2", Lane.RESERVATION),
                ("s1", Lane.SETTLEMENT),
            ]
        ]
        await asyncio.sleep(0)
        turns.release()
        await waiting[2]

        assert order == ["s1"]

        turns.release(2)
        await asyncio.gather(*waiting)

        assert order == ["s1", "r1", "r2"]
        assert len(commits) == 3
        turns.release()


async def test_pace_may_be_awaited(tmp_path: Path) -> None:
    """A pace that returns an awaitable is awaited before each unit."""
    calls: list[None] = []

    async def pace() -> None:
        await asyncio.sleep(0)
        calls.append(None)

    with Database(tmp_path / "notes.db", metadata, pace=pace) as database:
        await asyncio.gather(*(database.run(insert(index)) for index in range(3)))

        assert len(calls) == 3


@pytest.mark.parametrize("rate", [0, -1])
def test_a_pace_without_speed_is_refused(rate: float) -> None:
    """A rate of nothing would stop the service for good."""
    with pytest.raises(ValueError, match="transactions_per_second"):
        steady_pace(rate)


async def test_one_unit_too_many_is_refused_as_busy(database: Database) -> None:
    """At the limit a unit waits, one past it is refused and nothing is lost."""
    writer = Writer(database.engine, units_queued_max=3)
    block = hold(writer)
    waiting = [writer.submit(insert(index)) for index in range(3)]

    with pytest.raises(errors.BusyError) as caught:
        writer.submit(insert(3))

    assert caught.value.limit == 3
    block.may_leave.set()
    assert [future.result(20) for future in waiting] == [0, 1, 2]
    writer.close()


async def test_a_unit_whose_caller_left_before_it_started_is_dropped(database: Database) -> None:
    """A cancelled caller costs nothing; those beside it are served."""
    block = hold(database.writer)
    gone = asyncio.ensure_future(database.run(insert(1)))
    stays = asyncio.ensure_future(database.run(insert(2)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    block.may_leave.set()
    await stays

    assert stored(database) == [2]


async def test_close_commits_what_waits(tmp_path: Path) -> None:
    """Closing loses nothing, and afterwards the writer says that it is closed."""
    database = Database(tmp_path / "notes.db", metadata)
    block = hold(database.writer)
    waiting = [database.writer.submit(insert(index)) for index in range(10)]
    block.may_leave.set()
    database.close()

    assert [future.result(0) for future in waiting] == list(range(10))
    with pytest.raises(errors.ClosedError):
        database.writer.submit(insert(11))
    with Database(tmp_path / "notes.db", metadata) as again:
        assert stored(again) == list(range(10))


async def test_a_commit_that_fails_fails_every_unit_of_its_group(database: Database) -> None:
    """Nobody is told that it is durable, and the writer goes on with the next group."""
    failures: list[Exception] = []

    def fail(_connection: sa.Connection) -> None:
        if failures:
            raise failures.pop()

    def arm(_connection: sa.Connection) -> None:
        failures.append(RuntimeError("disk full"))

    sa.event.listen(database.engine, "commit", fail)
    block = hold(database.writer)
    units = [insert(0), insert(1), arm]
    waiting = [asyncio.ensure_future(database.run(unit)) for unit in units]
    await asyncio.sleep(0)
    block.may_leave.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(result) for result in results] == ["disk full"] * 3
    assert stored(database) == []
    assert await database.run(insert(9)) == 9


async def test_readers_see_whole_commits_and_never_wait(database: Database) -> None:
    """While a unit is inside its transaction, a reader sees the state before it."""
    await database.run(insert(1))
    block = hold(database.writer)

    assert stored(database) == [1]

    block.may_leave.set()


async def test_an_unthreaded_writer_runs_each_unit_at_once() -> None:
    """In a simulation a unit is durable when the call returns, in the order of the calls."""
    with Database(None, metadata, is_threaded=False) as database:
        assert [database.writer.submit(insert(index)).result(0) for index in (1, 2)] == [1, 2]
        assert await database.run(insert(3)) == 3
        with pytest.raises(sa.exc.IntegrityError):
            await database.run(insert(3))

        assert stored(database) == [1, 2, 3]


async def test_a_loop_that_waits_for_the_writer_is_not_waited_for(database: Database) -> None:
    """A unit of the loop never runs into a loop that blocks on the writer."""
    first = asyncio.ensure_future(database.run(insert(1)))
    await asyncio.sleep(0)

    assert database.writer.submit(insert(2)).result(20) == 2
    assert await first == 1


async def test_closing_from_the_loop_commits_what_the_loop_had_asked_for(tmp_path: Path) -> None:
    """Close blocks the loop, and still every unit of that loop is done."""
    database = Database(tmp_path / "notes.db", metadata)
    waiting = [asyncio.ensure_future(database.run(insert(index))) for index in range(50)]
    await asyncio.sleep(0)
    database.close()

    assert await asyncio.gather(*waiting) == list(range(50))


async def test_units_of_a_large_group_let_other_callers_of_the_loop_through(
    database: Database,
) -> None:
    """The loop serves others between the units of one transaction."""
    turns: list[int] = []

    def slow(number: int) -> Callable[[sa.Connection], None]:
        def work(_connection: sa.Connection) -> None:
            time.sleep(0.011)
            turns.append(number)

        return work

    block = hold(database.writer)
    waiting = [asyncio.ensure_future(database.run(slow(index))) for index in range(10)]
    await asyncio.sleep(0)
    block.may_leave.set()
    while not turns:  # noqa: ASYNC110 - the unit tells only this list
        await asyncio.sleep(0.001)
    seen = len(turns)
    await asyncio.gather(*waiting)

    assert seen < 10
    assert sorted(turns) == list(range(10))


def test_a_database_in_memory_cannot_be_threaded() -> None:
    """Its one connection cannot read and write at the same time."""
    with pytest.raises(ValueError, match="is_threaded"):
        Database(None, metadata)


def test_the_engine_flushes_and_keeps_references(tmp_path: Path) -> None:
    """Durability and foreign keys are settings of each connection."""
    engine = open_engine(tmp_path / "notes.db")
    with engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()

    assert pragmas == ["wal", 2, 1]


def test_limits_below_one_are_refused(database: Database) -> None:
    """A queue without room would refuse everything."""
    with pytest.raises(ValueError, match="1 or more"):
        Writer(database.engine, units_queued_max=0)
    with pytest.raises(ValueError, match="1 or more"):
        Writer(database.engine, units_per_transaction_max=0)
