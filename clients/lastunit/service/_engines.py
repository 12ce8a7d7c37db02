"""Connections to SQLite and PostgreSQL, set up so that a commit is durable and nobody waits long.

Owns the settings of connections and where a database is. Must not know tables or units of work.
Next: `lastunit.service.database`.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool, StaticPool

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BUSY_TIMEOUT_MS",
    "READING",
    "DatabaseUrlError",
    "Place",
    "named",
    "open_engine",
    "parse_url",
    "place_of",
    "postgres_engine",
    "postgres_reader",
]

Place = Path | sa.URL | None
"""A file of SQLite, a PostgreSQL database, or nothing but the memory of one connection."""

# How long one process waits for another that writes into the same database. Long enough for a full
# group of units, short enough that a caller's deadline of 5 s is not spent on it alone.
BUSY_TIMEOUT_MS: Final = 4_000

# How long one of several that open a new file at once waits before it asks again.
_WAL_PAUSE_SECONDS: Final = 0.01

READING: Final = "lastunit_is_reading"

# A session that holds the lock of all writers and does nothing is a process that hangs; the server
# ends it, and the others go on.
_IDLE_IN_TRANSACTION_MS: Final = 10_000

# Readers run on the event loop one at a time; the rest are threads of metrics and commands.
_READERS_KEPT: Final = 2
_READERS_MAX: Final = 8

# libpq takes whole seconds, 2 at least. Shorter than the writer's patience with an outage.
_CONNECT_SECONDS: Final = 3
# So soon a server that vanished without a word is noticed.
_LIBPQ_DEFAULTS: Final = {
    "connect_timeout": _CONNECT_SECONDS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

_SCHEMES: Final = frozenset({"postgresql", "postgres"})

_log: Final = logging.getLogger(__name__)


class DatabaseUrlError(ValueError):
    """A setting names no database that can be used."""


def parse_url(text: str) -> sa.URL:
    """Returns the PostgreSQL database of a URL.

    Args:
        text: `postgresql://user@host:5432/name`, as libpq takes it; its query may hold libpq's
            other words, such as `sslmode=verify-full`.

    Raises:
        DatabaseUrlError: It is none. The text of the error never holds the password.
    """
    scheme = text.partition("://")[0]
    if "://" not in text or scheme not in _SCHEMES:
        raise DatabaseUrlError(
            "the database is no URL such as postgresql://user@host:5432/name; for SQLite name a "
            "directory with --data-directory instead"
        )
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        # What cannot be read may hold a password anywhere.
        raise DatabaseUrlError(
            "the URL of the database cannot be read; it goes postgresql://user@host:5432/name, "
            "with %40 for @ and %2F for / in a password"
        ) from None
    if not url.database:
        raise DatabaseUrlError(f"{named(url)} names no database; add /name at its end")
    if "password" in url.query:
        raise DatabaseUrlError(
            "the URL of the database has a password among its words after ?; put it before @, or "
            "into PGPASSWORD or the file that PGPASSFILE names"
        )
    return url.set(drivername="postgresql+psycopg")


def place_of(url: str | None, directory: Path | None, file: str) -> Path | sa.URL:
    """Returns where a service keeps its tables.

    Args:
        url: Of a PostgreSQL database; None or empty keeps them in a file.
        directory: Of the file.
        file: Its name.

    Raises:
        DatabaseUrlError: The URL is none, or neither is given.
    """
    if url:
        return parse_url(url)
    if directory is None:
        raise DatabaseUrlError(
            "name a directory for SQLite with --data-directory, or a PostgreSQL database with "
            "--database postgresql://user@host:5432/name"
        )
    return directory / file


def named(place: Place) -> str:
    """Returns what a person may read of a place: never its password."""
    if isinstance(place, sa.URL):
        return place.set(drivername="postgresql").render_as_string(hide_password=True)
    return ":memory:" if place is None else str(place)


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
        _use_write_ahead_log(driver)
        for pragma in (
            f"synchronous={'FULL' if is_flushed else 'NORMAL'}",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            driver.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A write that starts as a read can fail half-way for the lock; IMMEDIATE takes it first.
        is_reading = connection.get_execution_options().get(READING, False)
        connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")

    return engine


def _use_write_ahead_log(driver: Any) -> None:
    """Switches a file over, however many processes open it for the first time at once.

    Each has read the file's header when it asks for the lock, so SQLite refuses all but one of them
    at once instead of letting them wait: https://www.sqlite.org/c3ref/busy_handler.html.
    """
    end = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            driver.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(_WAL_PAUSE_SECONDS)
        else:
            return


def postgres_engine(url: sa.URL, schema: str, *, is_flushed: bool = True) -> sa.Engine:
    """Opens PostgreSQL for writing; its user keeps the connection that it is given.

    Args:
        url: As `parse_url` gives it.
        schema: The schema that all tables are in.
        is_flushed: False is told of a commit before it is on disk; only for tests.
    """
    # No pool: the writer has one connection and another only once that one is of no use.
    engine = sa.create_engine(url, poolclass=NullPool, connect_args=_arguments(url, schema))

    @event.listens_for(engine, "connect")
    def _configure(driver: Any, _record: object) -> None:
        driver.autocommit = True
        for setting in _settings(schema):
            driver.execute(setting, prepare=False)
        if is_flushed:
            _insist_on_durability(driver)
        else:
            driver.execute("SET synchronous_commit = off", prepare=False)
        driver.autocommit = False

    return engine


def postgres_reader(url: sa.URL, schema: str) -> sa.Engine:
    """Opens PostgreSQL for reading: each transaction shows one committed state."""
    # Imported here, so that who uses SQLite needs no libpq.
    import psycopg

    engine = sa.create_engine(
        url,
        pool_size=_READERS_KEPT,
        max_overflow=_READERS_MAX - _READERS_KEPT,
        connect_args=_arguments(url, schema),
    )

    @event.listens_for(engine, "connect")
    def _configure(driver: Any, _record: object) -> None:
        driver.autocommit = True
        for setting in _settings(schema):
            driver.execute(setting, prepare=False)
        driver.autocommit = False
        driver.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        driver.read_only = True

    return engine


def _arguments(url: sa.URL, schema: str) -> dict[str, Any]:
    defaults = {"application_name": schema, **_LIBPQ_DEFAULTS}
    return {word: value for word, value in defaults.items() if word not in url.query}


def _settings(schema: str) -> Iterator[str]:
    yield f'SET search_path = "{schema}"'
    yield f"SET lock_timeout = {BUSY_TIMEOUT_MS}"
    yield f"SET idle_in_transaction_session_timeout = {_IDLE_IN_TRANSACTION_MS}"
    # So soon the server notices that this machine vanished, and gives its locks back.
    yield "SET tcp_keepalives_idle = 10"
    yield "SET tcp_keepalives_interval = 5"
    yield "SET tcp_keepalives_count = 3"


def _insist_on_durability(driver: Any) -> None:
    """Sets what a session may set, and tells of what only the server's owner can."""
    # Stronger ones, which wait for another server too, are left as they are.
    if driver.execute("SHOW synchronous_commit").fetchone()[0] in ("off", "local"):
        driver.execute("SET synchronous_commit = on", prepare=False)
    for setting in ("fsync", "full_page_writes"):
        if driver.execute(f"SHOW {setting}").fetchone()[0] != "on":
            _log.warning(
                "the database server may lose commits when its machine stops; turn this on there",
                extra={"setting": setting},
            )
