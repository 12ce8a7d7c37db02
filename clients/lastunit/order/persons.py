"""Finds the person behind an account, many accounts to a call, and remembers it for a while.

Owns the cache and the batching. Must not decide who is who: the account service does.
Next: `lastunit.order.core`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from lastunit.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastunit.service.clock import Clock

__all__ = ["AccountPort", "AccountState", "PersonDirectory", "ResolvedPerson"]

ACCOUNTS_PER_CALL_MAX: Final = 256
"""The contract's bound on one ResolvePerson call."""

# Calls under way at once: enough to keep the account service busy, few enough that accounts
# gather meanwhile and share the next call.
CALLS_AT_ONCE_MAX: Final = 2

# Who waits behind so many accounts has missed the sale anyway.
ACCOUNTS_WAITING_MAX: Final = 100_000

CACHED_MAX: Final = 200_000

# Two persons that became one count as one at the ledger at once; here the old name is good for
# this long, and the ledger maps it.
CACHED_MS: Final = 60_000


class AccountState(StrEnum):
    """What an account may do."""

    ACTIVE = "ACTIVE"
    LOCKED = "LOCKED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class ResolvedPerson:
    """Is who stands behind an account.

    Attributes:
        person_id: The live person; empty if the account is unknown.
        state: What the account may do.
    """

    person_id: str
    state: AccountState


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

    async def find(self, account_id: str) -> ResolvedPerson:
        """Returns who stands behind an account.

        Raises:
            BusyError: Too many accounts wait to be asked for.
            LastunitError: The account service did not answer.
        """
        cached = self._cached.get(account_id)
        if cached is not None and self._clock.now_ms() - cached[0] < CACHED_MS:
            return cached[1]
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
        now_ms = self._clock.now_ms()
        for account_id, future in futures.items():
            person = found.get(account_id, ResolvedPerson("", AccountState.UNKNOWN))
            if person.state is not AccountState.UNKNOWN:
                self._remember(account_id, person, now_ms)
            if not future.done():
                future.set_result(person)

    def _remember(self, account_id: str, person: ResolvedPerson, now_ms: int) -> None:
        self._cached.pop(account_id, None)
        while len(self._cached) >= CACHED_MAX:
            self._cached.popitem(last=False)
        self._cached[account_id] = (now_ms, person)
