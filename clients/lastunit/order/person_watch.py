"""Follows what changes about persons, so that no kept answer about an account outlives a change.

Owns how far that was followed, and the rows of accounts that are of another person than the one
they were made with. Every process follows for its own memory; what is written is the same from
each. Must not decide who is who.
Next: `lastunit.order.persons`; `lastunit.order.views` lists the orders of a person by these rows.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

import sqlalchemy as sa

from lastunit.order import schema, store
from lastunit.order.persons import ACCOUNTS_PER_CALL_MAX, AccountPort
from lastunit.service import sql
from lastunit.service.database import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from lastunit.account.v1 import account_service_pb2
    from lastunit.order.persons import PersonDirectory, ResolvedPerson
    from lastunit.service.database import Database

__all__ = ["PersonWatch", "PersonsPort"]

# Under which name the place in the account service's changes is kept.
_PERSONS: Final = "persons"

_log: Final = logging.getLogger(__name__)


class PersonsPort(AccountPort, Protocol):
    """Reaches the account service, and hears of changes."""

    def watch_persons(
        self, after_sequence: int
    ) -> AsyncGenerator[account_service_pb2.WatchPersonsResponse]:
        """Gives out changes after one, without a gap, and signs of life in between."""
        ...


class PersonWatch:
    """Takes changes of persons in.

    Args:
        database: The order service's tables.
        accounts: The account service.
        directory: Is told what is outdated.

    Attributes:
        directory: The same.
        position: Sequence of the last change that is known here.
    """

    def __init__(
        self, *, database: Database, accounts: PersonsPort, directory: PersonDirectory
    ) -> None:
        self._database = database
        self._accounts = accounts
        self.directory = directory
        with database.read() as connection:
            # What came before this process has nothing in its memory to outdate.
            self.position = store.load_cursor(connection, _PERSONS)

    def messages(self) -> AsyncGenerator[account_service_pb2.WatchPersonsResponse]:
        """Opens the stream of what comes after the position."""
        return self._accounts.watch_persons(self.position)

    async def take(self, messages: Sequence[account_service_pb2.WatchPersonsResponse]) -> int:
        """Takes messages of the stream in; returns how many changes were new."""
        if any(message.refusal for message in messages):
            await self._start_anew()
            raise ConnectionError("the account service has lost changes; all are followed again")
        new = [
            event
            for message in messages
            for event in message.events
            if event.sequence > self.position
        ]
        changed = list(dict.fromkeys(each for event in new for each in event.account_ids))
        # Before anybody is asked: an answer from here on shows the change.
        self.directory.forget(changed)
        if new:
            await self._save(changed, new[-1].sequence)
            self.position = new[-1].sequence
        if self.position >= messages[-1].last_sequence:
            self.directory.note_heard()
        return len(new)

    async def _save(self, account_ids: Sequence[str], position: int) -> None:
        persons: dict[str, ResolvedPerson] = {}
        for start in range(0, len(account_ids), ACCOUNTS_PER_CALL_MAX):
            some = account_ids[start : start + ACCOUNTS_PER_CALL_MAX]
            persons.update(await self._accounts.resolve_persons(some))
        known = {each: person for each, person in persons.items() if person.version}
        await self._database.run(
            lambda connection: _save_persons(connection, known, position=position),
            lane=Lane.SETTLEMENT,
        )

    async def _start_anew(self) -> None:
        """Begins with the first change: the account service has not those that were followed."""
        _log.error(
            "the account service was put back to an earlier state; its changes are followed anew",
            extra={"followed_sequence": self.position},
        )
        self.directory.forget_all()
        await self._database.run(_forget_persons, lane=Lane.SETTLEMENT)
        self.position = 0


def _save_persons(
    connection: sa.Connection, persons: Mapping[str, ResolvedPerson], *, position: int
) -> None:
    """Saves who stands behind accounts now, and how far changes of persons were followed.

    Args:
        connection: Inside a transaction.
        persons: By account; answers that are older than what is there change nothing.
        position: Sequence of the last change that they show.
    """
    table = schema.person_accounts
    for account_id, person in persons.items():
        statement = sql.insert(connection, table).values(
            account_id=account_id, person_id=person.person_id, version=person.version
        )
        said = statement.excluded
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[table.c.account_id],
                set_={"person_id": said.person_id, "version": said.version},
                where=table.c.version < said.version,
            )
        )
    store.raise_cursor(connection, _PERSONS, position)


def _forget_persons(connection: sa.Connection) -> None:
    """Forgets what was saved of persons, to follow their changes from the first on."""
    connection.execute(sa.delete(schema.person_accounts))
    connection.execute(sa.delete(schema.cursors).where(schema.cursors.c.name == _PERSONS))
