"""Turns times, spans and answers into messages of the contract, and back.

Owns the border to protobuf. Must not decide anything. Times are whole milliseconds since the
epoch, spans whole milliseconds; what is finer on the wire is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["duration", "millis", "optional_millis", "optional_value", "timestamp"]

MILLIS_PER_SECOND: Final = 1000
NANOS_PER_MILLI: Final = 1_000_000


def timestamp(at: int) -> Timestamp:
    """Turns milliseconds since the epoch into a Timestamp."""
    seconds, rest = divmod(at, MILLIS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=rest * NANOS_PER_MILLI)


def duration(span: int) -> Duration:
    """Turns milliseconds into a Duration."""
    seconds, rest = divmod(span, MILLIS_PER_SECOND)
    return Duration(seconds=seconds, nanos=rest * NANOS_PER_MILLI)


def millis(value: Any) -> int:
    """Turns a Timestamp or a Duration into whole milliseconds."""
    return int(value.seconds * MILLIS_PER_SECOND + value.nanos // NANOS_PER_MILLI)


def optional_millis(message: Message, field: str) -> int | None:
    """Reads a Timestamp or Duration field in milliseconds; None if it is unset."""
    return millis(getattr(message, field)) if message.HasField(field) else None


def optional_value(message: Message, field: str) -> Any:
    """Reads a field that may be unset; None if it is."""
    return getattr(message, field) if message.HasField(field) else None
