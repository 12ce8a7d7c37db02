"""What the stories are told with: a service that asks for codes, a ledger that counts, a clock.

Owns the words of the stories. Must not assert anything but that a story can go on.
Next: `test_stories`, one for each of the ways in which a human comes to have several accounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.unit.account.house import House, email, phone
from tests.unit.account.world import LedgerDouble

from lastunit.account.name_checker import SandboxChecker
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import person_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.service.database import Database

__all__ = ["Story", "email", "phone"]


class Story(House):
    """A house with a ledger and a checker, and what humans and support say in it."""

    def __init__(self, database: Database) -> None:
        self.ledger = LedgerDouble()
        super().__init__(database, ledger=self.ledger, checker=SandboxChecker())

    # --- what humans do ---

    async def bind(self, account_id: str, number: str) -> pb.BindRealNameResponse:
        """Gives a real name."""
        request = pb.BindRealNameRequest(
            request_id=self.request_id(),
            account_id=account_id,
            real_name=pb.RealName(name="Anna Example", number=number),
        )
        answer: pb.BindRealNameResponse = await self.calls.BindRealName(request, None)
        return answer

    async def link(self, source: pb.Identifier, target: pb.Identifier) -> pb.LinkByLoginResponse:
        """Joins two accounts by a code to each."""
        request = pb.LinkByLoginRequest(
            request_id=self.request_id(),
            source_proof=await self.proof(source),
            target_proof=await self.proof(target),
        )
        answer: pb.LinkByLoginResponse = await self.calls.LinkByLogin(request, None)
        return answer

    async def claim(
        self, account_id: str, number: str, dead: Sequence[str] = ()
    ) -> pb.OpenClaimResponse:
        """Claims the person whose real name it is."""
        request = pb.OpenClaimRequest(
            request_id=self.request_id(),
            account_id=account_id,
            real_name=pb.RealName(name="Anna Example", number=number, evidence="face-1"),
            dead_identifier_ids=dead,
        )
        answer: pb.OpenClaimResponse = await self.calls.OpenClaim(request, None)
        return answer

    async def confirm(self, opened: pb.OpenClaimResponse) -> pb.ConfirmClaimResponse:
        """Confirms a claim."""
        request = pb.ConfirmClaimRequest(
            request_id=self.request_id(),
            claim_id=opened.claim.claim_id,
            claim_token=opened.claim_token,
        )
        answer: pb.ConfirmClaimResponse = await self.calls.ConfirmClaim(request, None)
        return answer

    async def object_to(
        self, opened: pb.OpenClaimResponse, owner: pb.Identifier
    ) -> pb.CancelClaimResponse:
        """Logs in as the owner and stops a claim."""
        login = await self.log_in(owner)
        request = pb.CancelClaimRequest(
            request_id=self.request_id(),
            claim_id=opened.claim.claim_id,
            proof=pb.Proof(session_token=login.session_token),
        )
        answer: pb.CancelClaimResponse = await self.calls.CancelClaim(request, None)
        return answer

    # --- what support does ---

    async def reverse(self, merge_id: str) -> pb.ReverseMergeResponse:
        """Undoes a merge."""
        request = pb.ReverseMergeRequest(
            request_id=self.request_id(), merge_id=merge_id, actor="desk-7", reason="two humans"
        )
        answer: pb.ReverseMergeResponse = await self.calls.ReverseMerge(request, None)
        return answer

    async def reject(self, opened: pb.OpenClaimResponse) -> pb.RejectClaimResponse:
        """Says no to a claim."""
        request = pb.RejectClaimRequest(
            request_id=self.request_id(),
            claim_id=opened.claim.claim_id,
            actor="desk-7",
            reason="the voice was another",
        )
        answer: pb.RejectClaimResponse = await self.calls.RejectClaim(request, None)
        return answer

    async def approve(self, opened: pb.OpenClaimResponse) -> pb.ApproveClaimResponse:
        """Cuts a wait short."""
        request = pb.ApproveClaimRequest(
            request_id=self.request_id(),
            claim_id=opened.claim.claim_id,
            actor="desk-7",
            reason="came to the shop",
        )
        answer: pb.ApproveClaimResponse = await self.calls.ApproveClaim(request, None)
        return answer

    # --- what is to be seen ---

    async def live(self, days: float = 0, hours: float = 0) -> None:
        """Lets time pass, and everything happen that it makes happen."""
        self.pass_time(days=days + hours / 24)
        while await self.parts.ageing.age_once():
            pass
        await self.upkeep()

    async def person(self, account_id: str) -> str:
        """Returns the live person of an account."""
        return (await self._resolved(account_id)).person_id

    async def state(self, account_id: str) -> str:
        """Returns what an account may do, as the order service hears it."""
        state = (await self._resolved(account_id)).state
        return pb.AccountState.Name(state).removeprefix("ACCOUNT_STATE_")

    async def counts_with(self, account_id: str) -> set[str]:
        """Returns the accounts whose purchases count towards the same limit."""
        home = (await self._resolved(account_id)).home_person_id
        group = self.ledger.group(home)
        seen = {account_id}
        for person_id in group:
            request = pb.GetPersonRequest(person_id=person_id)
            shown: pb.GetPersonResponse = await self.calls.GetPerson(request, None)
            seen |= {
                account.account_id for account in shown.accounts if account.home_person_id in group
            }
        return seen

    async def identifier_id(self, account_id: str) -> str:
        """Returns the one identifier of an account."""
        request = pb.GetPersonRequest(account_id=account_id)
        shown: Any = await self.calls.GetPerson(request, None)
        return next(
            str(each.identifier_id) for each in shown.identifiers if each.account_id == account_id
        )

    def told(self, identifier: pb.Identifier) -> list[str]:
        """Returns the subjects of what was sent somewhere, codes left out."""
        to = identifier.phone or identifier.email
        return [
            sent.message.subject
            for sent in self.sender.sent
            if sent.identifier.normalized == to and not sent.message.text[:6].isdigit()
        ]

    async def _resolved(self, account_id: str) -> pb.ResolvedPerson:
        request = pb.ResolvePersonRequest(account_ids=[account_id])
        answer: pb.ResolvePersonResponse = await self.calls.ResolvePerson(request, None)
        return answer.persons[0]


def open_exits(answer: pb.BindRealNameResponse) -> set[str]:
    """Returns the ways out that can be taken now."""
    return {
        person_pb2.ExitKind.Name(each.kind).removeprefix("EXIT_KIND_")
        for each in answer.exits
        if each.is_open
    }
