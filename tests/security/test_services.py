"""Clients and services: how they reach a secured ledger, and how they are secured themselves."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance.kit import new_id

from lastunit.account.keys import KeyRing
from lastunit.account.parts import open_parts
from lastunit.account.process import add_account_service, open_database
from lastunit.account.servicer import OPERATOR_METHODS as ACCOUNT_METHODS
from lastunit.account.servicer import SERVICE_NAME, UNPROVED_METHODS
from lastunit.account.v1 import account_service_pb2
from lastunit.account.v1 import account_service_pb2 as account
from lastunit.client.aio import ClientSecurity, Line, Outcome, StockClient
from lastunit.client.peer import PeerClient
from lastunit.client.sync import StockClient as BlockingClient
from lastunit.errors import AccessError, LastunitError, UnavailableError
from lastunit.order.grpc_service import OPERATOR_METHODS
from lastunit.order.v1 import order_service_pb2
from lastunit.payment.grpc_service import OPERATOR_METHODS as PAYMENT_METHODS
from lastunit.payment.v1 import payment_service_pb2
from lastunit.service.security import ServiceSecurity
from lastunit.service.server import ServiceServer

from .certificates import Authority, Pair, new_authority
from .kit import LOCAL, Door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CALL = f"/{SERVICE_NAME}/GetAccount"

# Made the operators' for these tests; its request has the same field.
OPERATORS_CALL = f"/{SERVICE_NAME}/ResolvePerson"


def token_file(door: Door, token: str) -> Path:
    """Writes a token where a client reads it."""
    file = door.directory / "client.token"
    file.write_text(f"{token}\n")
    return file


async def test_the_client_reaches_a_secured_ledger_by_token(open_door: Door) -> None:
    """Unary calls, batches, events: each carries the token; a wrong one is an AccessError."""
    assert open_door.server is not None
    ready = open_door.server.ready
    file = token_file(open_door, open_door.tokens["orders"])
    security = ClientSecurity(
        authorities_file=open_door.authority.certificate,
        token_file=file,
        server_name="localhost",
    )
    async with StockClient(
        ready["data"], settlement_address=ready["settlement"], security=security
    ) as client:
        reply = await client.reserve(
            new_id("reservation"),
            sale_id=new_id("sale"),
            person_id="person",
            lines=[Line(sku="unit", units=1)],
        )
        audit = await client.admin.audit()
        await asyncio.sleep(1.1)
        file.write_text("wrong.token")
        with pytest.raises(AccessError):
            await client.admin.audit()

    assert reply.outcome is Outcome.UNKNOWN_SALE
    assert audit.response.holds


def test_the_blocking_client_reaches_it_by_certificate(mutual_door: Door) -> None:
    """A client with a certificate of the authority needs nothing else."""
    door = mutual_door
    door.give_token("unused")
    door.write(certificates='"CN:orders" = "orders"')
    ready = door.start().ready
    pair = door.authority.sign("orders")
    security = ClientSecurity(
        authorities_file=door.authority.certificate,
        certificate_file=pair.certificate,
        private_key_file=pair.key,
        server_name="localhost",
    )
    with BlockingClient(
        ready["data"], settlement_address=ready["settlement"], security=security
    ) as client:
        assert client.admin.audit().response.holds


def test_a_token_is_not_sent_in_the_clear_over_the_network(tmp_path: Path) -> None:
    """Beyond loopback a token needs TLS, whatever the caller wants."""
    security = ClientSecurity(token_file=tmp_path / "token")

    security.check_address("127.0.0.1:7400")
    with pytest.raises(ValueError, match="clear text"):
        security.check_address("ledger.internal:7400")


@pytest.mark.parametrize(
    "environment",
    [
        {"LASTUNIT_CLIENT_CERTIFICATE_FILE": "a"},
        {"LASTUNIT_CLIENT_CERTIFICATE_FILE": "a", "LASTUNIT_CLIENT_PRIVATE_KEY_FILE": "b"},
    ],
)
def test_half_a_clients_security_is_refused(environment: dict[str, str]) -> None:
    """A certificate without its key, or without somebody to trust, protects nothing."""
    with pytest.raises(ValueError, match="set"):
        ClientSecurity.from_environment(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"LASTUNIT_SERVICE_CERTIFICATE_FILE": "a"},
        {"LASTUNIT_SERVICE_CLIENT_AUTHORITIES_FILE": "a"},
        {"LASTUNIT_SERVICE_CLIENT_NAMES": "DNS:a"},
        {"LASTUNIT_SERVICE_OPERATOR_NAMES": "DNS:a"},
        {
            "LASTUNIT_SERVICE_CERTIFICATE_FILE": "a",
            "LASTUNIT_SERVICE_PRIVATE_KEY_FILE": "b",
            "LASTUNIT_SERVICE_CLIENT_AUTHORITIES_FILE": "c",
            "LASTUNIT_SERVICE_CLIENT_NAMES": "orders",
        },
    ],
)
def test_half_a_services_security_is_refused(environment: dict[str, str]) -> None:
    """Settings that would not protect are told at the start."""
    with pytest.raises(ValueError, match=r"set|means|must be"):
        ServiceSecurity.from_environment(environment)


class Service:
    """An account service behind mutual TLS."""

    def __init__(
        self, authority: Authority, pair: Pair, *names: str, operators: tuple[str, ...] = ()
    ) -> None:
        self.authority = authority
        self.pair = pair
        self._database = open_database(None, is_threaded=False)
        security = ServiceSecurity(
            certificate_file=pair.certificate,
            private_key_file=pair.key,
            client_authorities_file=authority.certificate,
            client_names=frozenset(names),
            operator_names=frozenset(operators),
        )
        self._server = ServiceServer(
            "account",
            service_names=[SERVICE_NAME],
            security=security,
            operator_methods=[OPERATORS_CALL],
            unproved_methods=UNPROVED_METHODS,
        )
        add_account_service(
            self._server, open_parts(self._database, keys=KeyRing.single(bytes(32)))
        )
        self.address = ""

    async def start(self) -> None:
        """Listens."""
        self.address = await self._server.start()

    async def stop(self) -> None:
        """Stops."""
        await self._server.stop(1)
        self._database.close()

    async def call(
        self, trusts: Authority, shows: Pair | None, path: str = CALL, request: Any = None
    ) -> str:
        """Makes a call as a client; returns how it ended."""
        security = ClientSecurity(
            authorities_file=trusts.certificate,
            certificate_file=shows.certificate if shows else None,
            private_key_file=shows.key if shows else None,
            server_name="localhost",
        )
        client = PeerClient(self.address, deadline_seconds=1.0, security=security)
        request = request or account.GetAccountRequest(account_id="nobody")
        try:
            await client.call(path, request, account.GetAccountResponse)
        except UnavailableError:
            return "not connected"
        except AccessError:
            return "not permitted"
        except LastunitError:
            return "served"
        finally:
            await client.close()
        return "served"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that takes the order service's calls only."""
    authority = new_authority(tmp_path)
    made = Service(authority, authority.sign("account", LOCAL), "DNS:orders.internal")
    await made.start()
    yield made
    await made.stop()


