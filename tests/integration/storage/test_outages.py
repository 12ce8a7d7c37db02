"""The writer on a PostgreSQL that goes away: nothing is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest
import sqlalchemy as sa

from lastunit import errors
from lastunit.service import _writer
from lastunit.service.database import Database, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.postgres import PostgresServer

metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True),
    sa.Column("parent", sa.BigInteger, sa.ForeignKey("notes.number")),
)


@pytest.fixture
def name(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty PostgreSQL database."""
    with postgres_server.empty_database() as made:
        yield made


@pytest.fixture
def database(
    postgres_server: PostgresServer, name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """An open database with one table."""
    # A busy machine takes its time to connect.
    monkeypatch.setattr(_writer, "OUTAGE_SECONDS_MAX", 60.0)
    with Database(parse_url(postgres_server.url(name)), metadata) as opened:
        yield opened


def insert(number: int) -> Callable[[sa.Connection], int]:
    """Returns a unit of work that writes one row."""

    def work(connection: sa.Connection) -> int:
        connection.execute(sa.insert(notes).values(number=number))
        return number

    return work


def stored(database: Database) -> list[int]:
    """Returns what is committed."""
    with database.read() as connection:
        return list(connection.scalars(sa.select(notes.c.number).order_by(notes.c.number)))


def end_sessions(server: PostgresServer, name: str) -> int:
    """Ends every session of a database from outside; returns how many there were."""
    with server.connect() as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        return len(ended.fetchall())


async def test_a_connection_that_was_ended_is_made_anew(
    database: Database, postgres_server: PostgresServer, name: str
) -> None:
    """Between two units every session is ended; the second is written and nobody is told."""
    await database.run(insert(1))

    assert stored(database) == [1]
    assert end_sessions(postgres_server, name) == 2
    assert await database.run(insert(2)) == 2
    with pytest.raises(errors.UnavailableError):
        stored(database)
    assert stored(database) == [1, 2]


async def test_a_group_whose_server_goes_away_is_run_again(
    database: Database, postgres_server: PostgresServer, name: str
) -> None:
    """The session ends inside of a unit: the whole group is run again and committed once."""
    runs: list[int] = []

    def work(connection: sa.Connection) -> int:
        insert(5)(connection)
        runs.append(5)
        if len(runs) == 1:
            end_sessions(postgres_server, name)
        return insert(6)(connection)

    assert await asyncio.gather(database.run(insert(4)), database.run(work)) == [4, 6]
    assert runs == [5, 5]
    assert stored(database) == [4, 5, 6]


def commit_unseen(connection: sa.Connection) -> None:
    """Commits at the server, while the driver believes that its transaction is still open."""
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.execute("COMMIT; BEGIN", prepare=False)


@pytest.mark.parametrize("is_committed", [True, False])
async def test_a_commit_without_an_answer_is_asked_for(
    database: Database, postgres_server: PostgresServer, name: str, is_committed: bool
) -> None:
    """The session ends around COMMIT: what was committed is not run again, what was not is."""
    runs: list[int] = []
    losses = [None]

    def lose(connection: sa.Connection) -> None:
        if losses:
            losses.pop()
            if is_committed:
                commit_unseen(connection)
            end_sessions(postgres_server, name)

    def work(connection: sa.Connection) -> int:
        runs.append(7)
        return insert(7)(connection)

    await database.run(insert(1))
    sa.event.listen(database.engine, "commit", lose)

    assert await database.run(work) == 7
    assert len(runs) == (1 if is_committed else 2)
    sa.event.remove(database.engine, "commit", lose)
    database.close()
    with psycopg.connect(postgres_server.url(name)) as connection:
        rows = connection.execute("SELECT number FROM notes ORDER BY number").fetchall()
    assert rows == [(1,), (7,)]


async def test_a_server_that_stays_away_is_told_of_in_time(
    database: Database,
    postgres_server: PostgresServer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Callers get UNAVAILABLE, say whether it may be written, and once it is back all is well."""
    monkeypatch.setattr(_writer, "OUTAGE_SECONDS_MAX", 0.2)

    def lose(connection: sa.Connection) -> None:
        commit_unseen(connection)
        postgres_server.stop(signal.SIGQUIT)

    await database.run(insert(1))
    sa.event.listen(database.engine, "commit", lose)
    try:
        with pytest.raises(errors.UnavailableError) as unknown:
            await database.run(insert(2))
        sa.event.remove(database.engine, "commit", lose)
        with pytest.raises(errors.UnavailableError) as gone:
            await database.run(insert(3))
        with pytest.raises(errors.UnavailableError) as unread:
            stored(database)
    finally:
        postgres_server.start()

    assert unknown.value.reason == "DATABASE_OUTCOME_UNKNOWN"
    assert gone.value.reason == "DATABASE_UNAVAILABLE"
    assert unread.value.reason == "DATABASE_UNAVAILABLE"
    assert await database.run(insert(4)) == 4
    assert stored(database) == [1, 2, 4]


async def test_a_unit_that_fails_is_undone_alone(database: Database) -> None:
    """Its error reaches its caller and its neighbours stay, also if it hides the error itself."""

    def hide(connection: sa.Connection) -> str:
        try:
            insert(1)(connection)
        except sa.exc.IntegrityError:
            return "hidden"
        return "none"

    units = [insert(1), insert(1), hide, insert(2)]
    results = await asyncio.gather(*map(database.run, units), return_exceptions=True)

    assert [results[0], results[3]] == [1, 2]
    assert isinstance(results[1], sa.exc.IntegrityError)
    assert isinstance(results[2], Exception)
    assert stored(database) == [1, 2]


async def test_one_transaction_at_a_time_writes_over_all_processes(
    database: Database, postgres_server: PostgresServer, name: str
) -> None:
    """Two writers that read, wait and write a count never write the same one."""
    with Database(parse_url(postgres_server.url(name)), metadata) as other:
        started = threading.Event()

        def count(connection: sa.Connection) -> int:
            highest = connection.scalar(sa.select(sa.func.max(notes.c.number))) or 0
            # The other one would read the same highest now.
            started.wait(0.01)
            return insert(highest + 1)(connection)

        calls = [each.run(count) for _ in range(30) for each in (database, other)]
        numbers = await asyncio.gather(*calls)

    assert sorted(numbers) == list(range(1, 61))


async def test_a_process_that_hangs_in_a_transaction_holds_up_the_others_for_a_while(
    database: Database, postgres_server: PostgresServer, name: str
) -> None:
    """Who waits too long for the lock is told so; it is free once the server ends who hangs."""
    from lastunit.service._ways import WRITERS_LOCK

    await database.run(insert(1))
    driver = database.writer._driver
    driver.execute("SET lock_timeout = '100ms'")
    driver.commit()
    hangs = psycopg.connect(postgres_server.url(name))
    hangs.execute("SET idle_in_transaction_session_timeout = '600ms'")
    hangs.commit()
    hangs.execute(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK}, hashtext(current_schema()))")
    with pytest.raises(errors.UnavailableError) as busy:
        await database.run(insert(2))

    assert busy.value.reason == "DATABASE_BUSY"

    async with asyncio.timeout(30):
        while True:
            try:
                await database.run(insert(3))
            except errors.UnavailableError:
                continue
            break
    hangs.close()

    assert stored(database) == [1, 3]


def test_sessions_insist_on_durable_commits(
    database: Database, postgres_server: PostgresServer, name: str
) -> None:
    """A database that is set to lose the last commits does not do so for us."""
    database.close()
    with postgres_server.connect() as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with (
        Database(parse_url(postgres_server.url(name)), metadata) as opened,
        opened.engine.connect() as connection,
    ):
        setting = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()

    assert setting == "on"
