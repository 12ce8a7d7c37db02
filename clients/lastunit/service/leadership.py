"""Says which one of several processes does what needs to be done once.

Owns a session of its own at the database, and what is held by it: the lead of a task, or the word
that a service is running. Must not make anything correct by itself: whoever led until now may be
in the middle of a call, so each call must bear to be made twice.
Next: docs/decisions/0010-two-processes-on-postgresql.md says why it is so.

On PostgreSQL the lead is an advisory lock of a session: the server gives it back the moment the
process dies, and after `SESSION_SECONDS` if it hangs. A file of SQLite belongs to one process,
which leads.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from lastunit.service.database import Database

__all__ = ["InUseError", "Leadership", "attending"]

# First numbers of the advisory locks; see `_ways.WRITERS_LOCK`.
LEADERS_LOCK: Final = 1_819_504_438
PRESENCE_LOCK: Final = 1_819_504_439

SESSION_SECONDS: Final = 5.0
"""A session that says nothing for so long is ended by the server, and its locks are free."""

# What is held was held at the last word from the server; after this it may be another's.
_LEAD_SECONDS: Final = 4.0

# How often the lead is tried for, and kept.
_LOOK_SECONDS: Final = 0.25

_TRY: Final = sa.text("SELECT pg_try_advisory_lock(:lock, hashtext(current_schema() || :task))")
_KEEP: Final = sa.text("SELECT 1")
_ATTEND: Final = sa.text("SELECT pg_try_advisory_lock_shared(:lock, hashtext(current_schema()))")
_ATTEND_ALONE: Final = sa.text("SELECT pg_try_advisory_lock(:lock, hashtext(current_schema()))")

_log: Final = logging.getLogger(__name__)


class InUseError(Exception):
    """A database is in use by a process that must not run beside this one."""


class Leadership:
    """Tries to lead a task for as long as it is started.

    Args:
        database: What all processes share.
        task: Name of the task; one process at a time leads each.
        look_seconds: Pause between two looks, more than 0.
    """

    def __init__(
        self, database: Database, task: str, *, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        self._engine = database.engine
        self._task = task
        self._look_seconds = look_seconds
        self._is_alone = database.engine.dialect.name != "postgresql"
        # Until when the lead is certain, on the monotonic clock.
        self._until = 0.0
        self._connection: sa.Connection | None = None
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lead-{task}", daemon=True)

    @property
    def is_leading(self) -> bool:
        """Whether this process leads; False as soon as it might not."""
        return self._is_alone or time.monotonic() < self._until

    def led(self, step: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
        """Returns a step that does nothing while another process leads."""

        async def led_step() -> int:
            return await step() if self.is_leading else 0

        return led_step

    def start(self) -> None:
        """Begins to try."""
        if not self._is_alone:
            self._thread.start()

    def stop(self) -> None:
        """Gives the lead back at once."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._let_go()

    def _run(self) -> None:
        while not self._is_stopping.is_set():
            try:
                self._look()
            except sa.exc.DBAPIError as error:
                why = str(getattr(error, "orig", None) or error)
                if self.is_leading:
                    _log.warning("the lead is lost", extra={"task": self._task, "why": why})
                self._let_go()
            self._is_stopping.wait(self._look_seconds)

    def _look(self) -> None:
        # Counted from before the question: the server's own clock runs from then at the earliest.
        asked = time.monotonic()
        if self._connection is None:
            self._connection = _session(self._engine)
        is_mine = self._until > 0
        if is_mine:
            self._connection.execute(_KEEP)
        else:
            values = {"lock": LEADERS_LOCK, "task": f"/{self._task}"}
            is_mine = bool(self._connection.execute(_TRY, values).scalar_one())
            if is_mine:
                _log.info("this process leads now", extra={"task": self._task})
        self._until = asked + _LEAD_SECONDS if is_mine else 0.0

    def _let_go(self) -> None:
        self._until = 0.0
        connection, self._connection = self._connection, None
        if connection is not None:
            # The lock goes with the session, whatever state that is in.
            connection.invalidate()
            connection.close()


def _session(engine: sa.Engine) -> sa.Connection:
    """Opens a session that the server ends if it is not heard of."""
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    milliseconds = round(SESSION_SECONDS * 1_000)
    connection.exec_driver_sql(f"SET idle_session_timeout = {milliseconds}")
    return connection


@contextlib.contextmanager
def attending(database: Database, *, is_alone: bool = False) -> Iterator[None]:
    """Marks a database as in use by this process while the block runs.

    Args:
        database: Which one; one in memory is nobody else's.
        is_alone: True for what must not run while a service does. Services attend together.

    Raises:
        InUseError: Somebody is there who must not be.
    """
    if database.engine.dialect.name == "postgresql":
        held: Any = _attend_server(database.engine, is_alone=is_alone)
    elif database.engine.url.database:
        held = _attend_file(Path(database.engine.url.database), is_alone=is_alone)
    else:
        held = contextlib.nullcontext()
    with held:
        yield


@contextlib.contextmanager
def _attend_server(engine: sa.Engine, *, is_alone: bool) -> Iterator[None]:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        wanted = _ATTEND_ALONE if is_alone else _ATTEND
        if not connection.execute(wanted, {"lock": PRESENCE_LOCK}).scalar_one():
            raise InUseError(_in_use(is_alone=is_alone))
        yield


@contextlib.contextmanager
def _attend_file(path: Path, *, is_alone: bool) -> Iterator[None]:
    with path.with_name(path.name + ".lock").open("ab") as lock:
        kind = fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(_in_use(is_alone=is_alone)) from None
        yield


def _in_use(*, is_alone: bool) -> str:
    if is_alone:
        return "a service runs on this database; stop every one, then try again"
    return "something that must be alone works on this database; start when it has ended"
