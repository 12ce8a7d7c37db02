"""An account service without a process, with stand-ins around it.

Owns: the wiring, what humans and support do, and what must hold at any time (`check`).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from tests.storage import open_database

from lastunit.account import _tables, person_events, trees
from lastunit.account.aging import Ageing
from lastunit.account.claiming import Claiming
from lastunit.account.feeding import LedgerFeeder
from lastunit.account.keys import KeyRing
from lastunit.account.linking import Linking
from lastunit.account.name_checker import SandboxChecker
from lastunit.account.ports import Means
from lastunit.account.proving import Checked
from lastunit.account.real_names import RealNames
from lastunit.account.registering import Registrar
from lastunit.account.resolving import Directory
from lastunit.account.reversing import Reversing
from lastunit.account.showing import Showing
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2
from lastunit.account.vault import FixedKeys, Vault
from lastunit.account.watching import PersonWatch
from lastunit.errors import UnavailableError
from lastunit.service.clock import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

KEY = bytes(range(32))


class LedgerDouble:
    """Counts persons in groups as the ledger does, and remembers each request.

    Attributes:
        is_away: True lets every call fail before it has an effect.
        calls: What was asked, without repeats.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.calls: list[tuple[str, ...]] = []
        self._groups: dict[str, set[str]] = {}
        self._seen: dict[str, tuple[str, ...]] = {}

    async def unite(self, source_person_id: str, target_person_id: str, *, request_id: str) -> None:
        """Joins two groups."""
        if self._is_new(request_id, "unite", source_person_id, target_person_id):
            joined = self.group(source_person_id) | self.group(target_person_id)
            self._groups.update(dict.fromkeys(joined, joined))

    async def split(self, person_ids: Sequence[str], *, request_id: str) -> None:
        """Parts some persons from their group."""
        assert 1 <= len(person_ids) <= 64
        if self._is_new(request_id, "split", *person_ids):
            whole = self.group(person_ids[0])
            assert whole >= set(person_ids), "the ledger would refuse persons of several groups"
            rest = whole - set(person_ids)
            self._groups.update(dict.fromkeys(rest, rest))
            self._groups.update({each: set(person_ids) for each in person_ids})

    def group(self, person_id: str) -> set[str]:
        """Returns who counts together with a person."""
        return self._groups.get(person_id, {person_id})

    def _is_new(self, request_id: str, *call: str) -> bool:
        if self.is_away:
            raise UnavailableError("no ledger answers", reason="TEST")
        if request_id in self._seen:
            assert self._seen[request_id] == call, "a request id came with another content"
            return False
        self._seen[request_id] = call
        self.calls.append(call)
        return True


class ProofsDouble:
    """Takes a session token `s-` and an account's id; everything else is bad."""

    def check(self, _connection: sa.Connection, proof: pb.Proof, _now_ms: int) -> Checked:
        """Believes the token."""
        if proof.session_token.startswith("s-"):
            return Checked(proof.session_token[2:], pb.REFUSAL_UNSPECIFIED)
        return Checked("", pb.REFUSAL_PROOF_BAD)


@dataclass(frozen=True)
class Told:
    """Is a notice."""

    kind: str
    account_ids: tuple[str, ...]
    data: Mapping[str, str]


