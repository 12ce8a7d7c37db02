"""What a caller says about itself and its call beside the message: metadata and deadline.

Owns the names and forms of our metadata keys; must not decide what follows from them.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

import grpc

from lastunit_server.faults import Refusal, Violation, fault

__all__ = [
    "ANONYMOUS",
    "CALLER_KEY",
    "EPOCH_KEY",
    "SEQUENCE_KEY",
    "Caller",
    "caller_from",
    "milliseconds_left",
]

CALLER_KEY = "lastunit-caller"
SEQUENCE_KEY = "lastunit-seen-sequence"
EPOCH_KEY = "lastunit-seen-epoch"
ANONYMOUS = "anonymous"

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# The digits of the largest sequence; a longer text is refused before it is turned into a number.
_SEQUENCE_DIGITS_MAX = 19
_SEQUENCE_MAX = 2**63 - 1
# grpc's sync server tells "no deadline" as centuries; nobody waits a year for a unit.
_DEADLINE_SECONDS_MAX = 365 * 24 * 3600


class Caller(NamedTuple):
    """Who calls and what it has seen.

    Attributes:
        name: 1 to 64 bytes of `[A-Za-z0-9._:-]`; `anonymous` if it does not say.
        seen_sequence: Highest sequence that any reply told it, 0 if none.
        seen_epoch: Highest epoch that any reply told it, 0 if none.
    """

    name: str
    seen_sequence: int
    seen_epoch: int


_UNKNOWN = Caller(ANONYMOUS, 0, 0)


def caller_from(metadata: Iterable[tuple[str, str | bytes]] | None) -> Caller | Refusal:
    """Reads the caller from a call's metadata.

    Args:
        metadata: Pairs of key and value as the transport gives them.

    Returns:
        The caller, or INVALID_ARGUMENT that names the metadata key.
    """
    name, seen_sequence, seen_epoch = _UNKNOWN
    for key, value in metadata or ():
        if key == CALLER_KEY:
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                return _wrong(CALLER_KEY, "1 to 64 bytes of [A-Za-z0-9._:-]")
            name = value
        elif key in (SEQUENCE_KEY, EPOCH_KEY):
            number = _number(value)
            if number is None:
                return _wrong(key, f"a whole number, 0 to {_SEQUENCE_MAX}")
            if key == SEQUENCE_KEY:
                seen_sequence = number
            else:
                seen_epoch = number
    return Caller(name, seen_sequence, seen_epoch)


def _number(value: str | bytes) -> int | None:
    if not isinstance(value, str) or not value.isascii() or not value.isdecimal():
        return None
    if len(value) > _SEQUENCE_DIGITS_MAX or int(value) > _SEQUENCE_MAX:
        return None
    return int(value)


def _wrong(key: str, allowed: str) -> Refusal:
    return fault(
        grpc.StatusCode.INVALID_ARGUMENT,
        "CALLER_INVALID" if key == CALLER_KEY else "METADATA_INVALID",
        f"metadata {key} must be {allowed}; correct it",
        metadata={"key": key},
        violations=(Violation(key, "metadata.form", f"must be {allowed}"),),
    )


def milliseconds_left(seconds: float | None) -> int | None:
    """Turns a transport's time left into the node's unit.

    Args:
        seconds: Seconds until the deadline, possibly negative; None for no deadline.

    Returns:
        Whole milliseconds, 0 or more; None for no deadline.
    """
    if seconds is None or seconds > _DEADLINE_SECONDS_MAX:
        return None
    return max(0, int(seconds * 1000))
