"""Recorded calls: what a client sent, what it got, and when, in files that append only.

Owns the framing. Must not know what a request means. Next: `steps.py`, which opens batches up.

A file is a row of records, each a fixed head and two byte strings: the request and the reply as
they crossed the wire. A call whose answer never came has no reply and no return time: it may have
taken effect or not, and finding out is the checker's work.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# method, client, call time, return time, bytes of the request, bytes of the reply.
_HEAD: Final = struct.Struct("<BHqqII")
# No answer came: the call may still have taken effect.
UNKNOWN: Final = -1
# The server said no before it decided anything (INVALID_ARGUMENT and the like).
REFUSED: Final = -2

EXCHANGE: Final = "Exchange"
# The order is the file format; new methods go to the end.
METHODS: Final = (
    EXCHANGE,
    "Reserve",
    "BeginPayment",
    "SettlePayment",
    "Confirm",
    "Release",
    "Extend",
    "Return",
    "RecordRefund",
    "GetReservation",
    "ListReservations",
    "GetAvailability",
    "PutSale",
    "SetSaleState",
    "PutPool",
    "SupplyStock",
    "WithdrawStock",
    "AdjustStock",
    "MoveStock",
    "PourBuffer",
    "ReleaseUnverified",
    "MergePersons",
    "SplitPersons",
    "SetExpiryBrake",
    "Audit",
)
_INDEX: Final = {name: index for index, name in enumerate(METHODS)}


@dataclass(frozen=True, slots=True)
class Call:
    """One call as its client saw it.

    Attributes:
        method: Its name, one of METHODS.
        client: Number of the client, 0 to 65535; a client has one call in flight at a time.
        call_ns: When it was sent; nanoseconds of the machine's monotonic clock.
        return_ns: When the answer was there; UNKNOWN if it never came, REFUSED if the status said
            that nothing was decided.
        request: The request message.
        reply: The response message; empty without one.
    """

    method: str
    client: int
    call_ns: int
    return_ns: int
    request: bytes
    reply: bytes


class Recorder:
    """Appends calls to one file."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("ab")
        self.call_count = 0

    def add(self, call: Call) -> None:
        """Appends one call."""
        head = _HEAD.pack(
            _INDEX[call.method],
            call.client,
            call.call_ns,
            call.return_ns,
            len(call.request),
            len(call.reply),
        )
        self._file.write(head + call.request + call.reply)
        self.call_count += 1

    def flush(self) -> None:
        """Hands everything to the operating system, so that another process can read it."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_calls(path: Path) -> Iterator[Call]:
    """Yields the calls of a file in the order in which they ended.

    Raises:
        ValueError: The file ends inside a record.
    """
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            if len(head) < _HEAD.size:
                raise ValueError(f"{path} ends inside the head of a record")
            method, client, call_ns, return_ns, request_bytes, reply_bytes = _HEAD.unpack(head)
            request, reply = file.read(request_bytes), file.read(reply_bytes)
            if len(request) + len(reply) < request_bytes + reply_bytes:
                raise ValueError(f"{path} ends inside a record")
            yield Call(METHODS[method], client, call_ns, return_ns, request, reply)


def read_files(paths: Iterable[Path]) -> Iterator[Call]:
    """Yields the calls of several files, one file after the other."""
    for path in paths:
        yield from read_calls(path)
