"""The writer: one thread, and many units of work in one durable transaction.

Owns the queue, the order of lanes and the group commit. Must not know tables or services.
Next: `lastunit.service.database`.

While one transaction commits, what arrives waits and becomes the next one, so the group grows
with the load by itself. A unit runs inside a savepoint: if it fails, it alone is undone.

The thread takes the lock of the database and waits for the disk. What the units do in between
runs on the event loop they came from, see `Writer._run_all`, unless the database is a server.

A server may go away. Then the group is run again on a new connection, for a while; if it went away
during the commit, it is asked first what became of it.
"""

from __future__ import annotations

import asyncio
import enum
import inspect
import logging
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from lastunit.errors import BusyError, ClosedError
from lastunit.service._ways import Way, unavailable, way_of

if TYPE_CHECKING:
    import sqlalchemy as sa

ResultT = TypeVar("ResultT")

_log: Final = logging.getLogger(__name__)

Pace = Callable[[], Awaitable[None] | None]
"""Called once before each unit of work, in the writer's thread; it returns when work may go on.

An awaitable it returns is awaited on an event loop of the writer's own.
"""

# A unit that waits behind this many others has missed its caller's deadline anyway.
UNITS_QUEUED_MAX: Final = 65_536

# Bounds how long a reply waits for its group, and how much one failed commit takes with it.
UNITS_PER_TRANSACTION_MAX: Final = 512


# Upper bounds in seconds of how long transactions take; the last span is open.
COMMIT_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# How long a group waits for a server that went away, counted from when that was noticed: shorter
# than a caller's deadline of 5 s, longer than a server's restart. Then its callers are told.
OUTAGE_SECONDS_MAX: Final = 4.0
_RECONNECT_PAUSE_SECONDS: Final = 0.05
_RECONNECT_PAUSE_SECONDS_MAX: Final = 0.5

# How long a loop's thread runs units before it serves its other callers.
_LOOP_SLICE_SECONDS: Final = 0.01

# A loop that has not come round in this time waits for the writer itself, or is lost.
_LOOP_PATIENCE_SECONDS: Final = 1.0
_LOOP_CHECK_SECONDS: Final = 0.05


class Lane(enum.IntEnum):
    """The order in which queued units of work are taken; lower goes first."""

    SETTLEMENT = 0
    RESERVATION = 1


class TransactionRunner(Protocol):
    """Is all that service logic needs of a writer, so that a simulation can bring its own."""

    async def run(
        self, work: Callable[[sa.Connection], ResultT], *, lane: Lane = Lane.RESERVATION
    ) -> ResultT:
        """Runs a unit of work in a transaction and returns once it is durable."""
        ...


def steady_pace(transactions_per_second: float) -> Pace:
    """Returns a pace that lets units through one by one at a steady rate.

    Args:
        transactions_per_second: More than 0. Time in which nothing waited is not saved up.
    """
    if transactions_per_second <= 0:
        raise ValueError(
            f"transactions_per_second is {transactions_per_second}; it must be more than 0"
        )
    interval_seconds = 1 / transactions_per_second
    next_time = 0.0

    def wait_for_turn() -> None:
        nonlocal next_time
        now = time.monotonic()
        # Sleeps are late by a little each time; the schedule, not the sleep, sets the rate.
        turn = max(now, next_time)
        next_time = turn + interval_seconds
        time.sleep(turn - now)

    return wait_for_turn


@dataclass(slots=True, eq=False)
class _Unit:
    work: Callable[[sa.Connection], Any]
    future: Future[Any] | asyncio.Future[Any]
    # None for a plain future, which any thread may resolve.
    loop: asyncio.AbstractEventLoop | None
    # Seconds of the monotonic clock when it was queued.
    queued_at: float = 0.0
    value: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)


def _resolve_all(units: list[_Unit]) -> None:
    for unit in units:
        unit.resolve()


