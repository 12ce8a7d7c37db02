"""Identifiers of humans: one written form, one keyed digest, one mask.

Owns how a phone number or an e-mail address is compared and what is kept of it. Must not store
or log one. Next: `lastunit.account.registering`.

The digest (a blind index) is HMAC-SHA256 under a key that is kept apart from the database: who
steals the database alone can neither read an identifier nor test a guess.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import email_validator
import phonenumbers

from lastunit.account.keys import KEY_BYTES

__all__ = ["BlindIndex", "Identifier", "IdentifierError", "IdentifierKind"]

_STARS: Final = "*****"


class IdentifierKind(enum.Enum):
    """What a human is reached by."""

    PHONE = "phone"
    EMAIL = "email"


class IdentifierError(ValueError):
    """An identifier is well formed for the contract but cannot exist; the text hides it."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier in the one form that is compared.

    Attributes:
        kind: Phone or e-mail.
        normalized: E.164, or the address in lower case. Never stored, never logged.
    """

    kind: IdentifierKind
    normalized: str

    def __repr__(self) -> str:
        """Shows the mask, because a representation ends in logs."""
        return f"Identifier({self.kind.value}, {self.masked()})"

    @classmethod
    def phone(cls, text: str) -> Identifier:
        """Reads a phone number.

        Args:
            text: With its country's prefix, such as `+4930123456`.

        Raises:
            IdentifierError: No country has such a number.
        """
        try:
            number = phonenumbers.parse(text)
        except phonenumbers.NumberParseException:
            number = None
        if number is None or not phonenumbers.is_valid_number(number):
            # The cause would show the number.
            raise IdentifierError("no country has such a phone number")
        normalized = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        return cls(IdentifierKind.PHONE, normalized)

    @classmethod
    def email(cls, text: str) -> Identifier:
        """Reads an e-mail address.

        Args:
            text: The address; letters of either case are the same.

        Raises:
            IdentifierError: No mail can go there.
        """
        try:
            address = email_validator.validate_email(text, check_deliverability=False)
        except email_validator.EmailNotValidError:
            address = None
        if address is None:
            raise IdentifierError("no mail can go to such an address")
        return cls(IdentifierKind.EMAIL, address.normalized.casefold())

    def masked(self) -> str:
        """Returns what may be shown: enough to recognise one's own, too little to learn one."""
        if self.kind is IdentifierKind.PHONE:
            return f"{self.normalized[:3]}{_STARS}{self.normalized[-3:]}"
        local, _, domain = self.normalized.rpartition("@")
        return f"{local[:1]}{_STARS}@{domain[:1]}{_STARS}.{domain.rpartition('.')[2]}"


class BlindIndex:
    """Computes keyed digests of identifiers.

    Args:
        key: 32 bytes, kept apart from the database.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes; it must have {KEY_BYTES}")
        self._key = key

    def digest(self, identifier: Identifier) -> bytes:
        """Returns 32 bytes that are equal for equal identifiers and tell nothing else."""
        return self._digest(identifier.kind.value, identifier.normalized)

    def check(self) -> bytes:
        """Returns 32 bytes that tell this key from another without giving it away."""
        return self._digest("check", "")

    def _digest(self, label: str, text: str) -> bytes:
        # The label keeps a phone number from ever being equal to something else.
        message = f"lastunit.account:{label}:{text}".encode()
        return hmac.new(self._key, message, hashlib.sha256).digest()
