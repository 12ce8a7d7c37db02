"""Encryption of personal data at rest.

Owns the form of what is stored. Must not decide who may read it: `lastunit.account.access` does.
Next: `lastunit.account.keys`.

A sealed value is 1 byte format, 2 bytes key version, 12 bytes nonce, then AES-256-GCM's text and
tag (library `cryptography`). The row's id is bound in, so a value moved to another row opens no
more. Nonces are random: one key is good for 2^32 values before two could be equal by chance
(source: NIST SP 800-38D, 8.3), far more than there are identifiers.
"""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag

if TYPE_CHECKING:
    from lastunit.account.keys import KeyRing

__all__ = ["SealError", "seal", "sealed_version", "unseal"]

_FORMAT: Final = 1
_HEAD: Final = struct.Struct(">BH")
_NONCE_BYTES: Final = 12


class SealError(Exception):
    """A sealed value is damaged, was moved from another row, or is under another secret."""


def seal(ring: KeyRing, text: str, *, bound_to: str) -> bytes:
    """Encrypts a text under the active key.

    Args:
        ring: The keys.
        text: What is hidden.
        bound_to: The id of the row that will hold it.
    """
    head = _HEAD.pack(_FORMAT, ring.active.version)
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return head + nonce + ring.active.encrypt(nonce, text.encode(), head + bound_to.encode())


def unseal(ring: KeyRing, sealed: bytes, *, bound_to: str) -> str:
    """Returns what was encrypted.

    Raises:
        SealError: It is damaged or belongs to another row.
        UnknownKeyVersionError: This process lacks the key.
    """
    version = sealed_version(sealed)
    head, rest = sealed[: _HEAD.size], sealed[_HEAD.size :]
    nonce, encrypted = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
    try:
        opened = ring.key(version).decrypt(nonce, encrypted, head + bound_to.encode())
    except (InvalidTag, ValueError):
        raise SealError(
            f"what is sealed for {bound_to} does not open: it is damaged or the key file is that"
            " of another database"
        ) from None
    return opened.decode()


def sealed_version(sealed: bytes) -> int:
    """Returns the version of the key that a sealed value needs.

    Raises:
        SealError: It is no sealed value.
    """
    if len(sealed) <= _HEAD.size + _NONCE_BYTES or sealed[0] != _FORMAT:
        raise SealError("what is stored is no sealed value of a known format")
    version: int = _HEAD.unpack_from(sealed)[1]
    return version
