"""The commands `database current`, `check` and `upgrade`, which every service with tables has.

Owns their texts and exit codes, and the words for the one setting that chooses a database. Must
not know any table. Next: `lastunit.service.migrations`; docs/operating/database.md.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import sqlalchemy as sa
import typer

from lastunit.errors import UnavailableError
from lastunit.service import migrations
from lastunit.service._engines import (
    DatabaseUrlError,
    Place,
    named,
    open_engine,
    postgres_engine,
)
from lastunit.service.migrations import SchemaAccessError, SchemaVersionError

__all__ = ["DATABASE_HELP", "Databases", "database_app", "told"]

DATABASE_HELP: Final = (
    "postgresql://user@host:5432/name: keeps the tables in PostgreSQL instead of SQLite files in "
    "the data directory. Flags can be read by everybody on the machine: a password belongs into "
    "the variable, or into the file that PGPASSFILE names."
)

Databases = Callable[[str | None, Path | None], Sequence[tuple[Place, sa.MetaData]]]
"""Returns place and tables of a service's databases for its two settings."""


@contextlib.contextmanager
def told(service: str) -> Iterator[None]:
    """Ends the program with a sentence, not a traceback, when a database cannot be opened."""
    try:
        yield
    except DatabaseUrlError as error:
        raise typer.BadParameter(str(error)) from None
    except (SchemaAccessError, SchemaVersionError, UnavailableError) as error:
        typer.echo(f"{service}: {error}", err=True)
        raise typer.Exit(code=2) from None
    except sa.exc.DBAPIError as error:
        # Of a start: once a service runs, its callers are told. SQLAlchemy's text shows values.
        why = str(error.orig).strip()
        typer.echo(f"{service}: the database refuses: {why}", err=True)
        raise typer.Exit(code=2) from None


def database_app(service: str, databases: Databases) -> typer.Typer:
    """Returns the commands for a service's databases.

    Args:
        service: Its name, such as `order`; the settings' variables have it in capitals.
        databases: Finds them.
    """
    variable = f"LASTUNIT_{service.upper()}"
    url_option = typer.Option(
        "--database", help=DATABASE_HELP, envvar=f"{variable}_DATABASE", show_default=False
    )
    directory_option = typer.Option(
        help="Directory of the SQLite files.", envvar=f"{variable}_DATA_DIRECTORY"
    )
    app = typer.Typer(help="Shows and upgrades the tables.", no_args_is_help=True)

    @app.command()
    def current(
        *,
        database: Annotated[str | None, url_option] = None,
        data_directory: Annotated[Path | None, directory_option] = None,
    ) -> None:
        """Shows the version of the tables, and the one that this program needs."""
        with told(service):
            for place, metadata in databases(database, data_directory):
                found, newest = _state(place, metadata)
                typer.echo(f"{_name(metadata)}: {found or 'no tables'}, needs {newest}")

    @app.command()
    def check(
        *,
        database: Annotated[str | None, url_option] = None,
        data_directory: Annotated[Path | None, directory_option] = None,
    ) -> None:
        """Compares the tables with what this program needs; ends with 1 if they differ."""
        is_well = True
        with told(service):
            for place, metadata in databases(database, data_directory):
                for line in _findings(place, metadata):
                    is_well = False
                    typer.echo(f"{_name(metadata)}: {line}", err=True)
        if not is_well:
            raise typer.Exit(code=1)
        typer.echo("every table is as this program needs it")

    @app.command()
    def upgrade(
        *,
        database: Annotated[str | None, url_option] = None,
        data_directory: Annotated[Path | None, directory_option] = None,
    ) -> None:
        """Brings the tables up to date, as every start of the service does."""
        with told(service):
            for place, metadata in databases(database, data_directory):
                with _opened(place, metadata) as engine:
                    done = migrations.upgrade(engine, _migrations(metadata))
                was = done.found or "no tables"
                typer.echo(f"{_name(metadata)}: {was} -> {done.newest}")

    return app


def _state(place: Place, metadata: sa.MetaData) -> tuple[str, str]:
    with _opened(place, metadata) as engine:
        state = migrations.state(engine, _migrations(metadata))
    return state.found, state.newest


def _findings(place: Place, metadata: sa.MetaData) -> Iterator[str]:
    found, newest = _state(place, metadata)
    if found != newest:
        yield f"version {found or 'none'}, needs {newest}"
        return
    with _opened(place, metadata) as engine:
        yield from migrations.differences(engine, metadata)


@contextlib.contextmanager
def _opened(place: Place, metadata: sa.MetaData) -> Iterator[sa.Engine]:
    if isinstance(place, sa.URL):
        engine = postgres_engine(place, _migrations(metadata).schema)
    else:
        engine = open_engine(place)
    try:
        yield engine
    except sa.exc.OperationalError as error:
        why = str(error.orig).strip()
        raise UnavailableError(f"{named(place)} cannot be opened: {why}") from None
    finally:
        engine.dispose()


def _migrations(metadata: sa.MetaData) -> migrations.Migrations:
    owner = migrations.migrations_of(metadata)
    if owner is None:
        raise AssertionError("these tables have no revisions")
    return owner


def _name(metadata: sa.MetaData) -> str:
    return _migrations(metadata).name
