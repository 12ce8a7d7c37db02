"""Streams what changes about persons: WatchPersons; and keeps this process's own answers fresh.

Owns who watches and the end of every watch. What a watcher is told is read from the list after the
number it has, so a wake-up that comes twice, or not at all, changes nothing: the list is looked at
from time to time as well, because another process may have written. Must not write.
Next: `lastunit.account.person_events`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lastunit.account import person_events, views
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lastunit.account.resolving import Directory
    from lastunit.service.database import Database

__all__ = ["PersonWatch"]

# Events in one message.
_PAGE_MAX: Final = 256

# Followers are services, a few processes each.
WATCHERS_MAX: Final = 64

_HEARTBEAT_SECONDS: Final = 10.0


class PersonWatch:
    """Follows the list of person events.

    Args:
        database: Opened with `_tables.metadata`.
        directory: Forgets what an event makes outdated.
        heartbeat_seconds: A stream that has nothing to tell says so after this, more than 0.
    """

    def __init__(
        self,
        database: Database,
        directory: Directory,
        *,
        heartbeat_seconds: float = _HEARTBEAT_SECONDS,
    ) -> None:
        self._database = database
        self._directory = directory
        self._heartbeat_seconds = heartbeat_seconds
        self._is_closing = False
        self._watchers: set[asyncio.Event] = set()
        with database.read() as connection:
            self._seen = person_events.last_sequence(connection)

    @property
    def count(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def notify(self) -> None:
        """Wakes every watcher; called in the thread of the event loop."""
        for watcher in self._watchers:
            watcher.set()

    def close(self) -> None:
        """Ends every stream, cleanly, and those that come yet; a client goes on elsewhere."""
        self._is_closing = True
        self.notify()

    async def follow_once(self) -> int:
        """Takes in what any process has written; returns how many events that were."""
        with self._database.read() as connection:
            events = person_events.read_after(connection, self._seen, limit=_PAGE_MAX)
        for event in events:
            self._directory.forget(event.account_ids)
            self._seen = event.sequence
        if events:
            self.notify()
        return len(events)

    async def WatchPersons(  # noqa: N802 - named by the contract
        self, request: pb.WatchPersonsRequest, _context: object
    ) -> AsyncIterator[pb.WatchPersonsResponse]:
        """Streams the events after one, at once and as they come."""
        if self.count >= WATCHERS_MAX:
            raise BusyError(
                f"{WATCHERS_MAX} clients watch persons already; end one of them",
                limit=WATCHERS_MAX,
            )
        known = request.after_sequence
        woken = asyncio.Event()
        # Before the first look: what comes from here on wakes it.
        self._watchers.add(woken)
        try:
            is_asleep = False
            while True:
                woken.clear()
                response = self._read(known)
                if response.events:
                    known = response.events[-1].sequence
                if response.events or response.refusal or not is_asleep:
                    yield response
                if response.refusal or self._is_closing:
                    return
                if known < response.last_sequence:
                    continue
                is_asleep = await self._sleep(woken)
        finally:
            self._watchers.discard(woken)

    async def _sleep(self, woken: asyncio.Event) -> bool:
        """Waits for news; returns False when it is time to show that the stream lives."""
        try:
            async with asyncio.timeout(self._heartbeat_seconds):
                await woken.wait()
        except TimeoutError:
            return False
        return True

    def _read(self, known: int) -> pb.WatchPersonsResponse:
        with self._database.read() as connection:
            last = person_events.last_sequence(connection)
            events = person_events.read_after(connection, known, limit=_PAGE_MAX)
        if known > last and not events:
            return pb.WatchPersonsResponse(refusal=pb.REFUSAL_UNKNOWN_SEQUENCE, last_sequence=last)
        return pb.WatchPersonsResponse(
            events=[views.event(each) for each in events], last_sequence=last
        )