class Writer:
    """Runs units of work in one thread, many to a transaction.

    Args:
        engine: As `open_engine` makes it.
        pace: Slows the writer down: it is called before each unit, each unit then commits
            alone, and the lane is chosen after the wait, so that settlement overtakes.
        is_threaded: False runs each unit at once in the caller's thread and transaction of its
            own, so that a simulation is deterministic.
        units_queued_max: Units that may wait, 1 or more; one more is refused.
        units_per_transaction_max: Units that share a commit, 1 or more.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        pace: Pace | None = None,
        is_threaded: bool = True,
        units_queued_max: int = UNITS_QUEUED_MAX,
        units_per_transaction_max: int = UNITS_PER_TRANSACTION_MAX,
    ) -> None:
        if units_queued_max < 1 or units_per_transaction_max < 1:
            raise ValueError("units_queued_max and units_per_transaction_max must be 1 or more")
        self._engine = engine
        self._way: Way = way_of(engine)
        self._pace = pace
        self._units_queued_max = units_queued_max
        self._group_max = 1 if pace is not None else units_per_transaction_max
        # Guards the queues and the flag; the thread waits on it when nothing is queued.
        self._changed = threading.Condition()
        self._queues: tuple[deque[_Unit], ...] = tuple(deque() for _ in Lane)
        self._is_closed = False
        # Written by the thread that commits only; whoever reads them may be one commit behind.
        self.unit_count = 0
        self.failure_count = 0
        self.commit_spans = [0] * (len(COMMIT_BOUNDS) + 1)
        self.commit_seconds = 0.0
        self.busy_seconds = 0.0
        self._connection: sa.Connection | None = None
        self._driver: Any = None
        # When the server was first found gone, on the monotonic clock; None while it answers.
        self._lost_at: float | None = None
        self._thread: threading.Thread | None = None
        if is_threaded:
            self._thread = threading.Thread(target=self._serve, name="writer", daemon=True)
            self._thread.start()

    @property
    def queued_count(self) -> int:
        """How many units of work wait to be started."""
        return sum(map(len, self._queues))

    def oldest_wait_seconds(self, lane: Lane) -> float:
        """Returns how long the oldest unit of a lane waits to be started; 0 if none does."""
        with self._changed:
            queue = self._queues[lane]
            return time.monotonic() - queue[0].queued_at if queue else 0.0

    async def run(
        self, work: Callable[[sa.Connection], ResultT], *, lane: Lane = Lane.RESERVATION
    ) -> ResultT:
        """Runs a unit of work and returns once it is durable.

        A unit whose caller was cancelled before it started is dropped; one that has started
        is committed all the same.

        Args:
            work: Called with a connection inside a transaction, in the writer's thread or in
                this loop's. It must not commit, roll back or wait for anything. If it raises,
                its changes alone are undone. It is called again, in another transaction, if the
                server went away before the first one was committed.
            lane: SETTLEMENT units start before RESERVATION ones.

        Returns:
            What `work` returned.

        Raises:
            BusyError: The queue is full; nothing was started.
            ClosedError: The writer is closed.
            UnavailableError: The server does not answer. With reason DATABASE_OUTCOME_UNKNOWN the
                unit may be durable all the same: whoever repeats it must do so under the same id.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ResultT] = loop.create_future()
        self._enqueue(_Unit(work=work, future=future, loop=loop), lane)
        return await future

    def submit(
        self, work: Callable[[sa.Connection], ResultT], *, lane: Lane = Lane.RESERVATION
    ) -> Future[ResultT]:
        """Is `run` for threads: the future resolves once the unit is durable."""
        future: Future[ResultT] = Future()
        self._enqueue(_Unit(work=work, future=future, loop=None), lane)
        return future

    def close(self) -> None:
        """Runs what is queued, without `pace`, commits it and ends the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._drop_connection()

    def _enqueue(self, unit: _Unit, lane: Lane) -> None:
        with self._changed:
            if self._is_closed:
                raise ClosedError("the writer is closed; the service is shutting down")
            if self.queued_count >= self._units_queued_max:
                raise BusyError(
                    f"{self._units_queued_max} units of work wait for the database; try later",
                    limit=self._units_queued_max,
                )
            if self._thread is not None:
                unit.queued_at = time.monotonic()
                self._queues[lane].append(unit)
                self._changed.notify()
                return
        self._commit([unit])
        unit.resolve()

    def _serve(self) -> None:
        with asyncio.Runner() as runner:
            while self._wait_for_work():
                begun = time.monotonic()
                self._keep_pace(runner)
                units = self._take()
                self._commit(units)
                self._report(units)
                self.busy_seconds += time.monotonic() - begun

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._is_closed and not self.queued_count:
                self._changed.wait()
            return self.queued_count > 0

    def _keep_pace(self, runner: asyncio.Runner) -> None:
        if self._pace is None or self._is_closed:
            return
        waiting = self._pace()
        if inspect.isawaitable(waiting):
            runner.run(_finish(waiting))

    def _take(self) -> list[_Unit]:
        units: list[_Unit] = []
        with self._changed:
            for queue in self._queues:
                while queue and len(units) < self._group_max:
                    unit = queue.popleft()
                    if not unit.future.cancelled():
                        units.append(unit)
        return units

    def _commit(self, units: list[_Unit]) -> None:
        """Runs the units in one transaction and leaves each with its value or its error."""
        if not units:
            return
        begun = time.monotonic()
        try:
            self._commit_patiently(units)
        except Exception as error:  # noqa: BLE001 - whatever it is, its callers must be told
            told = self._way.translate(error)
            for unit in units:
                unit.error = unit.error or told
            self.failure_count += 1
        self._count(len(units), time.monotonic() - begun)

    def _commit_patiently(self, units: list[_Unit]) -> None:
        """Commits the group once, however often the server goes away meanwhile."""
        commit = _Commit()
        pause = _RECONNECT_PAUSE_SECONDS
        while True:
            try:
                self._connect()
                if not self._is_committed(commit):
                    self._commit_once(units, commit)
            except _UndecidedError as error:
                self._bear_outage(units, commit, error)
            except Exception as error:
                is_lost = self._way.is_lost(error, self._driver)
                self._abandon_connection()
                if not is_lost:
                    raise
                self._bear_outage(units, commit, error)
            else:
                self._end_outage()
                return
            time.sleep(pause)
            pause = min(2 * pause, _RECONNECT_PAUSE_SECONDS_MAX)

    def _connect(self) -> None:
        if self._connection is None:
            self._driver = None
            self._connection = self._engine.connect()
            self._driver = self._connection.connection.driver_connection

    def _commit_once(self, units: list[_Unit], commit: _Commit) -> None:
        connection = self._connection
        assert connection is not None
        for unit in units:
            unit.value = unit.error = None
        transaction = connection.begin()
        token = self._way.begin(self._driver)
        self._run_all(units, connection)
        # From here on the server may have committed although nobody hears of it.
        commit.token = token
        transaction.commit()

    def _is_committed(self, commit: _Commit) -> bool:
        """Asks what became of a commit that got no answer."""
        if not commit.token:
            return False
        try:
            fate = self._way.fate(self._driver, commit.token)
        except Exception as error:
            if self._way.is_lost(error, self._driver):
                raise
            # A server that never heard of the transaction cannot tell: another one, most likely.
            raise _UndecidedError from error
        if fate is None:
            raise _UndecidedError
        if not fate:
            commit.token = ""
        return fate

    def _bear_outage(self, units: list[_Unit], commit: _Commit, error: Exception) -> None:
        """Lets the group wait a little longer for the server, or ends its patience."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            why = str(getattr(error, "orig", None) or error)
            _log.warning("the database went away; what waits is written again", extra={"why": why})
        if now - self._lost_at < OUTAGE_SECONDS_MAX:
            return
        told = unavailable(is_unknown=bool(commit.token))
        for unit in units:
            unit.error = told
        raise told from error

    def _end_outage(self) -> None:
        if self._lost_at is not None:
            self._lost_at = None
            _log.info("the database is back")

    def _count(self, unit_count: int, seconds: float) -> None:
        self.unit_count += unit_count
        self.commit_spans[bisect_left(COMMIT_BOUNDS, seconds)] += 1
        self.commit_seconds += seconds

    def _run_all(self, units: list[_Unit], connection: sa.Connection) -> None:
        """Runs the units where they came from, if that is one event loop.

        Each statement gives the interpreter's lock away and must win it back. Beside a busy loop
        that takes a switch interval each time, so the loop's own thread does the work, which has
        the lock already; this thread keeps what waits for locks and disks.
        """
        errand = _Errand(units, connection, self._driver, self._way)
        loops = {unit.loop for unit in units}
        loop = loops.pop() if len(loops) == 1 else None
        # A paced unit commits alone: there a loop's delay would not be shared by a group. A unit on
        # a server waits for the network with each statement, which a loop must never do.
        is_alone = self._pace is not None or self._thread is None or not self._way.may_use_loops
        if loop is None or is_alone or loop.is_closed():
            errand.run_here()
        else:
            errand.run_there(loop, until=lambda: self._is_closed)
        if errand.error is not None:
            raise errand.error

    def _abandon_connection(self) -> None:
        if self._connection is None:
            return
        if not self._way.undo(self._driver):
            self._connection.invalidate()
        self._drop_connection()

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _report(self, units: list[_Unit]) -> None:
        """Resolves the futures; one wake-up for each event loop, not one for each unit."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Unit]] = {}
        for unit in units:
            if unit.loop is None:
                unit.resolve()
            else:
                by_loop.setdefault(unit.loop, []).append(unit)
        for loop, waiting in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve_all, waiting)


@dataclass(slots=True)
class _Commit:
    """What is known of a group's commit: the token of one that was sent and not answered."""

    token: str = ""


