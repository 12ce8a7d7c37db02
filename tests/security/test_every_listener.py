"""Limits that every listener holds, whichever front it is of: size, packing, age, idleness."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from bench.attacks import frames
from tests.conformance.kit import SECONDS_MAX, Ledger, Server, start_server

from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server.options import MESSAGE_BYTES_MAX

from .kit import new_door, turned_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LISTENERS = ["data", "settlement", "native_data", "native_settlement"]
GET = "/lastunit.stock.v1.StockService/GetReservation"
PACKED = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the tests that change nothing."""
    started = start_server(tmp_path_factory.mktemp("every"), "--durability", "memory")
    yield started
    assert started.stop() == 0


@pytest.fixture
def call(server: Server, request: pytest.FixtureRequest) -> Iterator[Callable[..., bytes]]:
    """A raw call on a listener, which serves a good question before and after the test."""
    address = server.ready[request.param]
    channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])
    raw: Any = channel.unary_unary(GET)
    good = stock.GetReservationRequest(reservation_id="nobody").SerializeToString()
    assert raw(good, timeout=SECONDS_MAX)
    yield raw
    assert raw(good, timeout=SECONDS_MAX)
    channel.close()


@pytest.mark.parametrize("call", LISTENERS, indirect=True)
def test_a_message_past_the_limit_is_refused(call: Callable[..., bytes]) -> None:
    """One byte more than the contract's limit is RESOURCE_EXHAUSTED, and told so."""
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(MESSAGE_BYTES_MAX + 1), timeout=SECONDS_MAX)
    error: Any = caught.value

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max" in error.details()


@pytest.mark.parametrize("call", LISTENERS, indirect=True)
def test_a_message_that_unpacks_past_the_limit_is_refused(call: Callable[..., bytes]) -> None:
    """Refused by its size where it would be unpacked, and as packed where it never is."""
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(64 << 20), compression=grpc.Compression.Gzip, timeout=SECONDS_MAX)
    error: Any = caught.value

    assert error.code() in PACKED


@pytest.mark.parametrize("limit", ["age", "idle"])
def test_a_connection_ends_at_its_age_and_when_it_is_idle(tmp_path: Path, limit: str) -> None:
    """GOAWAY comes over TLS, the connection ends, and a client that calls on notices nothing."""
    door = new_door(tmp_path)
    token = door.give_token("orders")
    door.write()
    server = door.start("--set", f"limits.connection_{limit}_seconds=1")
    context = ssl.create_default_context(cafile=str(door.authority.certificate))
    context.set_alpn_protocols(["h2"])
    ended = []
    for listener in LISTENERS:
        door.prefix = "native_" if listener.startswith("native") else ""
        ledger = door.ledger(token)
        address = ("localhost", int(server.ready[listener].rpartition(":")[2]))
        with (
            socket.create_connection(address, timeout=SECONDS_MAX) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as opened,
        ):
            opened.sendall(frames.PREFACE + frames.settings())
            if _read_to_end(opened, ledger):
                ended.append(listener)
        for _ in range(5):
            ledger.sequence()
        ledger.close()

    assert server.stop() == 0
    assert ended == LISTENERS


def watching(number: int) -> bytes:
    """Returns a call that reads events as they come, on a stream of a connection."""
    path = "/lastunit.stock.v1.JournalService/ReadEvents"
    body = frames.message(journal.ReadEventsRequest(follow=True, page_size=1).SerializeToString())
    block = frames.call_headers(path)
    return frames.frame(frames.HEADERS, frames.END_HEADERS, number, block) + frames.frame(
        frames.DATA, frames.END_STREAM, number, body
    )


@pytest.mark.parametrize("listener", ["data", "native_data"])
def test_a_stream_that_nobody_reads_gives_its_place_back(tmp_path: Path, listener: str) -> None:
    """All places for streams are held by who reads nothing; soon a good reader gets one."""
    flags = ("--set", "data.streams_max=2", "--set", "limits.reader_seconds=1")
    server = start_server(tmp_path, "--durability", "memory", *flags)
    prefix = "native_" if listener.startswith("native") else ""
    ledger = Ledger(server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])
    ledger.put_sale(units=1)
    port = int(server.ready[listener].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX) as opened:
        opened.sendall(frames.PREFACE + frames.settings(window=0) + watching(1) + watching(3))
        end = time.monotonic() + 3 * SECONDS_MAX
        while not (page := first_page(ledger)) or not turned_away(server, listener, "reader_late"):
            assert time.monotonic() < end, "no place was given back"
            time.sleep(0.1)
    ledger.close()

    assert page.events
    assert server.stop() == 0


@pytest.mark.parametrize("listener", LISTENERS)
def test_calls_given_up_during_a_standstill_are_no_attack(server: Server, listener: str) -> None:
    """A backlog of calls, each with its reset some hundreds of calls on, ends no connection."""
    confirm = "/lastunit.stock.v1.StockService/Confirm"
    block, count, apart = frames.call_headers(confirm), 4000, 200
    parts = []
    for place in range(count):
        parts.append(frames.frame(frames.HEADERS, frames.END_HEADERS, 2 * place + 1, block))
        if place >= apart:
            given_up = 2 * (place - apart) + 1
            parts.append(frames.frame(frames.RST_STREAM, 0, given_up, b"\0\0\0\x08"))
    port = int(server.ready[listener].rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX) as opened:
        opened.sendall(frames.PREFACE + frames.settings() + b"".join(parts))
        opened.sendall(frames.frame(frames.PING, 0, 0, b"all-read"))
        said = b""
        while b"all-read" not in said:
            more = opened.recv(1 << 16)
            assert more, "the connection was ended"
            said += more


def first_page(ledger: Ledger) -> Any:
    """Reads events on a stream; None if there is no place for one more."""
    request = journal.ReadEventsRequest(page_size=10)
    try:
        return next(ledger.journal.ReadEvents(request, timeout=SECONDS_MAX))
    except grpc.RpcError:
        return None


def _read_to_end(opened: ssl.SSLSocket, ledger: Ledger) -> bool:
    """Reads, answering pings as a client does, until the server ends the connection."""
    end, said = time.monotonic() + 6 * SECONDS_MAX, b""
    opened.settimeout(0.1)
    while time.monotonic() < end:
        ledger.sequence()
        try:
            more = opened.recv(1 << 16)
        except TimeoutError:
            continue
        except (ssl.SSLError, ConnectionError):
            return _has_goodbye(said)
        said += more
        if not more:
            return _has_goodbye(said)
        for at in range(len(said) - len(more), len(said)):
            head = said[at : at + 9]
            if head[:5] == bytes((0, 0, 8, frames.PING, 0)) and len(said) >= at + 17:
                opened.sendall(frames.frame(frames.PING, frames.ACK, 0, said[at + 9 : at + 17]))
    return False


def _has_goodbye(said: bytes) -> bool:
    return any(
        said[at + 3] == frames.GOAWAY and said[at : at + 2] == b"\0\0"
        for at in range(len(said) - 8)
    )
