"""HTTP/2 by hand, just enough to break its manners.

Owns the bytes of frames and header blocks; must not open a socket (see `attacker`). A library with
manners refuses to send most of this. Source of the layout: RFC 9113 section 4.1, RFC 7541
section 6.
"""

from __future__ import annotations

import struct

__all__ = [
    "ACK",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "GOAWAY",
    "HEADERS",
    "PING",
    "PREFACE",
    "RST_STREAM",
    "SETTINGS",
    "call_headers",
    "frame",
    "literal",
    "message",
    "settings",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
# Literal header field never indexed, with a new name; and with incremental indexing.
_NEVER_INDEXED, _INDEXED = 0x10, 0x40
_ONE_BYTE_MAX = 127


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns one frame.

    Args:
        kind: Its type.
        flags: Its flags.
        stream: Which stream, 0 for the connection.
        payload: At most 16,384 bytes, what every server takes.
    """
    return struct.pack(">BHBBL", len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + (
        payload
    )


def settings(**values: int) -> bytes:
    """Returns a SETTINGS frame; the only value known is `window`, the initial window size."""
    payload = b"".join(struct.pack(">HL", INITIAL_WINDOW_SIZE, value) for value in values.values())
    return frame(SETTINGS, 0, 0, payload)


def literal(name: bytes, value: bytes, *, is_indexed: bool = False) -> bytes:
    """Returns one header field, not compressed; indexed ones enter the peer's dynamic table."""
    first = bytes([_INDEXED if is_indexed else _NEVER_INDEXED])
    return first + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    if len(text) < _ONE_BYTE_MAX:
        return bytes([len(text)]) + text
    rest, sized = len(text) - _ONE_BYTE_MAX, bytearray([_ONE_BYTE_MAX])
    while rest >= 128:  # noqa: PLR2004 - seven bits a byte
        sized.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes(sized) + bytes([rest]) + text


def call_headers(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """Returns the header block that opens a gRPC call."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    )
    return b"".join(literal(name, value) for name, value in fields)


def message(body: bytes, *, is_compressed: bool = False) -> bytes:
    """Returns a gRPC message with its prefix."""
    return struct.pack(">BL", is_compressed, len(body)) + body
