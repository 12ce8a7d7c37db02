"""Thousands of honest calls at once are no attack: their headers come before their messages."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
from bench.attacks import frames
from bench.attacks.attacker import RESERVE
from tests.conformance.kit import reserve_request, start_server

from .kit import turned_away

if TYPE_CHECKING:
    from pathlib import Path

# More on all connections than may wait for their message when there is no rush.
CONNECTIONS, CALLS_EACH = 3, 1000
WINDOW_UPDATE = 8
WINDOW_BYTES = 1 << 24
SECONDS_MAX = 60.0


def connect(address: str) -> socket.socket:
    """Opens a connection that takes every answer."""
    host, _colon, port = address.rpartition(":")
    opened = socket.create_connection((host, int(port)), timeout=SECONDS_MAX)
    grant = frames.frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_BYTES))
    opened.sendall(frames.PREFACE + frames.settings() + grant)
    return opened


def numbers() -> range:
    """Returns the numbers of a connection's calls."""
    return range(1, 2 * CALLS_EACH, 2)


def ended(opened: socket.socket) -> int:
    """Reads until every call of a connection has its last frame; returns how many have."""
    count, reader = 0, opened.makefile("rb")
    while count < CALLS_EACH and len(head := reader.read(9)) == 9:
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        reader.read(length)
        count += kind == frames.HEADERS and bool(flags & frames.END_STREAM)
    return count


@pytest.mark.parametrize("listener", ["data", "native_data"])
def test_calls_whose_messages_follow_a_moment_later_are_all_served(
    tmp_path: Path, listener: str
) -> None:
    """3,000 headers, then 3,000 messages: each is answered, and none is sent away as late."""
    server = start_server(tmp_path, "--durability", "memory")
    block = frames.call_headers(RESERVE)
    body = frames.message(reserve_request("nowhere").SerializeToString())
    opened = [connect(server.ready[listener]) for _ in range(CONNECTIONS)]
    for each in opened:
        calls = (frames.frame(frames.HEADERS, frames.END_HEADERS, it, block) for it in numbers())
        each.sendall(b"".join(calls))
    for each in opened:
        calls = (frames.frame(frames.DATA, frames.END_STREAM, it, body) for it in numbers())
        each.sendall(b"".join(calls))

    assert [ended(each) for each in opened] == [CALLS_EACH] * CONNECTIONS
    assert turned_away(server, listener, "message_late") == 0
    for each in opened:
        each.close()
    assert server.stop() == 0
