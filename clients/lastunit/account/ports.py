"""What the account service needs of others, as protocols.

Owns the words between the parts and whoever serves them. Must not do anything.
Next: `lastunit.account.feeding` for the ledger, `lastunit.account.name_checker`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import sqlalchemy as sa

    from lastunit.account.proving import Checked
    from lastunit.account.resolving import Directory
    from lastunit.account.v1 import account_service_pb2 as pb
    from lastunit.account.vault import Vault
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["Ledger", "LedgerFeed", "Means", "NameChecker", "Notices", "Proofs"]


class Ledger(Protocol):
    """Counts limits by persons; both calls return once they are durable, a repeat does nothing."""

    async def unite(self, source_person_id: str, target_person_id: str, *, request_id: str) -> None:
        """Lets two persons count as one.

        Raises:
            LastunitError: It did not answer.
        """
        ...

    async def split(self, person_ids: Sequence[str], *, request_id: str) -> None:
        """Lets 1 to 64 persons count together and apart from all others.

        Raises:
            LastunitError: It did not answer.
        """
        ...


class LedgerFeed(Protocol):
    """Tells the ledger what happened to persons."""

    async def reach(self, sequence: int) -> None:
        """Returns once the ledger has every person event up to this one.

        Raises:
            UnavailableError: The ledger does not answer; it will be told later.
        """
        ...


class NameChecker(Protocol):
    """Says whether a real name is one."""

    async def check(self, name: str, number: str) -> bool:
        """Tells whether a document has this name and this number.

        Raises:
            LastunitError: The checker did not answer.
        """
        ...

    async def check_strongly(self, name: str, number: str, evidence: str) -> bool:
        """Tells whether the human in front is the one of the document.

        The evidence is what the checker handed out when it had them in front of it.

        Raises:
            LastunitError: The checker did not answer.
        """
        ...


class Proofs(Protocol):
    """Judges proofs of accounts; runs in the transaction of the call that they are for."""

    def check(self, connection: sa.Connection, proof: pb.Proof, now_ms: int) -> Checked:
        """Judges a proof; a code is used up by it, a wrong one counts as a try."""
        ...


class Notices(Protocol):
    """Tells owners what happens to their accounts."""

    def put(
        self,
        connection: sa.Connection,
        *,
        account_ids: Sequence[str],
        kind: str,
        data: Mapping[str, str],
        now_ms: int,
    ) -> int:
        """Stores a notice for each identifier of some accounts; returns how many."""
        ...


@dataclass(frozen=True, slots=True)
class Means:
    """Is what the parts work with.

    Attributes:
        database: Opened with `_tables.metadata`.
        clock: Dates everything.
        vault: Lends the keys.
        directory: Is told whose answers are outdated.
        feed: Tells the ledger.
        proofs: Judges proofs.
        notices: Tells owners.
        new_id: Gives a new id of 1 to 60 letters and digits each time.
        notify: Called when there are new person events.
    """

    database: Database
    clock: Clock
    vault: Vault
    directory: Directory
    feed: LedgerFeed
    proofs: Proofs
    notices: Notices
    new_id: Callable[[], str]
    notify: Callable[[], None]