async def test_a_service_takes_calls_of_named_clients_only(service: Service) -> None:
    """No certificate does not connect, another name is not permitted, the right one is served."""
    orders = service.authority.sign("orders", "DNS:orders.internal")
    other = service.authority.sign("other", "DNS:other.internal")

    assert await service.call(service.authority, orders) == "served"
    assert await service.call(service.authority, other) == "not permitted"
    assert await service.call(service.authority, None) == "not connected"


async def test_operators_methods_are_for_named_operators_only(tmp_path: Path) -> None:
    """A client calls the rest; an operator calls all; a stranger nothing."""
    authority = new_authority(tmp_path)
    service = Service(
        authority,
        authority.sign("account", LOCAL),
        "DNS:orders.internal",
        operators=("DNS:desk.internal",),
    )
    await service.start()
    ends = {
        name: [
            await service.call(authority, authority.sign(name, f"DNS:{name}.internal"), path)
            for path in (CALL, OPERATORS_CALL)
        ]
        for name in ("orders", "desk", "other")
    }
    await service.stop()

    assert ends == {
        "orders": ["served", "not permitted"],
        "desk": ["served", "served"],
        "other": ["not permitted", "not permitted"],
    }


async def test_support_decides_without_a_proof_and_owners_with_one(tmp_path: Path) -> None:
    """A merge is reversed by an operator's word, or by who proves an account of it."""
    authority = new_authority(tmp_path)
    names = {name: f"DNS:{name}.internal" for name in ("shop", "desk")}
    service = Service(
        authority, authority.sign("account", LOCAL), names["shop"], operators=(names["desk"],)
    )
    await service.start()
    unproved = account.ReverseMergeRequest(
        request_id="q", merge_id="m", actor="somebody", reason="two humans"
    )
    proved = account.ReverseMergeRequest()
    proved.CopyFrom(unproved)
    proved.proof.session_token = "x" * 32
    path = f"/{SERVICE_NAME}/ReverseMerge"
    ends = {
        name: [
            await service.call(authority, authority.sign(name, names[name]), path, request)
            for request in (unproved, proved)
        ]
        for name in names
    }
    await service.stop()

    assert ends == {"shop": ["not permitted", "served"], "desk": ["served", "served"]}


