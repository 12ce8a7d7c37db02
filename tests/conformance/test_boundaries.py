"""Each field of each request at its limit and one past it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import message_factory

from lastunit.admission.v1 import admission_service_pb2
from lastunit.stock.v1 import (
    journal_service_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)

from .boundaries import Case, cases, valid
from .kit import Ledger, refused

MODULES = (
    stock_service_pb2,
    stock_admin_service_pb2,
    journal_service_pb2,
    admission_service_pb2,
)
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if not method.client_streaming
}
# A token at its longest breaks no declared rule, but only the server makes good ones; a sequence
# at its largest lies past every journal's end. A hold means nothing with the first of the hands.
NOT_GOOD_AT_THEIR_LIMIT = {"page_token", "after_sequence", "hold"}
# What is said once every field was taken: no longest text is a policy, and no revision has the
# largest number, no sale the longest name.
FIELDS_WERE_TAKEN = {
    "POLICY_INVALID",
    "REVISION_MISMATCH",
    "UNKNOWN_REVISION",
    "UNKNOWN_SALE",
}
OPERATION_FIELDS: list[Any] = list(
    stock_service_pb2.Operation.DESCRIPTOR.oneofs_by_name["request"].fields
)
OPERATIONS = {field.message_type.name: field.name for field in OPERATION_FIELDS}


def cases_of(path: str, *, is_valid: bool) -> list[Case]:
    """Returns a method's edge cases of one side."""
    kind = message_factory.GetMessageClass(METHODS[path].input_type)
    return [case for case in cases(kind) if case.is_valid is is_valid]


def names_of(path: str) -> list[str]:
    """Returns the fields of a method's request."""
    return [field.name for field in METHODS[path].input_type.fields]


def is_named(case: Case, fields: tuple[str, ...]) -> bool:
    """Tells whether a violation names the field or an item, key or value of it."""
    return any(found == case.path or found.startswith(f"{case.path}[") for found in fields)


@pytest.mark.parametrize("path", METHODS)
def test_one_past_a_limit_is_refused_by_field_and_changes_nothing(
    ledger: Ledger, path: str
) -> None:
    """INVALID_ARGUMENT names the field, and no event follows."""
    before = ledger.sequence()
    for case in cases_of(path, is_valid=False):
        what = f"{case.path} = {case.note}"
        with pytest.raises(grpc.RpcError) as caught:
            ledger.call(
                path,
                case.request.SerializeToString(),
                is_stream=METHODS[path].server_streaming,
            )
        told = refused(caught.value)
        assert told.code is grpc.StatusCode.INVALID_ARGUMENT, what
        assert told.reason == "INVALID_FIELD", what
        assert is_named(case, told.fields), f"{what}: {told.fields}"
        assert case.path in told.message, what

    assert ledger.caused_since(before) == []


@pytest.mark.parametrize("path", METHODS)
def test_a_field_at_its_limit_is_taken(ledger: Ledger, path: str) -> None:
    """At each limit the call is decided: status OK, whatever the outcome."""
    for case in cases_of(path, is_valid=True):
        if case.path in NOT_GOOD_AT_THEIR_LIMIT:
            continue
        try:
            ledger.call(
                path,
                case.request.SerializeToString(),
                is_stream=METHODS[path].server_streaming,
            )
        except grpc.RpcError as error:
            told = refused(error)
            if told.reason not in FIELDS_WERE_TAKEN:
                pytest.fail(f"{case.path} = {case.note}: {told}")


def test_a_batch_refuses_each_invalid_operation_by_itself(ledger: Ledger) -> None:
    """In an Exchange every case is a fault of its own operation, naming the same field."""
    message = stock_service_pb2.ExchangeRequest(exchange_id=7)
    tried = []
    for name, operation in OPERATIONS.items():
        kind = getattr(stock_service_pb2, name)
        for case in cases(kind):
            if not case.is_valid:
                getattr(message.operations.add(), operation).CopyFrom(case.request)
                tried.append(case)
    before = ledger.sequence()

    [response] = ledger.stock.Exchange(iter([message]), timeout=20)

    assert response.exchange_id == 7
    assert len(response.replies) == len(tried) > 100
    for case, reply in zip(tried, response.replies, strict=True):
        assert reply.WhichOneof("response") == "fault", case
        assert reply.fault.code == grpc.StatusCode.INVALID_ARGUMENT.value[0], case
        fields = tuple(found.field for found in reply.fault.violations)
        assert is_named(case, fields), f"{case.path} = {case.note}: {fields}"
    assert ledger.caused_since(before) == []


@pytest.mark.parametrize(("count", "is_fine"), [(0, False), (1, True), (4096, True), (4097, False)])
def test_a_batch_holds_1_to_4096_operations(ledger: Ledger, count: int, is_fine: bool) -> None:
    """At both limits each operation is answered; past them the message is refused."""
    operation = stock_service_pb2.Operation(
        get_reservation=stock_service_pb2.GetReservationRequest(reservation_id="nobody")
    )
    message = stock_service_pb2.ExchangeRequest(operations=[operation] * count)

    if is_fine:
        [response] = ledger.stock.Exchange(iter([message]), timeout=20)
        assert len(response.replies) == count
    else:
        with pytest.raises(grpc.RpcError) as caught:
            list(ledger.stock.Exchange(iter([message]), timeout=20))
        assert refused(caught.value).fields == ("operations",)


def test_an_operation_without_a_request_is_a_fault(ledger: Ledger) -> None:
    """An empty operation is refused by itself and does not hinder its neighbours."""
    empty = stock_service_pb2.Operation()
    good = stock_service_pb2.Operation(
        get_reservation=stock_service_pb2.GetReservationRequest(reservation_id="nobody")
    )
    message = stock_service_pb2.ExchangeRequest(operations=[good, empty, good])

    [response] = ledger.stock.Exchange(iter([message]), timeout=20)

    kinds = [reply.WhichOneof("response") for reply in response.replies]
    assert kinds == ["get_reservation", "fault", "get_reservation"]


@pytest.mark.parametrize("path", METHODS)
def test_bytes_that_are_no_message_are_refused(ledger: Ledger, path: str) -> None:
    """What does not decode is INVALID_ARGUMENT, not a bug."""
    with pytest.raises(grpc.RpcError) as caught:
        ledger.call(path, b"\xff\xff\xff", is_stream=METHODS[path].server_streaming)

    told = refused(caught.value)
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.reason == "MALFORMED_REQUEST"


def test_edges_are_found_for_every_field() -> None:
    """Each field of each request but booleans and free marks has a case, or the proto is wrong."""
    for path, method in METHODS.items():
        kind = message_factory.GetMessageClass(method.input_type)
        found = {case.path.partition(".")[0].partition("[")[0] for case in cases(kind)}
        free = {field.name for field in kind.DESCRIPTOR.fields if field.type == field.TYPE_BOOL}
        assert found == set(names_of(path)) - free, path
        assert valid(kind).IsInitialized()
