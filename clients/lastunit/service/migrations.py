"""Brings the tables of a database to the version that the program was written for.

Owns the lock under which that happens, what is refused, and the comparison of a database with the
tables that the program knows. Must not know any table: each service has a package of revisions.
Next: `lastunit.service.database`; docs/operating/database.md for operators.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from lastunit.service._engines import READING
from lastunit.service._ways import WRITERS_LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from alembic.config import Config
    from alembic.script import ScriptDirectory

__all__ = [
    "Migrations",
    "SchemaAccessError",
    "SchemaVersionError",
    "State",
    "differences",
    "migrated",
    "migrations_of",
    "run_environment",
    "state",
    "upgrade",
]

_KEY: Final = "lastunit_migrations"
_VERSION_TABLE: Final = "alembic_version"

# `PRAGMA user_version` of files that were written before there were revisions, and since.
_USER_VERSION_BEFORE: Final = 1
_USER_VERSION: Final = 2

# How long a starting process waits for another one that is migrating.
_PATIENCE_MS: Final = 60_000

_log: Final = logging.getLogger(__name__)


class SchemaVersionError(Exception):
    """A database was written by another version of the program."""


class SchemaAccessError(Exception):
    """The user of a database may not make what is missing in it."""


@dataclass(frozen=True, slots=True)
class Migrations:
    """Says where the revisions of a database are.

    Attributes:
        name: Of the database, such as `order`; on PostgreSQL its schema is `lastunit_order`.
        package: Dotted name of the package that has `env.py` and `versions`.
    """

    name: str
    package: str

    @property
    def schema(self) -> str:
        """Name of the PostgreSQL schema that holds the tables."""
        return f"lastunit_{self.name}"


@dataclass(frozen=True, slots=True)
class State:
    """Says how far a database is.

    Attributes:
        found: Its revision; empty if it has no tables yet.
        newest: The revision that this program needs.
    """

    found: str
    newest: str


def migrated(name: str, package: str) -> dict[Any, Any]:
    """Returns the `info` of a `MetaData` whose tables are made by revisions.

    Args:
        name: Of the database, small letters.
        package: Dotted name of the package of its revisions.
    """
    return {_KEY: Migrations(name, package)}


def migrations_of(metadata: sa.MetaData) -> Migrations | None:
    """Returns where the revisions of tables are; None if they are made as they stand."""
    info: Mapping[Any, Any] = metadata.info
    return info.get(_KEY)


def state(engine: sa.Engine, migrations: Migrations) -> State:
    """Says how far a database is, without changing it."""
    with _reading(engine) as connection:
        found = _revision(connection)
    return State(found, _newest(_scripts(migrations)))


def upgrade(engine: sa.Engine, migrations: Migrations) -> State:
    """Brings a database up to date; does nothing if it is.

    Args:
        engine: For writing.
        migrations: Its revisions.

    Returns:
        Where it was, and where it is now.

    Raises:
        SchemaVersionError: It was written by a newer program, or by one older than revisions.
        SchemaAccessError: The schema is missing, and this user may not make it.
    """
    scripts = _scripts(migrations)
    newest = _newest(scripts)
    with _reading(engine) as connection:
        found = _revision(connection)
    if found == newest:
        return State(found, newest)
    _check_known(engine, scripts, found)
    with _alone(engine, migrations) as connection:
        # Another process may have been quicker, and it may have been a newer one.
        found = _revision(connection)
        _check_known(engine, scripts, found)
        if connection.dialect.name == "sqlite":
            _adopt(connection, migrations, scripts)
        _run(connection, migrations, "head")
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA user_version = {_USER_VERSION}")
    if found != newest:
        extra = {"database": migrations.name, "version_from": found, "version_to": newest}
        _log.info("the tables were brought up to date", extra=extra)
    return State(found, newest)


def differences(engine: sa.Engine, metadata: sa.MetaData) -> Sequence[str]:
    """Returns what differs between a database and the tables that the program knows."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with _reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [str(difference) for difference in compare_metadata(context, metadata)]


def run_environment(metadata: sa.MetaData) -> None:
    """Is the whole of every `env.py`: runs revisions on the connection that the caller lends."""
    from alembic import context

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        # SQLite changes a column only by making the table anew.
        render_as_batch=True,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


# --- inside --------------------------------------------------------------------------------


def _config(migrations: Migrations) -> Config:
    from alembic.config import Config

    package, _, folder = migrations.package.rpartition(".")
    config = Config()
    config.set_main_option("script_location", f"{package}:{folder}")
    config.set_main_option("path_separator", "os")
    return config


