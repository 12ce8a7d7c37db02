"""What the native listeners bound themselves: each limit met by a stranger who goes past it.

Each test fails if its limit is taken away: the connection stays open, or nothing is counted.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from typing import TYPE_CHECKING

import grpc
import pytest
from bench.attacks import frames
from bench.attacks.attacker import LIST, RESERVE, Attacker
from tests.conformance.kit import SECONDS_MAX, Ledger, Server, start_server

from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.options import CONTROL_FRAMES_MAX, PENDING_RESETS_MAX

from .kit import metric, turned_away

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS_MAX = 40
PER_ADDRESS_MAX = 30
STREAMS_MAX = 64
LIMITS = {
    "limits.connections_max": CONNECTIONS_MAX,
    "limits.connections_per_address_max": PER_ADDRESS_MAX,
    "limits.handshake_seconds": 1,
    "limits.message_seconds": 1,
    "limits.reader_seconds": 2,
    "limits.waiting_bytes_max": 1 << 20,
    "data.max_concurrent_streams": STREAMS_MAX,
}
LISTENERS = ["native_data", "native_settlement"]
ENHANCE_YOUR_CALM = 11
EXCHANGE = "/lastunit.stock.v1.StockService/Exchange"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with small limits for all tests."""
    flags = [part for name, value in LIMITS.items() for part in ("--set", f"{name}={value}")]
    started = start_server(tmp_path_factory.mktemp("limited"), "--durability", "memory", *flags)
    yield started
    assert started.stop() == 0


@pytest.fixture
def ledger(server: Server) -> Iterator[Ledger]:
    """A good client of the native listeners, connected before the attack and served after it."""
    opened = Ledger(server.ready["native_data"], server.ready["native_settlement"])
    opened.sequence()
    yield opened
    opened.sequence()
    question = stock.GetReservationRequest(reservation_id="nobody")
    opened.settling.GetReservation(question, timeout=30)
    opened.close()


def wait_for_refusal(server: Server, listener: str, reason: str, before: float) -> None:
    """Waits until one more was refused."""
    end = time.monotonic() + SECONDS_MAX
    while turned_away(server, listener, reason) <= before:
        assert time.monotonic() < end, f"{reason} was not counted"
        time.sleep(0.05)


def connect(
    server: Server, listener: str, *parts: bytes, greeting: bytes | None = None, source: str = ""
) -> socket.socket:
    """Connects, greets and sends."""
    port = int(server.ready[listener].rpartition(":")[2])
    opened = socket.create_connection(
        ("127.0.0.1", port), timeout=SECONDS_MAX, source_address=(source or "127.0.0.1", 0)
    )
    hello = frames.PREFACE + frames.settings() if greeting is None else greeting
    with contextlib.suppress(ConnectionError):
        opened.sendall(hello + b"".join(parts))
    return opened


def read_to_end(opened: socket.socket) -> bytes:
    """Reads until the server ends the connection; a timeout fails the test."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while chunk := opened.recv(1 << 16):
            said += chunk
    return said


def goodbye_of(said: bytes) -> int | None:
    """Returns the error code of the server's GOAWAY, if there is one."""
    goodbye = re.search(rb"\x00\x00.\x07\x00\x00\x00\x00\x00....(....)", said, re.DOTALL)
    return int.from_bytes(goodbye[1], "big") if goodbye else None


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("kind", [frames.PING, frames.SETTINGS, 200])
def test_frames_that_carry_nothing_end_the_connection(
    server: Server, ledger: Ledger, listener: str, kind: int
) -> None:
    """Pings, settings and unknown frames past the bound are the end."""
    assert ledger
    before = turned_away(server, listener, "control_frames")
    payload = b"12345678" if kind == frames.PING else b""
    burst = frames.frame(kind, 0, 0, payload) * (CONTROL_FRAMES_MAX + 1)
    with connect(server, listener, burst) as opened:
        read_to_end(opened)

    wait_for_refusal(server, listener, "control_frames", before)


@pytest.mark.parametrize("listener", LISTENERS)
def test_empty_data_without_an_end_ends_the_connection(
    server: Server, ledger: Ledger, listener: str
) -> None:
    """A call that goes on by saying nothing is the transport's own to end, and it does."""
    assert ledger
    opening = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, frames.call_headers(EXCHANGE))
    burst = frames.frame(frames.DATA, 0, 1) * (CONTROL_FRAMES_MAX + 1)
    with connect(server, listener, opening, burst) as opened:
        assert goodbye_of(read_to_end(opened)) == ENHANCE_YOUR_CALM