def test_what_the_account_service_keeps_for_operators_are_its_methods() -> None:
    """Whatever names an actor is support's, or its owner's who proves it."""
    service = account_service_pb2.DESCRIPTOR.services_by_name["AccountService"]
    with_an_actor = {
        f"/{service.full_name}/{method.name}": method.input_type.fields_by_name
        for method in service.methods
        if "actor" in method.input_type.fields_by_name
    }
    kept = {*ACCOUNT_METHODS, *UNPROVED_METHODS}

    assert {path for path in with_an_actor if path not in kept} == set()
    assert all("proof" in with_an_actor[path] for path in UNPROVED_METHODS)


def test_what_the_payment_service_keeps_for_operators_are_its_methods() -> None:
    """Each by its right name; RefundAttempt is not among them, the order service calls it."""
    service = payment_service_pb2.DESCRIPTOR.services_by_name["PaymentService"]
    there = {f"/{service.full_name}/{method.name}" for method in service.methods}
    with_an_actor = {
        f"/{service.full_name}/{method.name}"
        for method in service.methods
        if "actor" in method.input_type.fields_by_name
    }

    assert set(PAYMENT_METHODS) <= there
    assert with_an_actor - set(PAYMENT_METHODS) == {f"/{service.full_name}/RefundAttempt"}


def test_what_the_order_service_keeps_for_operators_are_its_methods() -> None:
    """All that moves money or goods by somebody's word, and each by its right name."""
    service = order_service_pb2.DESCRIPTOR.services_by_name["OrderService"]
    with_an_actor = {
        f"/{service.full_name}/{method.name}"
        for method in service.methods
        if "actor" in method.input_type.fields_by_name
    }

    assert with_an_actor == set(OPERATOR_METHODS)


async def test_a_services_certificate_is_renewed_while_it_runs(
    service: Service, tmp_path: Path
) -> None:
    """After the files changed new connections get the new certificate."""
    orders = service.authority.sign("orders", "DNS:orders.internal")
    second = new_authority(tmp_path, "second")
    new = second.sign("account", LOCAL)
    shutil.copy(new.key, service.pair.key)
    shutil.copy(new.certificate, service.pair.certificate)

    for _ in range(50):
        if await service.call(second, orders) == "served":
            break

    assert await service.call(second, orders) == "served"
    assert await service.call(service.authority, orders) == "not connected"


async def test_a_service_with_unusable_files_does_not_start(tmp_path: Path) -> None:
    """The error names the file and what to do."""
    authority = new_authority(tmp_path)
    pair = authority.sign("account", LOCAL, days=-1)
    service = Service(authority, pair)

    with pytest.raises(OSError, match=r"certificate_file: can't be used: .*expired"):
        await service.start()
    await service.stop()