class _UndecidedError(Exception):
    """The server has not yet decided on a commit: its own connection has not noticed the end."""


class _Errand:
    """The units of one transaction, to be run by whoever comes first."""

    def __init__(
        self, units: list[_Unit], connection: sa.Connection, driver: Any, way: Way
    ) -> None:
        self._units = iter(units)
        self._connection = connection
        self._driver = driver
        self._way = way
        self._is_first = True
        # Held by the thread that runs units, so that the other one cannot.
        self._turn = threading.Lock()
        self._done = threading.Event()
        self.error: Exception | None = None

    def run_here(self) -> None:
        """Runs what is left of the units in this thread."""
        with self._turn:
            self._run(until=float("inf"))

    def run_there(self, loop: asyncio.AbstractEventLoop, *, until: Callable[[], bool]) -> None:
        """Lets a loop's thread run the units; does it here if the loop cannot.

        A loop that waits for this writer, in `close` or for a future, would wait for ever.
        """
        loop.call_soon_threadsafe(self._run_slice, loop)
        patience = time.monotonic() + _LOOP_PATIENCE_SECONDS
        while not self._done.wait(_LOOP_CHECK_SECONDS):
            if until() or loop.is_closed() or time.monotonic() > patience:
                self.run_here()

    def _run_slice(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._done.is_set() or not self._turn.acquire(blocking=False):
            return
        try:
            self._run(until=time.monotonic() + _LOOP_SLICE_SECONDS)
        finally:
            self._turn.release()
        if not self._done.is_set():
            loop.call_soon(self._run_slice, loop)

    def _run(self, *, until: float) -> None:
        if self._done.is_set():
            return
        try:
            for unit in self._units:
                self._way.enter(self._driver, is_first=self._is_first)
                self._is_first = False
                _run_inside(unit, self._connection, self._driver, self._way)
                if time.monotonic() > until:
                    return
        except Exception as error:  # noqa: BLE001 - the group fails as one, in the writer's thread
            self.error = error
        self._done.set()


async def _finish(waiting: Awaitable[None]) -> None:
    await waiting


def _run_inside(unit: _Unit, connection: sa.Connection, driver: Any, way: Way) -> None:
    """Runs one unit inside of its savepoint; if it fails, undoes it alone."""
    try:
        unit.value = unit.work(connection)
        # Here, because PostgreSQL refuses it after a statement that failed and was not told of.
        way.leave(driver)
    except Exception as error:  # noqa: BLE001 - it is the unit's own error, told to its caller
        unit.error = error
        # Fails if the database itself gave up the whole transaction; then the group fails as one.
        way.cancel(driver)
