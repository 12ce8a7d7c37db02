"""A service's SQLite database: one writer that shares commits, readers that never block it.

Owns the connection settings, the schema's creation and the doors to read and write. Must not
know any table. Next: `lastunit.service._writer` for how units of work share a transaction.

SQLite allows one writing transaction at a time, and a durable commit costs a flush of the disk.
So all writes of a process go through one `Writer`, which commits many units of work at once.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import StaticPool

from lastunit.service._writer import Lane, Pace, TransactionRunner, Writer, steady_pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "Database",
    "Lane",
    "Pace",
    "SchemaVersionError",
    "TransactionRunner",
    "Writer",
    "open_engine",
    "steady_pace",
]

ResultT = TypeVar("ResultT")

# How long one process waits for another that writes into the same file. Long enough for a full
# group of units, short enough that a caller's deadline of 5 s is not spent on it alone.
BUSY_TIMEOUT_MS: Final = 4_000

_READING: Final = "lastunit_is_reading"


class SchemaVersionError(Exception):
    """A database file was written by another version of the schema."""


def open_engine(path: Path | None, *, is_flushed: bool = True) -> sa.Engine:
    """Opens SQLite: write-ahead log, foreign keys, transactions that begin by taking the lock.

    Args:
        path: The database file; None keeps everything in the memory of one connection, which
            only a simulation with an unthreaded `Writer` may use.
        is_flushed: True flushes the disk at each commit. False survives the death of the
            process but not of the machine.

    Returns:
        An engine whose transactions are `BEGIN IMMEDIATE`, or `BEGIN` on a reading connection.
    """
    if path is None:
        engine = sa.create_engine(
            "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
    else:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = sa.create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(driver: Any, _record: object) -> None:
        # The driver must not open transactions by itself: the hook below does.
        driver.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={'FULL' if is_flushed else 'NORMAL'}",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            driver.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A write that starts as a read can fail half-way for the lock; IMMEDIATE takes it first.
        is_reading = connection.get_execution_options().get(_READING, False)
        connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")

    return engine


class Database:
    """Joins an engine, its schema and the one writer of this process.

    Args:
        path: The database file; None keeps it in memory for a simulation (see `open_engine`).
        metadata: The tables; those that are missing are created.
        schema_version: 1 or more; a file with another version is refused.
        is_flushed: False trades a machine's crash for speed; only for simulations and tests.
        is_threaded: False runs each write at once in the caller's thread, for simulations.
        pace: Called before each unit of work; a live incident run slows the database with it.

    Raises:
        SchemaVersionError: The file was written by another version of the schema.
    """

    def __init__(
        self,
        path: Path | None,
        metadata: sa.MetaData,
        *,
        schema_version: int = 1,
        is_flushed: bool = True,
        is_threaded: bool = True,
        pace: Pace | None = None,
    ) -> None:
        if path is None and is_threaded:
            raise ValueError("a database in memory has one connection: pass is_threaded=False")
        self.engine = open_engine(path, is_flushed=is_flushed)
        try:
            self._create_schema(metadata, schema_version)
            self.writer = Writer(self.engine, pace=pace, is_threaded=is_threaded)
        except BaseException:
            self.engine.dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _create_schema(self, metadata: sa.MetaData, version: int) -> None:
        if version < 1:
            raise ValueError(f"schema_version is {version}; it must be 1 or more")
        with self.engine.begin() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if found not in (0, version):
                raise SchemaVersionError(
                    f"{self.engine.url.database} has schema version {found}, this program "
                    f"has {version}; use the program that wrote it or another directory"
                )
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {version}")

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Lends a connection that shows one committed state and never waits for the writer."""
        with self.engine.connect().execution_options(**{_READING: True}) as connection:
            yield connection

    async def run(
        self, work: Callable[[sa.Connection], ResultT], *, lane: Lane = Lane.RESERVATION
    ) -> ResultT:
        """Runs a unit of work; see `Writer.run`."""
        return await self.writer.run(work, lane=lane)

    def close(self) -> None:
        """Commits what is queued and closes every connection; a second call does nothing."""
        self.writer.close()
        self.engine.dispose()
