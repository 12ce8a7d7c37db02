"""The keys of the account service: several versions, in a file of their own.

Owns what a version is good for: digests, fingerprints and encryption. Must not touch a file, a
database or a log. Next: `lastunit.account.key_file` for where they are kept,
`lastunit.account.identifiers` for what is hidden with them.

One version is one secret of 32 bytes. Digests are HMAC-SHA256 under it, told apart by a label;
encryption has a key derived from it. New rows are written under the active version, and look-ups
try every version, so a key can be replaced while the service runs.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KEY_BYTES", "VERSIONS_MAX", "Key", "KeyRing", "UnknownKeyVersionError", "VersionDigest"]

KEY_BYTES: Final = 32

# A look-up tries each version; more than these are keys that nobody ever took out of use.
VERSIONS_MAX: Final = 16

# What two bytes of a sealed value can say.
VERSION_MAX: Final = 65_535


class UnknownKeyVersionError(Exception):
    """Something was written under a key that this process does not have.

    Args:
        version: Of the key.
    """

    def __init__(self, version: int) -> None:
        super().__init__(
            f"the key file has no version {version}, under which rows are written; "
            "put the newest key file on this machine"
        )
        self.version = version


@dataclass(frozen=True, slots=True)
class VersionDigest:
    """Is a digest and the version of the key it was made with."""

    version: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Key:
    """Is one version.

    Attributes:
        version: 1 to 65,535; never used again for another secret.
        secret: 32 bytes. Never shown: a representation ends in logs.
        create_ms: When it was made, in milliseconds since the epoch; 0 if nobody noted it.
    """

    version: int
    secret: bytes = field(repr=False)
    create_ms: int = 0
    _cipher: AESGCM = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Checks the sizes and derives the key of the encryption."""
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"the key has {len(self.secret)} bytes; it must have {KEY_BYTES}")
        if not 1 <= self.version <= VERSION_MAX:
            raise ValueError(f"the version is {self.version}; it must be 1 to {VERSION_MAX}")
        derived = HKDF(
            algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=b"lastunit.account:seal"
        ).derive(self.secret)
        object.__setattr__(self, "_cipher", AESGCM(derived))

    @classmethod
    def made(cls, version: int, create_ms: int = 0) -> Key:
        """Returns a version with a new random secret."""
        return cls(version, secrets.token_bytes(KEY_BYTES), create_ms)

    def digest(self, label: str, text: str) -> bytes:
        """Returns 32 bytes that are equal for equal texts and tell nothing else.

        Args:
            label: What the text is, without a colon: it keeps a phone number from ever being
                equal to something else.
            text: Whatever is hidden.
        """
        message = f"lastunit.account:{label}:{text}".encode()
        return hmac.digest(self.secret, message, hashlib.sha256)

    def encrypt(self, nonce: bytes, data: bytes, bound_to: bytes) -> bytes:
        """Returns data encrypted with AES-256-GCM; see `lastunit.account.sealing`."""
        return self._cipher.encrypt(nonce, data, bound_to)

    def decrypt(self, nonce: bytes, data: bytes, bound_to: bytes) -> bytes:
        """Returns what was encrypted; raises `cryptography.exceptions.InvalidTag`."""
        return self._cipher.decrypt(nonce, data, bound_to)


class KeyRing:
    """Holds every version that may have been used.

    Args:
        keys: 1 to 16, each with a version of its own.
        active: The version that new rows are written under; the highest if None.

    Attributes:
        keys: In the order in which look-ups try them: the active one, then from new to old.
        active: The one for new rows.
    """

    def __init__(self, keys: Sequence[Key], *, active: int | None = None) -> None:
        if not 1 <= len(keys) <= VERSIONS_MAX:
            raise ValueError(f"{len(keys)} keys; there must be 1 to {VERSIONS_MAX}")
        self._by_version = {key.version: key for key in keys}
        if len(self._by_version) != len(keys):
            raise ValueError("two keys have the same version")
        chosen = max(self._by_version) if active is None else active
        if chosen not in self._by_version:
            raise ValueError(f"the active version {chosen} has no key")
        self.active = self._by_version[chosen]
        self.keys = tuple(
            sorted(keys, key=lambda key: (key.version == chosen, key.version), reverse=True)
        )

    @classmethod
    def single(cls, secret: bytes) -> KeyRing:
        """Returns a ring with one version, number 1."""
        return cls([Key(1, secret)])

    def key(self, version: int) -> Key:
        """Returns one version.

        Raises:
            UnknownKeyVersionError: This process does not have it.
        """
        found = self._by_version.get(version)
        if found is None:
            raise UnknownKeyVersionError(version)
        return found

    def __contains__(self, version: int) -> bool:
        """Tells whether there is such a version."""
        return version in self._by_version

    def digest(self, label: str, text: str) -> VersionDigest:
        """Returns the digest under the active version: the one to store."""
        return VersionDigest(self.active.version, self.active.digest(label, text))

    def digests(self, label: str, text: str) -> list[VersionDigest]:
        """Returns the digests under all versions, the active one first: those to look for."""
        return [VersionDigest(key.version, key.digest(label, text)) for key in self.keys]

    def is_digest(self, found: bytes, label: str, text: str) -> bool:
        """Tells whether a stored digest is one of a text, under any version."""
        # Every version is tried, in constant time each: how long it takes tells nothing.
        equal = [hmac.compare_digest(found, key.digest(label, text)) for key in self.keys]
        return True in equal
