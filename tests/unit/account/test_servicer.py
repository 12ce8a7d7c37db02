"""AccountService over gRPC: refusals are replies, broken requests name their fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from lastunit import errors
from lastunit.account.keys import KeyRing
from lastunit.account.parts import open_parts
from lastunit.account.process import add_account_service, open_database
from lastunit.account.servicer import SERVICE_NAME, AccountServicer
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.client._status import failure_from_call
from lastunit.service.server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def accounts(tmp_path: Path) -> AsyncIterator[Any]:
    """Gives a stub of a service that runs in this process."""
    with open_database(tmp_path / "account.db") as database:
        server = ServiceServer("account", service_names=[SERVICE_NAME])
        add_account_service(server, open_parts(database, keys=KeyRing.single(bytes(range(32)))))
        address = await server.start()
        async with grpc.aio.insecure_channel(address) as channel:
            yield account_service_pb2_grpc.AccountServiceStub(channel)
        await server.stop(0)


def email(request_id: str, address: str) -> pb.RegisterRequest:
    """Returns a registration of an address."""
    return pb.RegisterRequest(request_id=request_id, identifier=pb.Identifier(email=address))


def phone(request_id: str, number: str) -> pb.RegisterRequest:
    """Returns a registration of a number."""
    return pb.RegisterRequest(request_id=request_id, identifier=pb.Identifier(phone=number))


async def test_a_registered_account_is_resolved_and_shown(accounts: Any) -> None:
    """Register, ResolvePerson and GetAccount tell of one account."""
    registered = await accounts.Register(phone("q-1", "+4930123456"))
    resolved = await accounts.ResolvePerson(
        pb.ResolvePersonRequest(account_ids=[registered.account_id, "a-none"])
    )
    shown = await accounts.GetAccount(pb.GetAccountRequest(account_id=registered.account_id))

    assert registered.created
    assert [person.person_id for person in resolved.persons] == [registered.person_id, ""]
    assert [person.state for person in resolved.persons] == [
        pb.ACCOUNT_STATE_ACTIVE,
        pb.ACCOUNT_STATE_UNKNOWN,
    ]
    assert shown.account.masked_identifier == "+49*****456"
    assert shown.account.create_time.seconds > 0


async def test_refusals_are_replies(accounts: Any) -> None:
    """An unknown account, an impossible identifier and a conflict come with status OK."""
    await accounts.Register(email("q-1", "anna@example.org"))
    conflict = await accounts.Register(email("q-1", "bert@example.org"))
    impossible = await accounts.Register(phone("q-2", "+999123456789"))
    unknown = await accounts.GetAccount(pb.GetAccountRequest(account_id="a-none"))

    assert conflict.refusal == pb.REFUSAL_CONFLICT
    assert conflict.conflict_field == "identifier"
    assert impossible.refusal == pb.REFUSAL_IDENTIFIER_BAD
    assert unknown.refusal == pb.REFUSAL_UNKNOWN_ACCOUNT


async def test_one_bad_entry_does_not_hinder_the_others(accounts: Any) -> None:
    """Answers of a bulk call stand where their entries stood."""
    response = await accounts.RegisterAccounts(
        pb.RegisterAccountsRequest(
            registrations=[
                email("q-1", "anna@example.org"),
                phone("q-2", "+999123456789"),
                email("q-3", "bert@example.org"),
            ]
        )
    )

    assert [result.created for result in response.results] == [True, False, True]
    assert response.results[1].refusal == pb.REFUSAL_IDENTIFIER_BAD


@pytest.mark.parametrize(
    ("method", "request_message", "field"),
    [
        ("Register", pb.RegisterRequest(request_id="q-1"), "identifier"),
        ("Register", email("q" * 65, "anna@example.org"), "request_id"),
        ("Register", email("q 1", "anna@example.org"), "request_id"),
        ("Register", email("q-1", "anna"), "identifier.email"),
        ("Register", phone("q-1", "030123456"), "identifier.phone"),
        ("Register", phone("q-1", "+4930 123456"), "identifier.phone"),
        ("RegisterAccounts", pb.RegisterAccountsRequest(), "registrations"),
        (
            "RegisterAccounts",
            pb.RegisterAccountsRequest(
                registrations=[email("q-1", "anna@example.org"), email("", "b@example.org")]
            ),
            "registrations[1].request_id",
        ),
        (
            "RegisterAccounts",
            pb.RegisterAccountsRequest(registrations=[email("q-1", "a@example.org")] * 1001),
            "registrations",
        ),
        ("ResolvePerson", pb.ResolvePersonRequest(), "account_ids"),
        ("ResolvePerson", pb.ResolvePersonRequest(account_ids=["a"] * 257), "account_ids"),
        ("ResolvePerson", pb.ResolvePersonRequest(account_ids=["a", "a b"]), "account_ids[1]"),
        ("GetAccount", pb.GetAccountRequest(), "account_id"),
    ],
)
async def test_a_request_past_its_limits_names_the_field(
    accounts: Any, method: str, request_message: Any, field: str
) -> None:
    """INVALID_ARGUMENT carries the path of what is wrong."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(accounts, method)(request_message)

    error = failure_from_call(caught.value).error()
    assert isinstance(error, errors.InvalidArgumentError)
    assert field in [violation.field for violation in error.violations]


@pytest.mark.parametrize(
    ("method", "request_message"),
    [
        ("Register", email("q" * 64, "anna@example.org")),
        (
            "RegisterAccounts",
            pb.RegisterAccountsRequest(
                registrations=[email(f"q-{index}", "a@example.org") for index in range(1000)]
            ),
        ),
        ("ResolvePerson", pb.ResolvePersonRequest(account_ids=["a" * 64] * 256)),
    ],
)
async def test_a_request_at_its_limits_is_served(
    accounts: Any, method: str, request_message: Any
) -> None:
    """The largest request that the contract allows is answered."""
    assert await getattr(accounts, method)(request_message)


async def test_a_method_that_no_part_has_says_so() -> None:
    """What this process was not given the means for is UNIMPLEMENTED, stream or not."""
    server = ServiceServer("account", service_names=[SERVICE_NAME])
    account_service_pb2_grpc.add_AccountServiceServicer_to_server(AccountServicer([]), server.grpc)
    address = await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        accounts: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await accounts.GetPolicy(pb.GetPolicyRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught_stream:
            async for _ in accounts.WatchPersons(pb.WatchPersonsRequest()):
                pass
    await server.stop(0)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught_stream.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_persons_are_watched_over_the_wire(accounts: Any) -> None:
    """A watch answers at once, and one of another database is told so."""
    watching = accounts.WatchPersons(pb.WatchPersonsRequest())
    first = await watching.read()
    watching.cancel()
    refused = await accounts.WatchPersons(pb.WatchPersonsRequest(after_sequence=5)).read()

    assert first.last_sequence == 0
    assert refused.refusal == pb.REFUSAL_UNKNOWN_SEQUENCE
