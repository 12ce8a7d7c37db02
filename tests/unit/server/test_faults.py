"""Faults on their way from the node to a transport, and the caller's metadata on its way in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from lastunit_server import faults
from lastunit_server.call_context import Caller, caller_from, milliseconds_left

if TYPE_CHECKING:
    from google.protobuf.message import Message


def packed(*details: Message) -> bytes:
    """Serializes a status with these details."""
    status = status_pb2.Status(code=8, message="slow down")
    for detail in details:
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        status.details.append(wrapped)
    serialized: bytes = status.SerializeToString()
    return serialized


def details_of(refusal: faults.Refusal) -> bytes:
    """Returns the serialized status in the trailers."""
    details = dict(refusal.trailers)["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    return details


def test_a_fault_keeps_code_text_and_details() -> None:
    """The status that the node wrote arrives byte for byte in the trailers."""
    body = packed(error_details_pb2.ErrorInfo(reason="RATE_LANE", domain="lastunit"))

    refusal = faults.refusal_from(8, body)

    assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refusal.message == "slow down"
    assert refusal.trailers == (("grpc-status-details-bin", body),)


@pytest.mark.parametrize(("seconds", "nanos"), [(0, 200_000_000), (3, 0), (0, 0)])
def test_retry_info_becomes_a_pushback_that_is_never_early(seconds: int, nanos: int) -> None:
    """The push-back lies between the time that the node said and half as much again."""
    delay = duration_pb2.Duration(seconds=seconds, nanos=nanos)
    body = packed(error_details_pb2.RetryInfo(retry_delay=delay))
    told_ms = seconds * 1000 + nanos / 1_000_000

    for _ in range(50):
        trailers = dict(faults.refusal_from(8, body).trailers)
        pushback = int(trailers["grpc-retry-pushback-ms"])
        assert told_ms <= pushback <= told_ms * 1.5 + 1


def test_a_fault_of_ours_carries_reason_metadata_and_fields() -> None:
    """Whatever the text says stands in the details too."""
    refusal = faults.fault(
        grpc.StatusCode.INVALID_ARGUMENT,
        "SOME_REASON",
        "wrong, do right",
        metadata={"key": "value"},
        violations=(faults.Violation("lines[0].units", "int64.gte", "must be 1 or more"),),
    )

    status = status_pb2.Status.FromString(details_of(refusal))
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad_request)
    assert (info.reason, info.domain, dict(info.metadata)) == (
        "SOME_REASON",
        "lastunit",
        {"key": "value"},
    )
    assert bad_request.field_violations[0].field == "lines[0].units"
    assert bad_request.field_violations[0].reason == "INT64_GTE"


def test_a_bug_shows_an_id_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets an id that finds the exception in the log, not the exception."""
    with caplog.at_level(logging.ERROR, logger="lastunit_server"):
        try:
            int("secret of the house")
        except ValueError:
            refusal = faults.bug("/x/Y")

    [record] = caplog.records
    identifier = record.fields["error_id"]  # type: ignore[attr-defined]
    assert identifier in refusal.message
    assert "secret" not in refusal.message
    assert b"secret" not in details_of(refusal)
    assert record.exc_info is not None


def test_caller_and_place_come_from_metadata() -> None:
    """Name, sequence and epoch are read; other keys are none of ours."""
    metadata = (
        ("lastunit-caller", "order-service"),
        ("lastunit-seen-sequence", "42"),
        ("lastunit-seen-epoch", "3"),
        ("user-agent", "x"),
    )

    assert caller_from(metadata) == Caller("order-service", 42, 3)
    assert caller_from(None) == Caller("anonymous", 0, 0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lastunit-caller", ""),
        ("lastunit-caller", "a" * 65),
        ("lastunit-caller", "a b"),
        ("lastunit-caller", "a\n"),
        ("lastunit-seen-sequence", "-1"),
        ("lastunit-seen-sequence", "9223372036854775808"),
        ("lastunit-seen-sequence", "1" * 5000),
        ("lastunit-seen-sequence", "٣"),
        ("lastunit-seen-epoch", "x"),
    ],
)
def test_wrong_metadata_is_refused_by_its_key(key: str, value: str) -> None:
    """Each malformed value gives INVALID_ARGUMENT that names the metadata key."""
    refusal = caller_from(((key, value),))

    assert isinstance(refusal, faults.Refusal)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert key in refusal.message


def test_names_and_numbers_are_taken_at_their_limits() -> None:
    """64 bytes and the largest sequence pass."""
    metadata = (("lastunit-caller", "a" * 64), ("lastunit-seen-sequence", str(2**63 - 1)))

    assert caller_from(metadata) == Caller("a" * 64, 2**63 - 1, 0)


def test_time_left_is_whole_milliseconds() -> None:
    """No deadline stays none, a passed one is zero."""
    assert milliseconds_left(None) is None
    assert milliseconds_left(9.2e15) is None
    assert milliseconds_left(-1) == 0
    assert milliseconds_left(1.2345) == 1234