class NoticesDouble:
    """Remembers what owners were told."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def put(
        self,
        connection: sa.Connection,
        *,
        account_ids: Sequence[str],
        kind: str,
        data: Mapping[str, str],
        now_ms: int,
    ) -> int:
        """Counts the identifiers that lead to the accounts."""
        assert now_ms >= START_MS
        self.told.append(Told(kind, tuple(account_ids), dict(data)))
        table = _tables.identifiers
        query = sa.select(sa.func.count()).where(
            table.c.account_id.in_(account_ids), table.c.state != "RELEASED"
        )
        return int(connection.scalar(query) or 0)


class World:
    """One account service with stand-ins around it."""

    def __init__(self) -> None:
        self.clock = SimulatedClock(START_MS)
        self.database = open_database(_tables.metadata)
        self.ledger = LedgerDouble()
        self.notices = NoticesDouble()
        self.ring = KeyRing.single(KEY)
        self._numbers = itertools.count(1)
        self.start()

    def start(self) -> None:
        """Starts the service, or starts it anew: same tables, nothing in memory."""
        self.directory = Directory(self.database)
        self.watch = PersonWatch(self.database, self.directory, heartbeat_seconds=0.01)
        self.feeder = LedgerFeeder(self.database, self.ledger)
        vault = Vault(FixedKeys(self.ring))
        means = Means(
            database=self.database,
            clock=self.clock,
            vault=vault,
            directory=self.directory,
            feed=self.feeder,
            proofs=ProofsDouble(),
            notices=self.notices,
            new_id=self._new_id,
            notify=self.watch.notify,
        )
        checker = SandboxChecker()
        self.registrar = Registrar(
            self.database,
            vault=vault,
            clock=self.clock,
            directory=self.directory,
            new_id=self._new_id,
        )
        self.real_names = RealNames(means, checker)
        self.linking = Linking(means)
        self.claiming = Claiming(means, checker)
        self.reversing = Reversing(means)
        self.showing = Showing(means)
        self.ageing = Ageing(means)

    def _new_id(self) -> str:
        return f"{next(self._numbers):04}"

    def request_id(self) -> str:
        """Returns an id that was not used before."""
        return f"q-{self._new_id()}"

    # --- what humans do ---

    async def sign_up(self, email: str) -> str:
        """Registers an account and returns its id."""
        identifier = pb.Identifier(email=email)
        request = pb.RegisterRequest(request_id=self.request_id(), identifier=identifier)
        return str((await self.registrar.Register(request, None)).account_id)

    async def log_in(self, account_id: str) -> None:
        """Notes that the owner logged in, as Login does."""
        table = _tables.accounts
        now_ms = self.clock.now_ms()
        await self.database.run(
            lambda connection: connection.execute(
                sa.update(table).where(table.c.account_id == account_id).values(login_ms=now_ms)
            )
        )

    async def bind(
        self, account_id: str, number: str, *, request_id: str = ""
    ) -> pb.BindRealNameResponse:
        """Binds a real name."""
        return await self.real_names.BindRealName(
            pb.BindRealNameRequest(
                request_id=request_id or self.request_id(),
                account_id=account_id,
                real_name=pb.RealName(name="Anna Example", number=number),
            ),
            None,
        )

    async def link(
        self, source_account_id: str, target_account_id: str, *, request_id: str = ""
    ) -> pb.LinkByLoginResponse:
        """Joins two accounts by logging in to both."""
        return await self.linking.LinkByLogin(
            pb.LinkByLoginRequest(
                request_id=request_id or self.request_id(),
                source_proof=self.proof(source_account_id),
                target_proof=self.proof(target_account_id),
            ),
            None,
        )

    async def claim(
        self,
        account_id: str,
        number: str,
        *,
        dead_identifier_ids: Sequence[str] = (),
        request_id: str = "",
    ) -> pb.OpenClaimResponse:
        """Opens a claim."""
        return await self.claiming.OpenClaim(
            pb.OpenClaimRequest(
                request_id=request_id or self.request_id(),
                account_id=account_id,
                real_name=pb.RealName(name="Anna Example", number=number),
                dead_identifier_ids=dead_identifier_ids,
            ),
            None,
        )

    async def cancel(
        self, claim_id: str, account_id: str, *, request_id: str = ""
    ) -> pb.CancelClaimResponse:
        """Stops a claim with a login to an account."""
        return await self.claiming.CancelClaim(
            pb.CancelClaimRequest(
                request_id=request_id or self.request_id(),
                claim_id=claim_id,
                proof=self.proof(account_id),
            ),
            None,
        )

    async def confirm(
        self, claim_id: str, claim_token: str, *, request_id: str = ""
    ) -> pb.ConfirmClaimResponse:
        """Confirms a claim."""
        return await self.claiming.ConfirmClaim(
            pb.ConfirmClaimRequest(
                request_id=request_id or self.request_id(),
                claim_id=claim_id,
                claim_token=claim_token,
            ),
            None,
        )

    async def approve(self, claim_id: str) -> pb.ApproveClaimResponse:
        """Approves a claim, as support."""
        return await self.claiming.ApproveClaim(
            pb.ApproveClaimRequest(
                request_id=self.request_id(), claim_id=claim_id, actor="desk-1", reason="seen"
            ),
            None,
        )

    async def reject(self, claim_id: str) -> pb.RejectClaimResponse:
        """Rejects a claim, as support."""
        return await self.claiming.RejectClaim(
            pb.RejectClaimRequest(
                request_id=self.request_id(), claim_id=claim_id, actor="desk-1", reason="not them"
            ),
            None,
        )

    async def reverse(self, merge_id: str, *, request_id: str = "") -> pb.ReverseMergeResponse:
        """Reverses a merge, as support."""
        return await self.reversing.ReverseMerge(
            pb.ReverseMergeRequest(
                request_id=request_id or self.request_id(),
                merge_id=merge_id,
                actor="desk-1",
                reason="two humans",
            ),
            None,
        )

    @staticmethod
    def proof(account_id: str) -> pb.Proof:
        """Returns a proof of an account."""
        return pb.Proof(session_token=f"s-{account_id}")

    async def pass_time(self, milliseconds: int) -> None:
        """Turns the clock and does what is due by then."""
        self.clock.advance_to(self.clock.now_ms() + milliseconds)
        while await self.ageing.age_once():
            pass

    # --- what there is ---

    def person(self, account_id: str) -> str:
        """Returns the live person of an account."""
        return self.directory.resolve([account_id])[0].person_id

    def home(self, account_id: str) -> str:
        """Returns the person that an account was made with."""
        return self.directory.resolve([account_id])[0].home_person_id

    def counted_with(self, account_id: str) -> set[str]:
        """Returns the home persons that the ledger counts together with an account's."""
        return self.ledger.group(self.home(account_id))

    def identifier_id(self, account_id: str) -> str:
        """Returns the first identifier of an account."""
        table = _tables.identifiers
        with self.database.read() as connection:
            query = sa.select(table.c.identifier_id).where(table.c.account_id == account_id)
            return str(connection.scalars(query.order_by(table.c.create_ms)).first())

    async def show(self, account_id: str) -> pb.GetPersonResponse:
        """Shows the person of an account to support."""
        return await self.showing.GetPerson(pb.GetPersonRequest(account_id=account_id), None)

    async def claim_state(self, claim_id: str) -> str:
        """Returns how far a claim is."""
        shown = await self.showing.GetClaim(pb.GetClaimRequest(claim_id=claim_id), None)
        return person_pb2.ClaimState.Name(shown.claim.state).removeprefix("CLAIM_STATE_")

    def events(self) -> Sequence[person_events.StoredEvent]:
        """Returns every person event."""
        with self.database.read() as connection:
            return person_events.read_after(connection, 0, limit=10_000)

    def check(self) -> None:
        """Checks what must hold after every transaction.

        Raises:
            AssertionError: It does not.
        """
        position = self.feeder.position()
        with self.database.read() as connection:
            _check_persons(connection)
            _check_groups(connection, position, self.ledger)


