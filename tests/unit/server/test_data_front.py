"""The data listener over a fake node: what passes through, and what a caller sees of trouble."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from lastunit.stock.v1 import journal_service_pb2
from lastunit_server.options import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lastunit_server.data_front import DataFront

    from .fake_node import FakeNode, Submitted

RESERVE = "/lastunit.stock.v1.StockService/Reserve"
EXCHANGE = "/lastunit.stock.v1.StockService/Exchange"
READ_EVENTS = "/lastunit.stock.v1.JournalService/ReadEvents"
WATCH = "/lastunit.stock.v1.StockService/WatchAvailability"
AUDIT = "/lastunit.stock.v1.StockAdminService/Audit"


@pytest.fixture
async def channel(data_address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the front."""
    async with grpc.aio.insecure_channel(data_address) as opened:
        yield opened


def info_of(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """Unpacks the first detail."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(bytes(trailers["grpc-status-details-bin"]))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def held(node: FakeNode, count: int) -> None:
    """Waits until so many calls are open."""
    while len(node.held) < count:  # noqa: ASYNC110 - the fake has no loop to tell
        await asyncio.sleep(0.01)


async def test_bytes_and_context_pass_through(channel: Any, node: FakeNode) -> None:
    """The node gets the bytes, the caller, its place and its deadline; the reply is its bytes."""
    metadata = (("lastunit-caller", "shop"), ("lastunit-seen-sequence", "7"))

    reply = await channel.unary_unary(RESERVE)(b"\x00raw\xff", timeout=5, metadata=metadata)

    assert reply == b"\x00raw\xff"
    [call] = node.submitted
    assert (call.method, call.caller, call.listener) == (RESERVE, "shop", "data")
    assert (call.seen_sequence, call.seen_epoch) == (7, 0)
    assert call.deadline_ms is not None
    assert 0 < call.deadline_ms <= 5000


async def test_answers_that_come_later_find_their_calls(channel: Any, node: FakeNode) -> None:
    """200 calls answered in reverse by one wake-up each get their own answer."""
    node.answer_of = lambda _call: None
    call = channel.unary_unary(RESERVE)
    pending = [asyncio.ensure_future(call(str(i).encode(), timeout=10)) for i in range(200)]
    await held(node, 200)

    node.release(in_reverse=True)

    assert await asyncio.gather(*pending) == [str(i).encode() for i in range(200)]


async def test_a_fault_of_the_node_becomes_status_and_trailers(
    channel: Any, node: FakeNode
) -> None:
    """Code, text, details and push-back arrive as the node wrote them."""
    status = status_pb2.Status(code=8, message="too many")
    for detail in (
        error_details_pb2.ErrorInfo(reason="RATE_LANE", domain="lastunit"),
        error_details_pb2.RetryInfo(),
    ):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    node.answer_of = lambda _call: (8, status.SerializeToString())

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(RESERVE)(b"")

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "too many"
    assert info_of(caught.value).reason == "RATE_LANE"
    assert dict(caught.value.trailing_metadata() or ())["grpc-retry-pushback-ms"] == "0"


async def test_no_text_of_a_bug_reaches_the_caller(channel: Any, node: FakeNode) -> None:
    """An exception in the server shows as INTERNAL with an error id."""

    def broken(_call: Submitted) -> None:
        raise RuntimeError("secret of the house")

    node.answer_of = broken

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(RESERVE)(b"")

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    assert info_of(caught.value).metadata["error_id"] in (caught.value.details() or "")


async def test_control_is_sent_to_the_settlement_listener(channel: Any, node: FakeNode) -> None:
    """An admin call here is refused with the other address, and the node never sees it."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(AUDIT)(b"")

    info = info_of(caught.value)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert info.reason == "WRONG_LISTENER"
    assert info.metadata["address"] == "settlement.example:1"
    assert node.submitted == []


async def test_a_malformed_caller_is_refused_before_the_node(channel: Any, node: FakeNode) -> None:
    """A wrong metadata value is named and nothing is decided."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(RESERVE)(b"", metadata=(("lastunit-caller", "a b"),))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert node.submitted == []


async def test_a_message_is_taken_at_its_limit_and_refused_past_it(
    channel: Any, node: FakeNode
) -> None:
    """4 MiB pass, one byte more does not reach the node."""
    call = channel.unary_unary(RESERVE)
    node.answer_of = lambda _call: (0, b"")

    await call(bytes(MESSAGE_BYTES_MAX))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(bytes(MESSAGE_BYTES_MAX + 1))

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(node.submitted) == 1


async def test_exchange_answers_in_order_with_many_in_flight(channel: Any, node: FakeNode) -> None:
    """Messages are handed over before earlier ones are answered; replies keep their order."""
    node.answer_of = lambda _call: None
    call = channel.stream_stream(EXCHANGE)()
    for i in range(40):
        await call.write(str(i).encode())
    await held(node, 40)

    node.release(in_reverse=True)

    assert [await call.read() for _ in range(40)] == [str(i).encode() for i in range(40)]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_fault_ends_an_exchange_after_the_replies_before_it(
    channel: Any, node: FakeNode
) -> None:
    """What was answered before the faulty message is delivered, then the status."""
    status = status_pb2.Status(code=3, message="not a batch").SerializeToString()
    node.answer_of = lambda call: (3, status) if call.request == b"bad" else (0, call.request)
    call = channel.stream_stream(EXCHANGE)()
    for message in (b"one", b"two", b"bad"):
        await call.write(message)

    replies = [await call.read(), await call.read()]
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()

    assert replies == [b"one", b"two"]
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_past_the_bound_is_refused(channel: Any, node: FakeNode) -> None:
    """Three streams are open, the fourth is told so; a closed one makes room."""
    opened = [channel.stream_stream(EXCHANGE)() for _ in range(3)]
    for stream in opened:
        await stream.write(b"x")
        assert await stream.read() == b"x"

    refused = channel.stream_stream(EXCHANGE)()
    assert await refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    await opened[0].done_writing()
    assert await opened[0].code() is grpc.StatusCode.OK
    another = channel.stream_stream(EXCHANGE)()
    await another.write(b"y")
    assert await another.read() == b"y"
    for stream in (*opened, another):
        stream.cancel()


def following(after: int) -> bytes:
    """Serializes a request for the events after a position, live."""
    request = journal_service_pb2.ReadEventsRequest(after_sequence=after, follow=True, page_size=10)
    return bytes(request.SerializeToString())


async def test_followers_share_one_question_and_miss_nothing(channel: Any, node: FakeNode) -> None:
    """Three followers at the end cost the node one ticket; each gets every event once."""
    node.sequence = 5
    streams = [channel.unary_stream(READ_EVENTS)(following(0)) for _ in range(3)]
    for stream in streams:
        assert await stream.read() == b"1-5"
    while not node.notified:  # noqa: ASYNC110 - the fake has no loop to tell
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    asked = len(node.notified)

    streams[0].cancel()
    await asyncio.sleep(0.05)
    node.grow(17)

    assert asked == 1
    for stream in streams[1:]:
        assert [await stream.read(), await stream.read()] == [b"6-15", b"16-17"]
        stream.cancel()


async def test_a_watcher_that_leaves_leaves_nothing_behind(
    data_front: DataFront, channel: Any
) -> None:
    """Streams that are cancelled while they wait free their places and their tickets."""
    for _ in range(10):
        stream = channel.unary_stream(WATCH)(b"")
        assert await stream.read()
        stream.cancel()
        while data_front.counts.open_count:  # noqa: ASYNC110 - counted by the server
            await asyncio.sleep(0.01)

    assert data_front.completions.waiting_count == 0


async def test_a_burst_is_answered_whole(data_address: str, node: FakeNode) -> None:
    """4,000 calls that arrive at once over four connections are all answered, none cut off."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels: list[Any] = [
        grpc.aio.insecure_channel(data_address, options=options) for _ in range(4)
    ]
    calls = [channels[i % 4].unary_unary(RESERVE)(b"x", timeout=30) for i in range(4000)]

    replies = await asyncio.gather(*calls)

    for channel in channels:
        await channel.close()
    assert replies == [b"x"] * 4000
    assert len(node.submitted) == 4000


async def test_an_unknown_method_is_unimplemented(channel: Any) -> None:
    """What the contract does not have is UNIMPLEMENTED."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary("/lastunit.stock.v1.StockService/Steal")(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
