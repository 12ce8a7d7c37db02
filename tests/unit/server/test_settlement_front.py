"""The settlement listener over a fake node."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastunit_server.settlement_front import SettlementFront

    from .fake_node import FakeNode, Submitted

SETTLE = "/lastunit.stock.v1.StockService/SettlePayment"
RESERVE = "/lastunit.stock.v1.StockService/Reserve"
EXCHANGE = "/lastunit.stock.v1.StockService/Exchange"
READ_EVENTS = "/lastunit.stock.v1.JournalService/ReadEvents"


@pytest.fixture
def channel(settlement_front: SettlementFront) -> Iterator[grpc.Channel]:
    """A channel to the front."""
    with grpc.insecure_channel(settlement_front.address) as opened:
        yield opened


def info_of(error: Any) -> error_details_pb2.ErrorInfo:
    """Unpacks the first detail."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_bytes_and_context_pass_through(channel: Any, node: FakeNode) -> None:
    """The node gets the bytes, the caller, its place and its deadline; the reply is its bytes."""
    metadata = (("lastunit-caller", "payment"), ("lastunit-seen-epoch", "2"))

    reply = channel.unary_unary(SETTLE)(b"\x00raw\xff", timeout=5, metadata=metadata)

    assert reply == b"\x00raw\xff"
    [call] = node.submitted
    assert (call.method, call.caller, call.listener) == (SETTLE, "payment", "settlement")
    assert (call.seen_sequence, call.seen_epoch) == (0, 2)
    assert call.deadline_ms is not None


@pytest.mark.parametrize("method", [RESERVE, READ_EVENTS])
def test_the_flood_is_sent_to_the_data_listener(channel: Any, node: FakeNode, method: str) -> None:
    """Reservations and event streams are refused with the data address."""
    is_stream = method == READ_EVENTS
    call = channel.unary_stream(method) if is_stream else channel.unary_unary(method)

    with pytest.raises(grpc.RpcError) as caught:
        list(call(b""))

    info = info_of(caught.value)
    assert info.reason == "WRONG_LISTENER"
    assert info.metadata["address"] == "data.example:1"
    assert node.submitted == []


def test_no_text_of_a_bug_reaches_the_caller(channel: Any, node: FakeNode) -> None:
    """An exception in the server shows as INTERNAL with an error id."""

    def broken(_call: Submitted) -> None:
        raise RuntimeError("secret of the house")

    node.answer_of = broken

    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SETTLE)(b"")

    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert info_of(error).metadata["error_id"] in error.details()


def test_exchange_answers_in_order_with_many_in_flight(channel: Any, node: FakeNode) -> None:
    """Messages are handed over before earlier ones are answered; replies keep their order."""
    node.answer_of = lambda _call: None
    is_sent = threading.Event()

    def messages() -> Iterator[bytes]:
        for i in range(40):
            yield str(i).encode()
        is_sent.wait(10)

    replies = channel.stream_stream(EXCHANGE)(messages())
    while len(node.held) < 40:
        is_sent.wait(0.01)

    node.release(in_reverse=True)

    assert [next(replies) for _ in range(40)] == [str(i).encode() for i in range(40)]
    is_sent.set()
    assert list(replies) == []
    assert replies.code() is grpc.StatusCode.OK


def test_streams_leave_the_unary_calls_their_threads(channel: Any, node: FakeNode) -> None:
    """With 64 Exchange streams open a payment callback is served; the 65th stream is refused."""
    ends = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"hello"
        ends.wait(20)

    streams = [channel.stream_stream(EXCHANGE)(messages()) for _ in range(64)]
    with ThreadPoolExecutor(64) as readers:
        assert list(readers.map(next, streams)) == [b"hello"] * 64

    refused = channel.stream_stream(EXCHANGE)(messages())

    assert channel.unary_unary(SETTLE)(b"fact", timeout=10) == b"fact"
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    ends.set()
    for stream in streams:
        assert stream.code() is grpc.StatusCode.OK


def test_stop_ends_open_streams_as_draining(
    settlement_front: SettlementFront, channel: Any, node: FakeNode
) -> None:
    """A stop answers what was asked and ends each stream with UNAVAILABLE, DRAINING."""
    ends = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"hello"
        ends.wait(20)

    stream = channel.stream_stream(EXCHANGE)(messages())
    assert next(stream) == b"hello"

    settlement_front.stop(5)

    assert stream.code() is grpc.StatusCode.UNAVAILABLE
    assert info_of(stream).reason == "DRAINING"
    ends.set()