def _check_persons(connection: sa.Connection) -> None:
    rows: dict[str, Any] = {
        row.person_id: row for row in connection.execute(sa.select(_tables.persons))
    }
    for row in rows.values():
        assert (row.state == "MERGED") == (row.merged_into is not None)
        if row.merged_into is not None:
            assert rows[row.merged_into].merged_into is None, "a chain is longer than one"
            assert row.person_id in trees.subtree_of(connection, row.merged_into)
    for account in connection.execute(sa.select(_tables.accounts)):
        assert account.person_id == trees.root_of(connection, account.home_person_id)
    for union in connection.execute(sa.select(_tables.unions)):
        if union.state == "ACTIVE":
            person, owner = (trees.root_of(connection, each) for each in union[1:3])
            assert rows[person].state == "PROVISIONAL", "who has a name counts by another one"
            assert rows[owner].state == "VERIFIED"
    owners = defaultdict(set)
    for name in connection.execute(sa.select(_tables.real_names)):
        assert rows[name.person_id].state == "VERIFIED"
        owners[name.digest].add(name.person_id)
    assert all(len(each) == 1 for each in owners.values())
    events = person_events.read_after(connection, 0, limit=10_000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


def _check_groups(connection: sa.Connection, position: int, ledger: LedgerDouble) -> None:
    """What the ledger counts together is what belongs together, once it was told everything."""
    if position < person_events.last_sequence(connection):
        return
    for person_id in connection.scalars(sa.select(_tables.persons.c.person_id)).all():
        assert set(trees.group_of(connection, person_id)) == ledger.group(person_id)
