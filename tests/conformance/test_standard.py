"""What every gRPC tool expects, and which door is which."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import rehearsal_service_pb2 as rehearsal
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import Ledger, refused, reserve_request

SERVICES = {
    "data": {"lastunit.stock.v1.StockService", "lastunit.stock.v1.JournalService"},
    "settlement": {
        "lastunit.stock.v1.StockService",
        "lastunit.stock.v1.StockAdminService",
        "lastunit.admission.v1.AdmissionService",
    },
}


@pytest.fixture(params=["data", "settlement"])
def listener(request: pytest.FixtureRequest) -> str:
    """Each of the two listeners."""
    return str(request.param)


def test_health_is_told_for_the_server_and_each_service(ledger: Ledger, listener: str) -> None:
    """Check says SERVING for every name, Watch says so at once, an unknown name is NOT_FOUND."""
    stub = health_pb2_grpc.HealthStub(getattr(ledger, listener))
    for name in ("", *SERVICES[listener]):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING, name

    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def reflect(channel: grpc.Channel, **question: Any) -> Any:
    """Asks server reflection one question."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(**question)
    [reply] = stub.ServerReflectionInfo(iter([request]), timeout=5)
    return reply


def test_reflection_lists_the_services_and_their_files(ledger: Ledger, listener: str) -> None:
    """A tool without our protos finds each service and can read its declaration."""
    channel = getattr(ledger, listener)
    listed = reflect(channel, list_services="").list_services_response.service
    names = {service.name for service in listed}

    assert SERVICES[listener] <= names
    for name in SERVICES[listener]:
        reply = reflect(channel, file_containing_symbol=name)
        assert reply.file_descriptor_response.file_descriptor_proto, name


def test_reflection_finds_a_method_by_its_name(ledger: Ledger) -> None:
    """A load tool asks for the file of a method; an unknown one is told as not found."""
    name = "lastunit.stock.v1.StockService.Reserve"

    reply = reflect(ledger.data, file_containing_symbol=name)
    unknown = reflect(ledger.data, file_containing_symbol=f"{name}Nothing")

    assert reply.file_descriptor_response.file_descriptor_proto
    assert unknown.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_channelz_counts_calls(ledger: Ledger, listener: str) -> None:
    """The servers of the process and their calls can be seen from outside."""
    channel = getattr(ledger, listener)
    listed = reflect(channel, list_services="").list_services_response.service
    if "grpc.channelz.v1.Channelz" not in {service.name for service in listed}:
        pytest.skip("this front has no channelz, and reflection says so")
    stub = channelz_pb2_grpc.ChannelzStub(channel)

    servers = stub.GetServers(channelz_pb2.GetServersRequest(), timeout=5).server

    assert len(servers) >= 1
    assert sum(server.data.calls_started for server in servers) > 0


def two_listeners(ledger: Ledger) -> None:
    """Skips where the ledger under test has one door."""
    if ledger.data_address == ledger.settlement_address:
        pytest.skip("the ledger under test has one listener")


def test_reserve_on_the_settlement_listener_names_the_data_address(ledger: Ledger) -> None:
    """The flood is kept out of settlement's door, and told where to go."""
    two_listeners(ledger)
    with pytest.raises(grpc.RpcError) as caught:
        ledger.settling.Reserve(reserve_request("any"), timeout=5)

    told = refused(caught.value)
    assert told.reason == "WRONG_LISTENER"
    assert told.metadata["address"].partition(":")[2] == ledger.data_address.partition(":")[2]


def test_control_on_the_data_listener_names_the_settlement_address(ledger: Ledger) -> None:
    """Operators are told which door is theirs."""
    two_listeners(ledger)
    data: Any = ledger.data
    call = data.unary_unary(
        "/lastunit.stock.v1.StockAdminService/Audit",
        request_serializer=admin.AuditRequest.SerializeToString,
    )
    with pytest.raises(grpc.RpcError) as caught:
        call(admin.AuditRequest(), timeout=5)

    told = refused(caught.value)
    assert told.reason == "WRONG_LISTENER"
    expected = ledger.settlement_address.partition(":")[2]
    assert told.metadata["address"].partition(":")[2] == expected


def test_streams_of_events_stay_off_the_settlement_listener(ledger: Ledger) -> None:
    """ReadEvents and WatchAvailability would keep threads that settlement needs."""
    two_listeners(ledger)
    questions = {
        "/lastunit.stock.v1.JournalService/ReadEvents": journal.ReadEventsRequest(page_size=1),
        "/lastunit.stock.v1.StockService/WatchAvailability": stock.WatchAvailabilityRequest(
            sale_id="any"
        ),
    }
    settlement: Any = ledger.settlement
    for path, request in questions.items():
        stream = settlement.unary_stream(path)(request.SerializeToString(), timeout=5)
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert refused(caught.value).reason == "WRONG_LISTENER"


def test_the_clock_is_not_driven_outside_rehearsals(ledger: Ledger) -> None:
    """A ledger on the system's clock does not serve RehearsalService."""
    request = rehearsal.SetClockRequest()
    request.now_time.FromSeconds(1)

    with pytest.raises(grpc.RpcError) as caught:
        ledger.rehearsal.SetClock(request, timeout=5)

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_ledger_time_never_goes_back(rehearsal: Ledger) -> None:
    """An earlier time is refused as CLOCK_BEHIND, with the ledger's own."""
    earlier = rehearsal_request(milliseconds=1)

    with pytest.raises(grpc.RpcError) as caught:
        rehearsal.rehearsal.SetClock(earlier, timeout=5)

    told = refused(caught.value)
    assert told.code is grpc.StatusCode.FAILED_PRECONDITION
    assert told.reason == "CLOCK_BEHIND"


def rehearsal_request(*, milliseconds: int) -> rehearsal.SetClockRequest:
    """Builds a SetClock."""
    request = rehearsal.SetClockRequest()
    request.now_time.FromMilliseconds(milliseconds)
    return request
