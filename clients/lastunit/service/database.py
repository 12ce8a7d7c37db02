"""A service's database: one writer that shares commits, readers that never block it.

Owns the doors to read and write, and that the tables are there. Must not know any table.
Next: `lastunit.service._writer` for how units of work share a transaction, `_engines` for how
SQLite and PostgreSQL are set up, `migrations` for the tables.

SQLite allows one writing transaction at a time, and so does this program on PostgreSQL; a durable
commit costs a flush of the disk. So all writes of a process go through one `Writer`, which commits
many units of work at once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final, Self, TypeVar

import sqlalchemy as sa

from lastunit.errors import UnavailableError
from lastunit.service import migrations
from lastunit.service._engines import (
    READING,
    DatabaseUrlError,
    Place,
    named,
    open_engine,
    parse_url,
    place_of,
    postgres_engine,
    postgres_reader,
)
from lastunit.service._ways import unavailable
from lastunit.service._writer import Lane, Pace, TransactionRunner, Writer, steady_pace
from lastunit.service.migrations import SchemaVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Database",
    "DatabaseUrlError",
    "Lane",
    "Pace",
    "Place",
    "SchemaVersionError",
    "TransactionRunner",
    "Writer",
    "open_engine",
    "parse_url",
    "place_of",
    "steady_pace",
]

ResultT = TypeVar("ResultT")

# How long a start waits for a server that is starting too.
START_SECONDS_MAX: Final = 15.0
_START_PAUSE_SECONDS: Final = 0.25

# Of a PostgreSQL database whose tables have no revisions: tests of the writer have such ones.
_SCHEMA_DEFAULT: Final = "public"

_log: Final = logging.getLogger(__name__)


class Database:
    """Joins a database, its tables and the one writer of this process.

    Args:
        place: A file of SQLite, or a PostgreSQL database as `parse_url` gives it; None keeps it in
            memory for a simulation (see `open_engine`).
        metadata: The tables. Revisions bring them up to date if `migrations.migrated` is their
            `info`; others, and those in memory, are created if they are missing.
        is_flushed: False trades a machine's crash for speed; only for simulations and tests.
        is_threaded: False runs each write at once in the caller's thread, for simulations.
        pace: Called before each unit of work; a live incident run slows the database with it.

    Raises:
        SchemaVersionError: The database was written by another version of the program.
        UnavailableError: The server does not answer.

    Attributes:
        engine: The engine that writes.
        writer: Runs units of work.
        name: The place without its password, for logs.
    """

    def __init__(
        self,
        place: Place,
        metadata: sa.MetaData,
        *,
        is_flushed: bool = True,
        is_threaded: bool = True,
        pace: Pace | None = None,
    ) -> None:
        if place is None and is_threaded:
            raise ValueError("a database in memory has one connection: pass is_threaded=False")
        self.name = named(place)
        owner = migrations.migrations_of(metadata)
        if isinstance(place, sa.URL):
            schema = owner.schema if owner else _SCHEMA_DEFAULT
            self.engine = postgres_engine(place, schema, is_flushed=is_flushed)
            self._reader = postgres_reader(place, schema)
        else:
            self.engine = self._reader = open_engine(place, is_flushed=is_flushed)
        try:
            self._make_tables(place, metadata, owner)
            self.writer = Writer(self.engine, pace=pace, is_threaded=is_threaded)
        except BaseException:
            self._dispose()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _make_tables(
        self, place: Place, metadata: sa.MetaData, owner: migrations.Migrations | None
    ) -> None:
        """Brings the tables up to date once the server takes connections."""
        end = time.monotonic() + START_SECONDS_MAX
        is_told = False
        while True:
            try:
                if owner is None or place is None:
                    metadata.create_all(self.engine)
                else:
                    migrations.upgrade(self.engine, owner)
            except sa.exc.OperationalError as error:
                # With a statement it was not the connection that could not be had.
                if self._is_file or error.statement is not None:
                    raise
                why = str(error.orig).strip()
                if time.monotonic() > end:
                    raise UnavailableError(
                        f"{self.name} cannot be opened: {why}", reason="DATABASE_UNAVAILABLE"
                    ) from None
                if not is_told:
                    extra = {"database": self.name, "why": why}
                    _log.warning("waiting for the database", extra=extra)
                    is_told = True
            else:
                return
            time.sleep(_START_PAUSE_SECONDS)

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Lends a connection that shows one committed state and never waits for the writer.

        Raises:
            UnavailableError: The server does not answer.
        """
        try:
            with self._reader.connect().execution_options(**{READING: True}) as connection:
                yield connection
        except sa.exc.OperationalError as error:
            # Without a statement it was the connection itself that could not be had.
            if self._is_file or not (error.connection_invalidated or error.statement is None):
                raise
            raise unavailable(is_unknown=False) from error

    async def run(
        self, work: Callable[[sa.Connection], ResultT], *, lane: Lane = Lane.RESERVATION
    ) -> ResultT:
        """Runs a unit of work; see `Writer.run`."""
        return await self.writer.run(work, lane=lane)

    def close(self) -> None:
        """Commits what is queued and closes every connection; a second call does nothing."""
        self.writer.close()
        self._dispose()

    @property
    def _is_file(self) -> bool:
        return self._reader is self.engine

    def _dispose(self) -> None:
        self._reader.dispose()
        self.engine.dispose()
