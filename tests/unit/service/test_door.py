"""The door: broken requests and broken handlers leave as statuses, never as texts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lastunit import errors
from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.client._status import failure_from_call
from lastunit.service.faults import FaultError
from lastunit.service.server import ServiceServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "lastunit.account.v1.AccountService"
_Base: Any = account_service_pb2_grpc.AccountServiceServicer


class Raising(_Base):  # type: ignore[misc]  # the generated base is abstract to a type checker
    """Raises what it is told to."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    async def GetAccount(  # noqa: N802 - named by the contract
        self, request: pb.GetAccountRequest, _context: object
    ) -> pb.GetAccountResponse:
        """Answers, unless there is an error to raise."""
        if self.error is not None:
            raise self.error
        return pb.GetAccountResponse(account=pb.Account(account_id=request.account_id))


@pytest.fixture
def servicer() -> Raising:
    """Gives the servicer behind the door."""
    return Raising()


@pytest.fixture
async def address(servicer: Raising) -> AsyncIterator[str]:
    """Gives the address of a server with one service."""
    server = ServiceServer("account", service_names=[SERVICE])
    account_service_pb2_grpc.add_AccountServiceServicer_to_server(servicer, server.grpc)
    yield await server.start()
    await server.stop(0)


async def failure(address: str, request: pb.GetAccountRequest) -> errors.LastunitError:
    """Returns the error that a call ends with."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = account_service_pb2_grpc.AccountServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetAccount(request)
    return failure_from_call(caught.value).error()


async def test_a_broken_request_never_reaches_the_handler(servicer: Raising, address: str) -> None:
    """The declared rule refuses it, with field, rule and text."""
    servicer.error = RuntimeError("the handler was called")

    error = await failure(address, pb.GetAccountRequest(account_id="a b"))

    assert isinstance(error, errors.InvalidArgumentError)
    assert [violation.field for violation in error.violations] == ["account_id"]
    assert error.violations[0].rule == "string.pattern"


async def test_an_exception_is_hidden_behind_an_id(
    servicer: Raising, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets an id, the log gets the exception under the same id."""
    servicer.error = RuntimeError("password is hunter2")

    with caplog.at_level(logging.ERROR):
        error = await failure(address, pb.GetAccountRequest(account_id="a"))

    assert isinstance(error, errors.StatusError)
    assert error.code == "INTERNAL"
    assert "hunter2" not in f"{error} {dict(error.metadata)}"
    record = next(record for record in caplog.records if hasattr(record, "error_id"))
    assert record.error_id == error.metadata["error_id"]
    assert record.exc_info is not None
    assert "hunter2" in str(record.exc_info[1])


async def test_a_fault_leaves_as_it_was_raised(servicer: Raising, address: str) -> None:
    """Status, reason, metadata and push-back reach the caller."""
    servicer.error = FaultError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the queue is full, come back in 2 s",
        reason="QUEUE_FULL",
        metadata={"lane": "reservation", "bucket": "queue"},
        retry_after_seconds=2.0,
    )

    error = await failure(address, pb.GetAccountRequest(account_id="a"))

    assert isinstance(error, errors.ShedError)
    assert (error.reason, error.lane, error.bucket) == ("QUEUE_FULL", "reservation", "queue")
    assert error.retry_after_seconds == 2.0


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (errors.ShedError("full", retry_after_seconds=1.0, reason="RATE"), errors.ShedError),
        (errors.BusyError("full", limit=5), errors.ShedError),
        (errors.UnavailableError("down", reason="JOURNAL_FAILED"), errors.UnavailableError),
        (errors.ClosedError("closed"), errors.UnavailableError),
        (errors.DeadlineExceededError("late"), errors.DeadlineExceededError),
    ],
)
async def test_errors_of_a_service_below_pass_on_as_what_they_mean(
    servicer: Raising, address: str, raised: Exception, kind: type
) -> None:
    """A full or missing ledger is a full or missing order service."""
    servicer.error = raised

    error = await failure(address, pb.GetAccountRequest(account_id="a"))

    assert kind is type(error)
    assert str(raised) == str(error)


@pytest.mark.parametrize(
    "raised",
    [
        errors.InvalidArgumentError("units is 0", reason="INVALID_ARGUMENT"),
        errors.StatusError("unknown method", code="UNIMPLEMENTED"),
        errors.AccessError("not you", is_authenticated=True),
    ],
)
async def test_mistakes_of_the_service_itself_stay_inside(
    servicer: Raising, address: str, raised: Exception
) -> None:
    """What the service did wrong towards another is its own bug, not the caller's."""
    servicer.error = raised

    error = await failure(address, pb.GetAccountRequest(account_id="a"))

    assert isinstance(error, errors.StatusError)
    assert error.code == "INTERNAL"
    assert str(raised) not in str(error)


async def test_health_and_reflection_are_served(address: str) -> None:
    """Both standard services answer for the service by its full name."""
    async with grpc.aio.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        status = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in reflection.ServerReflectionInfo(iter([asked]))]

    assert status.status == health_pb2.HealthCheckResponse.SERVING
    assert SERVICE in [each.name for each in answers[0].list_services_response.service]


async def test_a_taken_address_is_named(address: str) -> None:
    """A second server on one port fails with a sentence, not half of the calls."""
    server = ServiceServer("account", service_names=[SERVICE], listen=address)

    with pytest.raises(OSError, match=address):
        await server.start()
    await server.stop(0)
