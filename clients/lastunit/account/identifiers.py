"""Identifiers of humans: one written form and one mask.

Owns how a phone number, an e-mail address or a login at somebody else is compared and shown. Must
not store or log one. Next: `lastunit.account.identifier_rows` for what is kept of it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import email_validator
import phonenumbers

if TYPE_CHECKING:
    from lastunit.account.v1 import account_service_pb2 as pb

__all__ = ["Identifier", "IdentifierError", "IdentifierKind"]

_STARS: Final = "*****"


class IdentifierKind(enum.Enum):
    """What a human is reached by."""

    PHONE = "phone"
    EMAIL = "email"
    EXTERNAL = "external"


class IdentifierError(ValueError):
    """An identifier is well formed for the contract but cannot exist; the text hides it."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """An identifier in the one form that is compared.

    Attributes:
        kind: Phone, e-mail or a login at somebody else.
        normalized: E.164, the address in lower case, or `issuer:subject`. Never stored in the
            open, never logged.
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

    @classmethod
    def of(cls, message: pb.Identifier) -> Identifier:
        """Reads the contract's message.

        Raises:
            IdentifierError: There can be no such identifier.
        """
        if message.HasField("phone"):
            return cls.phone(message.phone)
        if message.HasField("email"):
            return cls.email(message.email)
        # A subject means what its issuer says: nothing about it is the same when written otherwise.
        login = message.external
        return cls(IdentifierKind.EXTERNAL, f"{login.issuer}:{login.subject}")

    @property
    def can_get_messages(self) -> bool:
        """Whether a code can go there; a login at somebody else is proved there."""
        return self.kind is not IdentifierKind.EXTERNAL

    def masked(self) -> str:
        """Returns what may be shown: enough to recognise one's own, too little to learn one."""
        if self.kind is IdentifierKind.PHONE:
            return f"{self.normalized[:3]}{_STARS}{self.normalized[-3:]}"
        if self.kind is IdentifierKind.EXTERNAL:
            # An issuer may hold colons; what follows the last of them is never shown but a letter.
            issuer, _, subject = self.normalized.partition(":")
            return f"{issuer}:{subject[:1]}{_STARS}"
        local, _, domain = self.normalized.rpartition("@")
        return f"{local[:1]}{_STARS}@{domain[:1]}{_STARS}.{domain.rpartition('.')[2]}"
