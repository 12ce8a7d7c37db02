"""Signs callbacks and checks their signatures.

Owns the header names and the signed text. Must not parse bodies. Next: `lastunit.payment.webhook`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EVENT_ID_HEADER",
    "KEY_BYTES_MIN",
    "SIGNATURE_HEADER",
    "TIMESTAMP_HEADER",
    "is_signed",
    "sign",
]

TIMESTAMP_HEADER: Final = "x-timestamp"
EVENT_ID_HEADER: Final = "x-event-id"
SIGNATURE_HEADER: Final = "x-signature"

# A shorter key is a password that somebody typed; 16 bytes are out of reach of guessing.
KEY_BYTES_MIN: Final = 16

_SCHEME: Final = "v1="


def sign(key: bytes, *, timestamp: str, raw_body: bytes) -> str:
    """Returns the value of the signature header, `v1=` and 64 hexadecimal digits.

    Args:
        key: Secret shared with the receiver, at least `KEY_BYTES_MIN` bytes.
        timestamp: Seconds since the epoch as they stand in the timestamp header.
        raw_body: The body's bytes as they travel.
    """
    return _SCHEME + _digest(key, timestamp, raw_body)


def is_signed(keys: Sequence[bytes], *, timestamp: str, raw_body: bytes, signature: str) -> bool:
    """Tells whether one of the keys has signed these bytes; takes the same time either way.

    Args:
        keys: Secrets that are valid now; two while they are rotated.
        timestamp: Value of the timestamp header.
        raw_body: The body's bytes as they came.
        signature: Value of the signature header.
    """
    given = signature.encode("utf-8", "replace")
    # Every key is tried, so that the time taken does not tell which one fits.
    matches = [
        hmac.compare_digest(sign(key, timestamp=timestamp, raw_body=raw_body).encode(), given)
        for key in keys
    ]
    return any(matches)


def _digest(key: bytes, timestamp: str, raw_body: bytes) -> str:
    signed_text = timestamp.encode("utf-8", "replace") + b"." + raw_body
    return hmac.new(key, signed_text, hashlib.sha256).hexdigest()