def test_a_client_that_measures_its_line_is_no_attacker(server: Server, ledger: Ledger) -> None:
    """Two pings for each answer that it takes are let through, however many."""
    before = turned_away(server, "native_data", "control_frames")
    pings = frames.frame(frames.PING, 0, 0, b"12345678") * 2
    body = frames.message(stock.GetReservationRequest(reservation_id="nobody").SerializeToString())
    block = frames.call_headers("/lastunit.stock.v1.StockService/GetReservation")
    with connect(server, "native_data") as opened:
        for number in range(1, 2 * CONTROL_FRAMES_MAX, 2):
            call = frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
            call += frames.frame(frames.DATA, frames.END_STREAM, number, body)
            opened.sendall(call + pings)
            if number % 63 == 0:
                ledger.sequence()
            assert opened.recv(1 << 16), "the connection was ended"

    assert turned_away(server, "native_data", "control_frames") == before


@pytest.mark.parametrize(
    ("listener", "greeting"),
    [
        ("native_data", b""),
        ("native_settlement", frames.PREFACE[:20]),
        ("native_data", frames.PREFACE),
    ],
)
def test_who_does_not_finish_the_first_words_is_disconnected(
    server: Server, ledger: Ledger, listener: str, greeting: bytes
) -> None:
    """Silence, half a preface, and a preface without the frame that must follow."""
    assert ledger
    before = turned_away(server, listener, "handshake_late")
    with connect(server, listener, greeting=greeting) as opened:
        read_to_end(opened)

    wait_for_refusal(server, listener, "handshake_late", before)


@pytest.mark.parametrize(
    ("listener", "is_whole"), [("native_data", True), ("native_settlement", False)]
)
def test_a_frame_that_never_ends_is_the_end(
    server: Server, ledger: Ledger, listener: str, is_whole: bool
) -> None:
    """Headers without their last frame, and a frame without its last byte."""
    assert ledger
    before = turned_away(server, listener, "frame_late")
    headers = frames.frame(frames.HEADERS, 0, 1, frames.call_headers(RESERVE))
    with connect(server, listener, headers if is_whole else headers[:-1]) as opened:
        read_to_end(opened)

    wait_for_refusal(server, listener, "frame_late", before)


@pytest.mark.parametrize("listener", ["data", "settlement", *LISTENERS])
def test_a_call_whose_message_never_comes_is_ended_and_counted(
    server: Server, ledger: Ledger, listener: str
) -> None:
    """On every listener it is told that its message is late."""
    assert ledger
    before = turned_away(server, listener, "message_late")
    confirm = "/lastunit.stock.v1.StockService/Confirm"
    opening = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, frames.call_headers(confirm))
    with connect(server, listener, opening):
        wait_for_refusal(server, listener, "message_late", before)


def asking(count: int) -> bytes:
    """Returns so many calls that are answered."""
    block, body = frames.call_headers(LIST), frames.message(b"\x0a\x07general")
    return b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
        + frames.frame(frames.DATA, frames.END_STREAM, number, body)
        for number in range(1, 2 * count, 2)
    )


def test_who_takes_no_answer_for_too_long_is_disconnected(server: Server, ledger: Ledger) -> None:
    """A window that stays closed ends the connection; other connections go on."""
    assert ledger
    before = turned_away(server, "native_data", "reader_late")
    closed = frames.PREFACE + frames.settings(window=0)
    with connect(server, "native_data", asking(4), greeting=closed) as opened:
        read_to_end(opened)

    wait_for_refusal(server, "native_data", "reader_late", before)


def test_answers_that_nobody_takes_are_bounded_in_memory(server: Server, ledger: Ledger) -> None:
    """When more waits than may, connections that take nothing go, long before they are late."""
    assert ledger
    before = turned_away(server, "native_data", "waiting_bytes")
    closed = frames.PREFACE + frames.settings(window=0)
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(
                connect(server, "native_data", asking(STREAMS_MAX), greeting=closed)
            )
        wait_for_refusal(server, "native_data", "waiting_bytes", before)
    # Whatever of it waits goes with its connections.
    end = time.monotonic() + SECONDS_MAX
    while metric(server, "lastunit_door_waiting_bytes", listener="native_data"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_messages_that_are_not_whole_are_bounded_in_memory(server: Server, ledger: Ledger) -> None:
    """Messages of 4 MiB whose end does not come end their connection when too much is gathered."""
    assert ledger
    before = turned_away(server, "native_data", "waiting_bytes")
    exchange = frames.call_headers(EXCHANGE)
    parts = []
    for number in range(1, 9, 2):
        parts.append(frames.frame(frames.HEADERS, frames.END_HEADERS, number, exchange))
        parts.append(frames.frame(frames.DATA, 0, number, struct.pack(">BL", 0, 4 << 20)))
        parts += [frames.frame(frames.DATA, 0, number, bytes(16_384))] * 40
    with connect(server, "native_data") as opened:
        # The wider windows hold once they are acknowledged.
        opened.recv(1 << 16)
        opened.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0) + b"".join(parts))
        wait_for_refusal(server, "native_data", "waiting_bytes", before)
        read_to_end(opened)


