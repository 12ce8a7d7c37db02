"""Statuses and faults become the errors of the tree."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from lastunit import errors
from lastunit.client._status import Failure, failure_from_call, failure_from_fault
from lastunit.service.faults import FaultError
from lastunit.stock.v1 import fault_pb2

TREE = [
    (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidArgumentError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.ShedError),
    (grpc.StatusCode.UNAVAILABLE, errors.UnavailableError),
    (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineExceededError),
    (grpc.StatusCode.UNAUTHENTICATED, errors.AccessError),
    (grpc.StatusCode.PERMISSION_DENIED, errors.AccessError),
    (grpc.StatusCode.NOT_FOUND, errors.StatusError),
    (grpc.StatusCode.INTERNAL, errors.StatusError),
    (grpc.StatusCode.UNIMPLEMENTED, errors.StatusError),
    (grpc.StatusCode.FAILED_PRECONDITION, errors.StatusError),
]


def call_error(fault: FaultError, *trailers: tuple[str, Any]) -> grpc.aio.AioRpcError:
    """Returns what a client sees of a fault."""
    return grpc.aio.AioRpcError(
        fault.code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(*(fault.trailers() + trailers)),
        details=fault.message,
    )


@pytest.mark.parametrize(("code", "kind"), TREE)
def test_each_status_has_its_branch(code: grpc.StatusCode, kind: type) -> None:
    """The error keeps text, reason and metadata whatever its branch."""
    fault = FaultError(code, "what happened", reason="SOMETHING", metadata={"lane": "read"})

    error = failure_from_call(call_error(fault)).error()

    assert kind is type(error)
    assert str(error) == "what happened"
    assert error.reason == "SOMETHING"
    assert dict(error.metadata) == {"lane": "read"}


@pytest.mark.parametrize(("code", "kind"), TREE)
def test_a_fault_in_a_batch_is_the_same_error_as_a_status(
    code: grpc.StatusCode, kind: type
) -> None:
    """Both forms of a fault lead to one error."""
    fault = fault_pb2.Fault(code=code.value[0], message="what happened", reason="SOMETHING")

    error = failure_from_fault(fault).error()

    assert kind is type(error)
    assert (str(error), error.reason) == ("what happened", "SOMETHING")


def test_a_known_caller_is_told_apart_from_an_unknown_one() -> None:
    """PERMISSION_DENIED says who you are, UNAUTHENTICATED does not."""
    denied = Failure(grpc.StatusCode.PERMISSION_DENIED, "no").error()
    unknown = Failure(grpc.StatusCode.UNAUTHENTICATED, "who").error()

    assert isinstance(denied, errors.AccessError)
    assert isinstance(unknown, errors.AccessError)
    assert (denied.is_authenticated, unknown.is_authenticated) == (True, False)


def test_violations_come_back_as_they_were_raised() -> None:
    """Field, rule and text of a violation survive the wire."""
    violation = errors.Violation("lines[3].units", "must be 1 or more", "int64.gte")
    fault = FaultError(
        grpc.StatusCode.INVALID_ARGUMENT,
        "bad",
        reason="INVALID_ARGUMENT",
        violations=[violation],
    )

    error = failure_from_call(call_error(fault)).error()

    assert isinstance(error, errors.InvalidArgumentError)
    assert [violation] == list(error.violations)


def test_the_pushback_of_a_status_is_read() -> None:
    """RetryInfo and header say the same, and the error shows it in seconds."""
    fault = FaultError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="RATE", retry_after_seconds=0.75
    )

    error = failure_from_call(call_error(fault)).error()

    assert isinstance(error, errors.ShedError)
    assert error.retry_after_seconds == 0.75


@pytest.mark.parametrize("header", ["-1", "soon", "1.5"])
def test_a_header_that_forbids_or_makes_no_sense_means_never(header: str) -> None:
    """As gRPC's retry design says, an unparsable push-back forbids retries."""
    fault = FaultError(grpc.StatusCode.UNAVAILABLE, "down", reason="DOWN")

    failure = failure_from_call(call_error(fault, ("grpc-retry-pushback-ms", header)))

    assert not failure.is_retryable
    assert failure.error().retry_after_seconds is None  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
)
def test_only_unavailable_is_retryable(code: grpc.StatusCode) -> None:
    """Any other status is an answer."""
    assert (code is grpc.StatusCode.UNAVAILABLE) == Failure(code, "").is_retryable


def test_a_journal_that_was_rolled_back_has_its_own_error() -> None:
    """The reason decides, whatever status it came with."""
    failure = Failure(
        grpc.StatusCode.FAILED_PRECONDITION, "it ends at 3", reason="JOURNAL_ROLLED_BACK"
    )

    error = failure.error(seen_sequence=8)

    assert isinstance(error, errors.RolledBackError)
    assert error.seen_sequence == 8


def test_details_that_a_proxy_mangled_do_not_hide_the_status() -> None:
    """A broken details header costs the details only."""
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff\xff")),
        details="down",
    )

    failure = failure_from_call(error)

    assert (failure.code, failure.message) == (grpc.StatusCode.UNAVAILABLE, "down")


def test_a_fault_with_an_unknown_number_is_unknown() -> None:
    """A number outside of gRPC's table does not break the batch it came in."""
    assert failure_from_fault(fault_pb2.Fault(code=99)).code is grpc.StatusCode.UNKNOWN
