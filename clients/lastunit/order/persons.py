"""Finds the person behind an account, many accounts to a call, and remembers it for a while.

Owns the cache and the batching. Must not decide who is who: the account service does.
Next: `lastunit.order.person_watch` tells it what is outdated.

An outdated answer breaks no limit: the ledger counts an account under its home person, which never
changes, and joins home persons itself. It may let a newly locked account in, for as long as below.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from lastunit.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lastunit.service.clock import Clock

__all__ = [
    "ACCOUNTS_PER_CALL_MAX",
    "UNKNOWN_PERSON",
    "AccountPort",
    "AccountState",
    "PersonDirectory",
    "ResolvedPerson",
]

ACCOUNTS_PER_CALL_MAX: Final = 256
"""The contract's bound on one ResolvePerson call."""

# Calls under way at once: enough to keep the account service busy, few enough that accounts
# gather meanwhile and share the next call.
CALLS_AT_ONCE_MAX: Final = 2

# Who waits behind so many accounts has missed the sale anyway.
ACCOUNTS_WAITING_MAX: Final = 100_000

CACHED_MAX: Final = 200_000

# How long an answer is good while changes are heard of, and while they are not. The first is not
# for ever, because an account service of two processes may give an outdated answer just after a
# change.
WATCHED_MS: Final = 600_000
CACHED_MS: Final = 60_000

# A stream of changes that says nothing for so long, three times its sign of life, has broken.
HEARD_MS: Final = 30_000


class AccountState(StrEnum):
    """What an account may do."""

    ACTIVE = "ACTIVE"
    LOCKED = "LOCKED"
    CLOSED = "CLOSED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class ResolvedPerson:
    """Is who stands behind an account.

    Attributes:
        person_id: The live person; empty if the account is unknown.
        home_person_id: The person the account was made with, whom the ledger counts it under;
            empty if the account is unknown.
        state: What the account may do.
        version: Rises with each change; 0 if the account is unknown.
    """

    person_id: str
    home_person_id: str
    state: AccountState
    version: int = 1


UNKNOWN_PERSON: Final = ResolvedPerson("", "", AccountState.UNKNOWN, 0)


class AccountPort(Protocol):
    """Reaches the account service."""

    async def resolve_persons(self, account_ids: Sequence[str]) -> Mapping[str, ResolvedPerson]:
        """Returns the persons of 1 to 256 accounts; one that is missing is unknown.

        Raises:
            LastunitError: The account service did not answer.
        """
        ...


class PersonDirectory:
    """Answers from memory, or asks for many accounts at once.

    Args:
        accounts: The account service.
        clock: Says how old an answer is.
        gather_seconds: Pause before a call in which further accounts get onto it, 0 or more.

    Attributes:
        hit_count: Answers that were given from memory.
        miss_count: Answers that had to be asked for, alone or on the call of another.
        call_count: Calls of the account service.
    """

    def __init__(self, accounts: AccountPort, clock: Clock, *, gather_seconds: float = 0.0) -> None:
        if gather_seconds < 0:
            raise ValueError(f"gather_seconds is {gather_seconds}; it must be 0 or more")
        self._accounts = accounts
        self._clock = clock
        self._gather_seconds = gather_seconds
        # Oldest first, so that the bound drops what is least likely to be valid.
        self._cached: OrderedDict[str, tuple[int, ResolvedPerson]] = OrderedDict()
        self._waiting: dict[str, asyncio.Future[ResolvedPerson]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        # Calls under way with the accounts that changed meanwhile, which are not remembered.
        self._asked: list[tuple[Collection[str], set[str]]] = []
        self._heard_ms: int | None = None
        self.hit_count = 0
        self.miss_count = 0
        self.call_count = 0

    async def find(self, account_id: str) -> ResolvedPerson:
        """Returns who stands behind an account.

        Raises:
            BusyError: Too many accounts wait to be asked for.
            LastunitError: The account service did not answer.
        """
        cached = self._cached.get(account_id)
        if cached is not None and self._clock.now_ms() - cached[0] < self._good_ms():
            self.hit_count += 1
            return cached[1]
        self.miss_count += 1
        future = self._waiting.get(account_id)
        if future is None:
            if len(self._waiting) >= ACCOUNTS_WAITING_MAX:
                raise BusyError(
                    f"{ACCOUNTS_WAITING_MAX} accounts wait to be resolved; try later",
                    limit=ACCOUNTS_WAITING_MAX,
                )
            future = asyncio.get_running_loop().create_future()
            self._waiting[account_id] = future
            self._start_calls()
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(future)

    def forget(self, account_ids: Iterable[str]) -> None:
        """Drops the answers that a change has made outdated."""
        for account_id in account_ids:
            self._cached.pop(account_id, None)
            for asked, changed in self._asked:
                if account_id in asked:
                    changed.add(account_id)

    def forget_all(self) -> None:
        """Drops every answer: changes may have been missed."""
        self._cached.clear()
        for asked, changed in self._asked:
            changed.update(asked)
        self._heard_ms = None

    def note_heard(self) -> None:
        """Notes that every change up to now was heard of."""
        self._heard_ms = self._clock.now_ms()

    def _good_ms(self) -> int:
        is_heard = self._heard_ms is not None and self._clock.now_ms() - self._heard_ms < HEARD_MS
        return WATCHED_MS if is_heard else CACHED_MS

    def _start_calls(self) -> None:
        if len(self._calls) < CALLS_AT_ONCE_MAX:
            call = asyncio.get_running_loop().create_task(self._resolve_waiting())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _resolve_waiting(self) -> None:
        # Lets at least every caller of this turn of the loop get onto the same call.
        await asyncio.sleep(self._gather_seconds)
        try:
            while self._waiting:
                taken = list(self._waiting)[:ACCOUNTS_PER_CALL_MAX]
                futures = {account_id: self._waiting.pop(account_id) for account_id in taken}
                await self._resolve(futures)
        finally:
            # In the same turn in which nobody was waiting: a task that has stopped looking but
            # still counts would keep the next caller's call from being started, for ever.
            task = asyncio.current_task()
            if task is not None:
                self._calls.discard(task)

    async def _resolve(self, futures: Mapping[str, asyncio.Future[ResolvedPerson]]) -> None:
        self.call_count += 1
        changed: set[str] = set()
        self._asked.append((futures, changed))
        try:
            found = await self._accounts.resolve_persons(tuple(futures))
        except asyncio.CancelledError:
            for future in futures.values():
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, its callers must be told
            for future in futures.values():
                if not future.done():
                    future.set_exception(error)
                    # Its callers may all be gone; then nobody is left to be told.
                    future.exception()
            return
        finally:
            self._asked.remove((futures, changed))
        now_ms = self._clock.now_ms()
        for account_id, future in futures.items():
            person = found.get(account_id, UNKNOWN_PERSON)
            if person.state is not AccountState.UNKNOWN and account_id not in changed:
                self._remember(account_id, person, now_ms)
            if not future.done():
                future.set_result(person)

    def _remember(self, account_id: str, person: ResolvedPerson, now_ms: int) -> None:
        self._cached.pop(account_id, None)
        while len(self._cached) >= CACHED_MAX:
            self._cached.popitem(last=False)
        self._cached[account_id] = (now_ms, person)