@pytest.mark.parametrize("listener", LISTENERS)
def test_who_only_holds_connections_makes_room_for_who_calls(
    server: Server, ledger: Ledger, listener: str
) -> None:
    """All places are held by strangers; a good client that comes now is served at once."""
    assert ledger
    before = turned_away(server, listener, "made_room")
    port = int(server.ready[listener].rpartition(":")[2])
    strangers = [Attacker(port, 60, f"127.0.0.{last}") for last in range(2, 8)]
    held = [
        opened for each in strangers for _ in range(PER_ADDRESS_MAX) if (opened := each.connect())
    ]
    assert len(held) > CONNECTIONS_MAX
    fresh = Ledger(server.ready["native_data"], server.ready["native_settlement"])
    fresh.sequence()
    question = stock.GetReservationRequest(reservation_id="nobody")
    fresh.settling.GetReservation(question, timeout=30)
    count = metric(server, "lastunit_door_connections", listener=listener)
    fresh.close()
    for opened in held:
        opened.close()

    assert count <= CONNECTIONS_MAX
    assert turned_away(server, listener, "made_room") > before


def test_one_address_holds_no_more_than_its_places(server: Server, ledger: Ledger) -> None:
    """Connections past the bound of an address cost that address its own older ones."""
    ledger.sequence()
    opened = [
        connect(server, "native_data", source="127.0.0.9") for _ in range(PER_ADDRESS_MAX + 8)
    ]
    gone = 0
    for each in opened[:8]:
        # The greeting's answer may have come before the end.
        read_to_end(each)
        gone += 1
    opened[-1].settimeout(SECONDS_MAX)

    assert gone == 8
    assert opened[-1].recv(9), "the newest stays"
    for each in opened:
        each.close()


@pytest.mark.parametrize("listener", LISTENERS)
def test_resets_before_a_call_is_looked_at_end_the_connection(
    server: Server, ledger: Ledger, listener: str
) -> None:
    """A burst of calls reset at once is answered with GOAWAY that tells to calm down."""
    assert ledger
    block = frames.call_headers(RESERVE)
    burst = b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
        + frames.frame(frames.RST_STREAM, 0, number, b"\0\0\0\x08")
        for number in range(1, 200 * PENDING_RESETS_MAX, 2)
    )
    with connect(server, listener, burst) as opened:
        said = read_to_end(opened)

    assert goodbye_of(said) == ENHANCE_YOUR_CALM


def test_a_connection_has_no_more_calls_open_than_its_bound(server: Server, ledger: Ledger) -> None:
    """Calls past it are refused by the transport and reach no handler."""
    before = turned_away(server, "native_data", "message_late")
    block = frames.call_headers(RESERVE)
    opening = b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
        for number in range(1, 2 * 4 * STREAMS_MAX, 2)
    )
    with connect(server, "native_data", opening):
        wait_for_refusal(server, "native_data", "message_late", before)
        ledger.sequence()
        time.sleep(0.3)
        late = turned_away(server, "native_data", "message_late") - before

    assert 0 < late <= STREAMS_MAX


@pytest.mark.parametrize("listener", LISTENERS)
def test_headers_past_the_bound_reach_no_handler(
    server: Server, ledger: Ledger, listener: str
) -> None:
    """One more than 16 KiB, however small it is packed, ends the call with RESOURCE_EXHAUSTED."""
    stub = ledger.stock if listener == "native_data" else ledger.settling
    question = stock.GetReservationRequest(reservation_id="nobody")
    labels = {
        "listener": listener,
        "grpc_service": "lastunit.stock.v1.StockService",
        "grpc_method": "GetReservation",
        "grpc_code": "OK",
    }
    before = metric(server, "grpc_server_handled_total", **labels)
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetReservation(question, metadata=(("x-bomb", "a" * (16 << 10)),), timeout=10)

    assert caught.value.code() is not grpc.StatusCode.OK
    assert metric(server, "grpc_server_handled_total", **labels) == before
