"""Tells the ledger which persons count together, before anybody else is told.

Owns the cursor of what the ledger has. Must not decide who belongs together.
Next: `lastunit.account.person_events`.

What the ledger lost, because it was put back to an earlier state, is told again: the last events
whenever a process starts, and all of them when the ledger refuses one, which it does only if it
knows others than those it was told of. The id of each request to the ledger is made from the event,
so an event that is told twice, by this process after a crash or by another one, has its effect
once.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from lastunit.account import _tables, person_events
from lastunit.account.person_events import Kind
from lastunit.errors import LastunitError, StatusError, UnavailableError
from lastunit.service import sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.person_events import StoredEvent
    from lastunit.account.ports import Ledger
    from lastunit.service.database import Database

__all__ = ["LedgerFeeder", "NoLedger"]

_CURSOR: Final = "ledger"

# Events told by one step.
_STEP_MAX: Final = 64

# Events told again when a process starts: about a tenth of a second.
_OVERLAP: Final = 128

_log: Final = logging.getLogger(__name__)


class NoLedger:
    """Stands where no ledger was named: whatever must be told it cannot be done."""

    async def unite(self, source_person_id: str, target_person_id: str, *, request_id: str) -> None:
        """Refuses."""
        del source_person_id, target_person_id, request_id
        raise _no_ledger()

    async def split(self, person_ids: Sequence[str], *, request_id: str) -> None:
        """Refuses."""
        del person_ids, request_id
        raise _no_ledger()


class LedgerFeeder:
    """Tells the ledger each person event that concerns it, in order.

    Args:
        database: Opened with `_tables.metadata`.
        ledger: Who is told.

    Attributes:
        refusal_count: Events that the ledger refused, which made them all be told again.
    """

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger
        self._turn = asyncio.Lock()
        self._is_started = False
        self.refusal_count = 0

    async def reach(self, sequence: int) -> None:
        """Returns once the ledger has every event up to this one.

        Raises:
            UnavailableError: The ledger does not answer; `feed_once` tells it later.
        """
        async with self._turn:
            while self.position() < sequence:
                try:
                    await self._feed()
                except LastunitError as error:
                    raise UnavailableError(
                        "the ledger could not be told which persons count together; repeat the "
                        f"call with the same id: {error}",
                        reason="LEDGER_UNAVAILABLE",
                    ) from error

    async def feed_once(self) -> int:
        """Tells the ledger what it has not been told; returns how many events.

        Raises:
            LastunitError: It does not answer.
        """
        async with self._turn:
            return await self._feed()

    def position(self) -> int:
        """Returns the sequence of the last event that the ledger has; 0 if it has none."""
        table = _tables.cursors
        with self._database.read() as connection:
            found = connection.scalar(sa.select(table.c.sequence).where(table.c.name == _CURSOR))
        return int(found or 0)

    async def _feed(self) -> int:
        position = self.position()
        if not self._is_started:
            await self._tell_again(max(0, position - _OVERLAP), position)
            self._is_started = True
        events = self._read(position)
        for event in events:
            try:
                await self._tell(event)
            except StatusError as error:
                await self._agree_again(event, error)
        if events:
            await self._database.run(lambda connection: _advance(connection, events[-1].sequence))
        return len(events)

    async def _agree_again(self, event: StoredEvent, error: StatusError) -> None:
        """Tells everything once more when the ledger refuses an event, and then the event."""
        self.refusal_count += 1
        _log.error(
            "the ledger refused what changed about persons; it is told everything once more",
            extra={"sequence": event.sequence, "kind": event.kind.value, "why": str(error)},
        )
        await self._tell_again(0, event.sequence - 1)
        await self._tell(event)

    async def _tell_again(self, after: int, last: int) -> None:
        while after < last:
            for event in self._read(after):
                if event.sequence <= last:
                    await self._tell(event)
                after = event.sequence

    def _read(self, after: int) -> Sequence[StoredEvent]:
        with self._database.read() as connection:
            return person_events.read_after(connection, after, limit=_STEP_MAX)

    async def _tell(self, event: StoredEvent) -> None:
        request_id = _request_id(event)
        if event.kind in (Kind.PERSONS_UNITED, Kind.PERSONS_MERGED):
            await self._ledger.unite(event.person_id, event.other_person_id, request_id=request_id)
        elif event.kind is Kind.PERSONS_SPLIT and event.person_ids:
            await self._ledger.split(event.person_ids, request_id=request_id)


def _request_id(event: StoredEvent) -> str:
    """Returns the id under which an event is told: the same for each time that it is.

    Time and persons are in it beside the number, because the tables may have been put back to an
    earlier state, or begun anew: then a number comes again with another event.
    """
    told = (str(event.time_ms), event.kind.value, event.person_id, event.other_person_id)
    digest = hashlib.sha256("\0".join((*told, *event.person_ids)).encode()).hexdigest()[:16]
    return f"account-event-{event.sequence}-{digest}"


def _advance(connection: sa.Connection, sequence: int) -> None:
    """Moves the cursor forward; another process may be further."""
    table = _tables.cursors
    sql.insert_new(connection, table, {"name": _CURSOR, "sequence": 0})
    connection.execute(
        sa.update(table)
        .where(table.c.name == _CURSOR, table.c.sequence < sequence)
        .values(sequence=sequence)
    )


def _no_ledger() -> UnavailableError:
    return UnavailableError(
        "no ledger was named that counts limits; start the account service with"
        " --settlement-address",
        reason="LEDGER_NOT_CONFIGURED",
    )