# A program's revisions do not change while it runs.
@functools.cache
def _scripts(migrations: Migrations) -> ScriptDirectory:
    # It tells of its own parts at each start, which is nobody's concern.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config(migrations))


def _newest(scripts: ScriptDirectory) -> str:
    newest = scripts.get_current_head()
    if newest is None:
        raise AssertionError(f"{scripts.dir} has no revision")
    return newest


def _run(connection: sa.Connection, migrations: Migrations, revision: str) -> None:
    from alembic import command

    config = _config(migrations)
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(connection: sa.Connection) -> str:
    if not sa.inspect(connection).has_table(_VERSION_TABLE):
        return ""
    query = sa.text(f"SELECT version_num FROM {_VERSION_TABLE}")  # noqa: S608 - our own constant
    return str(connection.execute(query).scalar_one_or_none() or "")


def _check_known(engine: sa.Engine, scripts: ScriptDirectory, found: str) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if found and found not in known:
        raise SchemaVersionError(
            f"{_told(engine)} has schema version {found}, and this program knows versions up to "
            f"{_newest(scripts)}; use the newer program that wrote it"
        )


def _told(engine: sa.Engine) -> str:
    if engine.dialect.name == "sqlite":
        return str(engine.url.database)
    return engine.url.set(drivername="postgresql").render_as_string(hide_password=True)


@contextlib.contextmanager
def _reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect().execution_options(**{READING: True}) as connection:
        yield connection


@contextlib.contextmanager
def _alone(engine: sa.Engine, migrations: Migrations) -> Iterator[sa.Connection]:
    """Lends a transaction during which nobody else writes or migrates."""
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            with _without_references(connection):
                yield connection
            return
        with connection.begin():
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_PATIENCE_MS}")
            # The lock of all writers: no unit of work meets half a migration.
            lock = sa.text("SELECT pg_advisory_xact_lock(:lock, hashtext(:schema))")
            connection.execute(lock, {"lock": WRITERS_LOCK, "schema": migrations.schema})
            _make_schema(connection, migrations.schema)
            yield connection


def _make_schema(connection: sa.Connection, schema: str) -> None:
    if schema in sa.inspect(connection).get_schema_names():
        return
    try:
        connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    except sa.exc.ProgrammingError as error:
        user = connection.engine.url.username or "its user"
        raise SchemaAccessError(
            f"{_told(connection.engine)} has no schema {schema}, and {user} may not make it; let "
            f"its owner run: CREATE SCHEMA {schema} AUTHORIZATION {user}"
        ) from error


@contextlib.contextmanager
def _without_references(connection: sa.Connection) -> Iterator[None]:
    """Begins a transaction in which a table may be replaced that others refer to.

    SQLite would take the dropped rows for lost ones. Its switch works outside of transactions only,
    so past SQLAlchemy; the references are looked through before the commit.
    """
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys=OFF").close()
    driver.execute(f"PRAGMA busy_timeout={_PATIENCE_MS}").close()
    try:
        with connection.begin():
            yield
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise AssertionError(f"the migration broke {len(broken)} references")
    finally:
        # Nothing else is set back: the connection is not used again.
        connection.invalidate()


def _adopt(connection: sa.Connection, migrations: Migrations, scripts: ScriptDirectory) -> None:
    """Takes over a file that was written before there were revisions."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version in (0, _USER_VERSION):
        return
    name = _told(connection.engine)
    if version != _USER_VERSION_BEFORE:
        raise SchemaVersionError(
            f"{name} has schema version {version}, and this program knows {_USER_VERSION} at most; "
            f"use the program that wrote it"
        )
    first = scripts.get_base()
    assert first is not None
    with sa.create_engine("sqlite://").begin() as scratch:
        _run(scratch, migrations, first)
        expected = _columns(scratch)
    missing = sorted(set(expected) - set(_columns(connection)))
    if missing:
        raise SchemaVersionError(
            f"{name} was written by a development version and lacks {', '.join(missing)}; "
            f"start with a new file"
        )
    from alembic.migration import MigrationContext

    context = MigrationContext.configure(connection)
    context.stamp(scripts, first)


def _columns(connection: sa.Connection) -> Sequence[str]:
    inspector = sa.inspect(connection)
    return [
        f"{table}.{column['name']}"
        for table in inspector.get_table_names()
        if table != _VERSION_TABLE
        for column in inspector.get_columns(table)
    ]
