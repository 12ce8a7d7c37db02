"""How a provider signs and words its callbacks: the port, and our own wording.

Owns what the webhook and the inbox need of a wording. Must not store anything or know HTTP's
answers. Next: `lastunit.payment.stripe_dialect` (a provider's own), `lastunit.payment.webhook`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from lastunit.payment import signature
from lastunit.payment.callback import Callback, parse_callback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["OWN_DIALECT", "Dialect", "Envelope", "OwnDialect"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """Is a callback as far as it is understood.

    Attributes:
        event_id: The provider's id of the event, 1 to 64 bytes of `[A-Za-z0-9._:-]`.
        callback: What it tells of; None if it is nothing that this service acts upon.
    """

    event_id: str
    callback: Callback | None


class Dialect(Protocol):
    """Understands the callbacks of one kind of provider."""

    def timestamp(self, headers: Mapping[str, str]) -> str:
        """Returns when it was signed, seconds since the epoch as digits; empty if not told."""
        ...

    def is_signed(self, keys: Sequence[bytes], headers: Mapping[str, str], raw_body: bytes) -> bool:
        """Tells whether one of the keys has signed these bytes, in the same time either way."""
        ...

    def read(self, raw_body: bytes) -> Envelope:
        """Returns what a body says.

        Raises:
            MalformedCallbackError: A field is missing or out of range.
        """
        ...

    def named(self, headers: Mapping[str, str]) -> str:
        """Returns the event's id as the headers name it; empty if they do not."""
        ...


class OwnDialect:
    """Is the wording that the webhook's contract describes."""

    def timestamp(self, headers: Mapping[str, str]) -> str:
        """Returns the timestamp header."""
        return headers.get(signature.TIMESTAMP_HEADER, "")

    def is_signed(self, keys: Sequence[bytes], headers: Mapping[str, str], raw_body: bytes) -> bool:
        """Checks HMAC-SHA256 over timestamp, a dot and the raw bytes."""
        return signature.is_signed(
            keys,
            timestamp=self.timestamp(headers),
            raw_body=raw_body,
            signature=headers.get(signature.SIGNATURE_HEADER, ""),
        )

    def read(self, raw_body: bytes) -> Envelope:
        """Reads the contract's fields."""
        callback = parse_callback(raw_body)
        return Envelope(callback.event_id, callback)

    def named(self, headers: Mapping[str, str]) -> str:
        """Returns the event header."""
        return headers.get(signature.EVENT_ID_HEADER, "")


OWN_DIALECT: Final = OwnDialect()
