"""The parts that answer the methods of the account service, put together.

Owns which part works with what. Must not open a listener, a database or a file, nor hold rules.
Next: `lastunit.account.registering`, `resolving`, and the README for the other parts.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lastunit.account import notices
from lastunit.account.aging import Ageing
from lastunit.account.changing import Changing
from lastunit.account.claiming import Claiming
from lastunit.account.feeding import LedgerFeeder, NoLedger
from lastunit.account.gate import Bucket
from lastunit.account.keys import KeyRing
from lastunit.account.linking import Linking
from lastunit.account.locking import Locking
from lastunit.account.name_checker import NoChecker
from lastunit.account.notices import Notices
from lastunit.account.ports import Means
from lastunit.account.proving import Proofs
from lastunit.account.real_names import RealNames
from lastunit.account.registering import Registrar
from lastunit.account.resolving import Directory
from lastunit.account.reversing import Reversing
from lastunit.account.searching import Searching
from lastunit.account.senders import NoSender
from lastunit.account.settings import AccountSettings
from lastunit.account.showing import Showing
from lastunit.account.signing_in import SignIn
from lastunit.account.upkeep import Upkeep
from lastunit.account.vault import FixedKeys, Vault
from lastunit.account.watching import PersonWatch
from lastunit.service.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.account.locking import Orders
    from lastunit.account.ports import Ledger, NameChecker
    from lastunit.account.senders import Sender
    from lastunit.account.vault import KeySource
    from lastunit.service.clock import Clock
    from lastunit.service.database import Database

__all__ = ["Parts", "open_desks", "open_parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """Is what answers the methods of the contract.

    Attributes:
        directory: Says who stands behind accounts.
        registrar: Makes accounts.
        sign_in: Sends codes and keeps sessions.
        vault: Lends the keys.
        proofs: Checks proofs for the other parts.
        upkeep: What a clock makes happen to codes, notices and recycled numbers.
        watch: Follows what changes about persons.
        feeder: Tells the ledger which persons count together.
        ageing: What a clock makes happen to claims, merges and locks.
        locking: Takes accounts out of use, and carries policies out.
        claiming: Opens, stops and carries out claims.
        desks: What else joins persons, parts them and shows them.
        buckets: Let sign-ups and logins in.
    """

    directory: Directory
    registrar: Registrar
    sign_in: SignIn
    vault: Vault
    proofs: Proofs
    upkeep: Upkeep
    watch: PersonWatch
    feeder: LedgerFeeder
    ageing: Ageing
    locking: Locking
    claiming: Claiming
    desks: Sequence[object]
    buckets: Sequence[Bucket]

    def all(self) -> Sequence[object]:
        """Returns every part that has methods of the contract."""
        return [
            self.directory,
            self.registrar,
            self.sign_in,
            self.watch,
            self.locking,
            self.claiming,
            *self.desks,
        ]


def open_parts(
    database: Database,
    *,
    keys: KeyRing | KeySource,
    clock: Clock | None = None,
    settings: AccountSettings | None = None,
    sender: Sender | None = None,
    ledger: Ledger | None = None,
    checker: NameChecker | None = None,
    orders: Orders | None = None,
) -> Parts:
    """Returns the parts over an open database.

    Args:
        database: As `open_database` gives it.
        keys: Always those of the same database; a ring never changes, a key file may.
        clock: The system's if None.
        settings: How callers are treated; by default no proof is asked for.
        sender: Who carries codes and notices; None: nobody, and SendCode is refused.
        ledger: Counts limits; None: what it must be told of is UNAVAILABLE.
        checker: Judges real names; None: nobody does, and BindRealName is UNAVAILABLE.
        orders: Says whether an account may be closed; None: none may.
    """
    clock = clock or SystemClock()
    settings = settings or AccountSettings()
    checker = checker or NoChecker()
    vault = Vault(FixedKeys(keys) if isinstance(keys, KeyRing) else keys)
    directory = Directory(database)
    sign_up, login = Bucket(settings.sign_up), Bucket(settings.login)
    is_proof_asked = settings.proofs == "code"
    delivery = Notices(database, vault=vault, sender=sender or NoSender())
    proofs = Proofs(vault)
    watch = PersonWatch(database, directory)
    feeder = LedgerFeeder(database, ledger or NoLedger())
    means = Means(
        database=database,
        clock=clock,
        vault=vault,
        directory=directory,
        feed=feeder,
        proofs=proofs,
        notices=notices,
        new_id=lambda: secrets.token_hex(10),
        notify=watch.notify,
    )
    return Parts(
        directory=directory,
        registrar=Registrar(
            database,
            vault=vault,
            clock=clock,
            directory=directory,
            bucket=sign_up,
            is_proof_asked=is_proof_asked,
        ),
        sign_in=SignIn(
            database,
            vault=vault,
            clock=clock,
            sender=sender,
            sign_up=sign_up,
            login=login,
            is_proof_asked=is_proof_asked,
        ),
        vault=vault,
        proofs=proofs,
        upkeep=Upkeep(database, notices=delivery, directory=directory, clock=clock),
        watch=watch,
        feeder=feeder,
        ageing=Ageing(means),
        locking=Locking(means, orders),
        claiming=Claiming(means, checker),
        desks=open_desks(means, checker),
        buckets=[sign_up, login],
    )


def open_desks(means: Means, checker: NameChecker) -> Sequence[object]:
    """Returns the parts that join persons, part them and show them.

    Args:
        means: What they work with.
        checker: Judges real names.
    """
    return [
        RealNames(means, checker),
        Linking(means),
        Reversing(means),
        Showing(means),
        Changing(means),
        Searching(means),
    ]
