"""How the writer deals with each kind of database: SQLite and PostgreSQL.

Owns what a transaction begins with, who runs its units, and how a lost server is told from a
failed unit. Must not know queues or callers. Next: `lastunit.service._writer`.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, Final, Protocol

import sqlalchemy as sa

from lastunit.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["WRITERS_LOCK", "PostgresWay", "SqliteWay", "Way", "unavailable", "way_of"]

# Of the two numbers of an advisory lock the first says what it is for; the second is the schema's.
# Chosen at random, so that another program in the same database hardly has the same ones.
WRITERS_LOCK: Final = 1_819_504_437

_LOCK_NOT_AVAILABLE: Final = "55P03"

# A retry that comes sooner finds the same lock taken.
_BUSY_RETRY_SECONDS: Final = 0.5


class Way(Protocol):
    """Is what the writer must know of a database."""

    may_use_loops: bool
    """Whether a unit never waits for a network, so that an event loop may run it."""

    def begin(self, driver: Any) -> str:
        """Makes this transaction the only one that writes; returns its token for `fate`."""
        ...

    def enter(self, driver: Any, *, is_first: bool) -> None:
        """Sets the savepoint of a unit, past SQLAlchemy, which costs more than a short unit."""
        ...

    def leave(self, driver: Any) -> None:
        """Keeps what the unit did."""
        ...

    def cancel(self, driver: Any) -> None:
        """Undoes what the unit did, and only that."""
        ...

    def undo(self, driver: Any) -> bool:
        """Ends whatever a failed transaction left open; returns whether the connection is fit."""
        ...

    def is_lost(self, error: BaseException, driver: Any | None) -> bool:
        """Tells whether an error means that the server went away."""
        ...

    def fate(self, driver: Any, token: str) -> bool | None:
        """Tells whether a transaction was committed; None while that is not decided."""
        ...

    def translate(self, error: Exception) -> Exception:
        """Returns what callers are told instead of an error of a whole transaction."""
        ...


class SqliteWay:
    """Is a file of this machine, whose engine takes the lock with BEGIN IMMEDIATE."""

    may_use_loops = True

    def begin(self, driver: Any) -> str:
        """Does nothing: the engine's own hook took the lock."""
        del driver
        return ""

    def enter(self, driver: Any, *, is_first: bool) -> None:
        """Sets a savepoint."""
        del is_first
        driver.execute("SAVEPOINT unit")

    def leave(self, driver: Any) -> None:
        """Releases it."""
        driver.execute("RELEASE unit")

    def cancel(self, driver: Any) -> None:
        """Goes back to it; fails if SQLite itself gave up the whole transaction."""
        driver.execute("ROLLBACK TO unit")
        driver.execute("RELEASE unit")

    def undo(self, driver: Any) -> bool:
        """Undoes what a failed commit may have left open, which SQLAlchemy takes for ended."""
        try:
            driver.rollback()
        except sqlite3.Error:
            return False
        return True

    def is_lost(self, error: BaseException, driver: Any | None) -> bool:
        """Says no: a file does not go away."""
        del error, driver
        return False

    def fate(self, driver: Any, token: str) -> bool | None:
        """Says no: what was not committed here was not committed."""
        del driver, token
        return False

    def translate(self, error: Exception) -> Exception:
        """Returns the error."""
        return error


class PostgresWay:
    """Is a server, which may go away at any time, even between COMMIT and its answer.

    One transaction at a time writes, over all processes: units read, decide and write as they do
    on SQLite, and neither overwrite what another process has decided nor deadlock with it.
    """

    may_use_loops = False

    # The transaction's number is what its fate can be asked by, from another connection.
    _BEGIN: Final = (
        f"SELECT pg_current_xact_id()::text "  # noqa: S608 - a constant of ours
        f"FROM pg_advisory_xact_lock({WRITERS_LOCK}, hashtext(current_schema()))"
    )
    _FATE: Final = "SELECT pg_xact_status(%s::text::xid8)"
    _FATES: Final[Mapping[str | None, bool | None]] = {"committed": True, "in progress": None}

    def begin(self, driver: Any) -> str:
        """Waits for the lock of all writers and returns the transaction's number."""
        return str(driver.execute(self._BEGIN).fetchone()[0])

    def enter(self, driver: Any, *, is_first: bool) -> None:
        """Sets a savepoint for the first unit; those after it find one."""
        if is_first:
            driver.execute("SAVEPOINT unit", prepare=False)

    def leave(self, driver: Any) -> None:
        """Releases it, and sets the next unit's on the same way to the server.

        Refused after a statement that failed and that the unit did not tell of.
        """
        driver.execute("RELEASE unit; SAVEPOINT unit", prepare=False)

    def cancel(self, driver: Any) -> None:
        """Goes back to it; it stays for the next unit."""
        driver.execute("ROLLBACK TO unit", prepare=False)

    def undo(self, driver: Any) -> bool:
        """Says no: another connection is cheaper than knowing the state of this one."""
        del driver
        return False

    def is_lost(self, error: BaseException, driver: Any | None) -> bool:
        """Tells by the connection; without one by the error of connecting."""
        if driver is None:
            return isinstance(error, sa.exc.OperationalError)
        return bool(driver.closed)

    def fate(self, driver: Any, token: str) -> bool | None:
        """Asks the server; a transaction that it does not know of any more has not happened."""
        try:
            status = driver.execute(self._FATE, (token,)).fetchone()[0]
        finally:
            driver.rollback()
        return self._FATES.get(status, False)

    def translate(self, error: Exception) -> Exception:
        """Says of a lock that is taken for long when to come back."""
        if not hasattr(error, "sqlstate"):
            return error
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            return UnavailableError(
                "another process writes into this database and does not end; try again",
                retry_after_seconds=_BUSY_RETRY_SECONDS,
                reason="DATABASE_BUSY",
            )
        # As if SQLAlchemy had run the statement, so that callers know one family of errors.
        return sa.exc.DBAPIError("a transaction", None, error)


def unavailable(*, is_unknown: bool) -> UnavailableError:
    """Returns what a caller is told while the server does not answer.

    Args:
        is_unknown: True if what was asked may have been committed all the same.
    """
    if is_unknown:
        return UnavailableError(
            "the database went away during a commit, and what came of it is not known; repeat "
            "the call with the same id",
            reason="DATABASE_OUTCOME_UNKNOWN",
        )
    return UnavailableError(
        "the database does not answer; nothing was written, repeat the call with the same id",
        reason="DATABASE_UNAVAILABLE",
    )


def way_of(engine: sa.Engine) -> Way:
    """Returns the way of an engine's kind of database."""
    return PostgresWay() if engine.dialect.name == "postgresql" else SqliteWay()
