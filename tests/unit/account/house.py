"""An account service with all its parts in this process, a clock set by hand, and a sandbox.

Owns the short words that the scenarios are written in. Must not assert anything.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from lastunit.account.identifiers import Identifier
from lastunit.account.keys import KeyRing
from lastunit.account.name_checker import SandboxChecker
from lastunit.account.parts import open_parts
from lastunit.account.senders import SandboxSender
from lastunit.account.servicer import AccountServicer
from lastunit.account.settings import AccountSettings
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.service.clock import SimulatedClock

from .world import LedgerDouble

if TYPE_CHECKING:
    from lastunit.account.ports import Ledger, NameChecker
    from lastunit.account.vault import KeySource
    from lastunit.service.database import Database

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
SIGN_IN, NEW, PROVE = (
    pb.CODE_PURPOSE_SIGN_IN,
    pb.CODE_PURPOSE_NEW_IDENTIFIER,
    pb.CODE_PURPOSE_PROVE,
)


def email(address: str) -> pb.Identifier:
    """Returns an address as the contract has it."""
    return pb.Identifier(email=address)


def phone(number: str) -> pb.Identifier:
    """Returns a number as the contract has it."""
    return pb.Identifier(phone=number)


class House:
    """Answers calls as the service does, and reads the messages that it sends."""

    def __init__(
        self,
        database: Database,
        *,
        keys: KeyRing | KeySource | None = None,
        settings: AccountSettings | None = None,
        clock: SimulatedClock | None = None,
        ledger: Ledger | None = None,
        checker: NameChecker | None = None,
    ) -> None:
        self.database = database
        self.clock = clock or SimulatedClock(START_MS)
        self.sender = SandboxSender()
        self.parts = open_parts(
            database,
            keys=keys or KeyRing.single(bytes(range(32))),
            clock=self.clock,
            settings=settings or AccountSettings(proofs="code", sender="sandbox"),
            sender=self.sender,
            ledger=ledger or LedgerDouble(),
            checker=checker or SandboxChecker(),
            orders=self,
        )
        self.paying_account_ids: set[str] = set()
        self.calls: Any = AccountServicer(self.parts.all())
        self._numbers = itertools.count(1)

    async def is_paying(self, account_id: str) -> bool:
        """Answers in the place of the order service."""
        return account_id in self.paying_account_ids

    def request_id(self) -> str:
        """Returns an id that nobody has used."""
        return f"q-{next(self._numbers)}"

    def pass_time(self, *, days: float = 0, seconds: float = 0) -> None:
        """Lets the clock run."""
        self.clock.advance_to(self.clock.now_ms() + round(days * DAY_MS + seconds * 1_000))

    async def upkeep(self) -> None:
        """Lets everything happen that only a clock makes happen."""
        while await self.parts.upkeep.step():
            pass

    async def code(
        self, identifier: pb.Identifier, purpose: pb.CodePurpose.ValueType = SIGN_IN
    ) -> str:
        """Asks for a code, a minute after the last one, and reads it."""
        self.pass_time(seconds=60)
        answer = await self.calls.SendCode(
            pb.SendCodeRequest(identifier=identifier, purpose=purpose), None
        )
        if answer.refusal:
            raise AssertionError(pb.Refusal.Name(answer.refusal))
        return self.code_in_the_last_message(identifier)

    def code_in_the_last_message(self, identifier: pb.Identifier) -> str:
        """Returns the code that was sent last, which must have gone there."""
        sent = self.sender.sent[-1]
        if sent.identifier != Identifier.of(identifier):
            raise AssertionError(f"the last message went to {sent.identifier}")
        found = re.match(r"[0-9]{6}", sent.message.text)
        if found is None:
            raise AssertionError("the last message has no code")
        return found.group()

    async def register(self, identifier: pb.Identifier, **more: Any) -> pb.RegisterResponse:
        """Proves an identifier and registers it."""
        request = pb.RegisterRequest(
            request_id=self.request_id(),
            identifier=identifier,
            proof=await self.code(identifier),
            **more,
        )
        answer: pb.RegisterResponse = await self.calls.Register(request, None)
        return answer

    async def log_in(self, identifier: pb.Identifier) -> pb.LoginResponse:
        """Proves an identifier and logs in with it."""
        code = await self.code(identifier)
        answer: pb.LoginResponse = await self.calls.Login(
            pb.LoginRequest(identifier=identifier, proof=code), None
        )
        return answer

    async def proof(self, identifier: pb.Identifier) -> pb.Proof:
        """Proves the account of an identifier."""
        code = await self.code(identifier, PROVE)
        return pb.Proof(code=pb.CodeProof(identifier=identifier, code=code))

    async def new_proof(self, identifier: pb.Identifier) -> pb.CodeProof:
        """Proves an identifier that is to be added."""
        return pb.CodeProof(identifier=identifier, code=await self.code(identifier, NEW))
