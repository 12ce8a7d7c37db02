"""AccountService over gRPC.

Owns the translation between messages and the core. Must not hold rules.
Next: `lastunit.account.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lastunit.account.core import Registered, Registration
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc

if TYPE_CHECKING:
    from lastunit.account.core import AccountCore

__all__ = ["SERVICE_NAME", "AccountServicer"]

SERVICE_NAME: Final = "lastunit.account.v1.AccountService"

# The generated base is abstract and checks nothing that mypy could use.
_Base: Any = account_service_pb2_grpc.AccountServiceServicer


class AccountServicer(_Base):  # type: ignore[misc]  # see above
    """Serves the contract from a core.

    Args:
        core: What answers.
    """

    def __init__(self, core: AccountCore) -> None:
        self._core = core

    async def Register(  # noqa: N802 - named by the contract
        self, request: pb.RegisterRequest, _context: object
    ) -> pb.RegisterResponse:
        """Makes an account, or gives the one the identifier has."""
        return (await self._register([request]))[0]

    async def RegisterAccounts(  # noqa: N802 - named by the contract
        self, request: pb.RegisterAccountsRequest, _context: object
    ) -> pb.RegisterAccountsResponse:
        """Makes many accounts in one transaction."""
        return pb.RegisterAccountsResponse(results=await self._register(request.registrations))

    async def ResolvePerson(  # noqa: N802 - named by the contract
        self, request: pb.ResolvePersonRequest, _context: object
    ) -> pb.ResolvePersonResponse:
        """Says who stands behind accounts."""
        persons = self._core.resolve(request.account_ids)
        return pb.ResolvePersonResponse(
            persons=[
                pb.ResolvedPerson(
                    account_id=account_id,
                    person_id=person.person_id,
                    state=pb.AccountState.ValueType(person.state),
                    version=person.version,
                )
                for account_id, person in zip(request.account_ids, persons, strict=True)
            ]
        )

    async def GetAccount(  # noqa: N802 - named by the contract
        self, request: pb.GetAccountRequest, _context: object
    ) -> pb.GetAccountResponse:
        """Shows one account, its identifier masked."""
        account = self._core.account(request.account_id)
        if account is None:
            return pb.GetAccountResponse(refusal=pb.REFUSAL_UNKNOWN_ACCOUNT)
        shown = pb.Account(
            account_id=account.account_id,
            person_id=account.person_id,
            state=pb.AccountState.ValueType(account.state),
            masked_identifier=account.masked_identifier,
            version=account.version,
        )
        shown.create_time.FromMilliseconds(account.create_ms)
        return pb.GetAccountResponse(account=shown)

    async def _register(self, requests: Any) -> list[pb.RegisterResponse]:
        """Answers each request; one with an impossible identifier never reaches the core."""
        identifiers = [_identifier(request) for request in requests]
        answers = iter(
            await self._core.register_many(
                [
                    Registration(request.request_id, identifier)
                    for request, identifier in zip(requests, identifiers, strict=True)
                    if identifier is not None
                ]
            )
        )
        return [
            pb.RegisterResponse(refusal=pb.REFUSAL_IDENTIFIER_BAD)
            if identifier is None
            else _response(next(answers))
            for identifier in identifiers
        ]


def _identifier(request: pb.RegisterRequest) -> Identifier | None:
    try:
        if request.identifier.HasField("phone"):
            return Identifier.phone(request.identifier.phone)
        return Identifier.email(request.identifier.email)
    except IdentifierError:
        return None


def _response(answer: Registered) -> pb.RegisterResponse:
    return pb.RegisterResponse(
        refusal=pb.REFUSAL_CONFLICT if answer.conflict_field else pb.REFUSAL_UNSPECIFIED,
        replayed=answer.is_replayed,
        conflict_field=answer.conflict_field,
        account_id=answer.account_id,
        person_id=answer.person_id,
        created=answer.is_created,
    )
