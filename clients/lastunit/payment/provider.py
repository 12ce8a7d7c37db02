"""The port to a payment provider: what we ask of one, and how it can answer.

Owns the words between the payment service and an adapter. Must not know HTTP or any provider.
Next: `lastunit.payment.adapters` (which there are), `http_provider`, `stripe_provider`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

__all__ = [
    "CHECK_NO",
    "BillLine",
    "BillLineKind",
    "BillPage",
    "CloseAnswer",
    "CloseStatus",
    "CreateOrder",
    "Known",
    "Provider",
    "ProviderAttempt",
    "ProviderRefusedError",
    "ProviderStatus",
    "ProviderUnavailableError",
    "RefundAnswer",
    "RefundStatus",
]


# Nobody has an attempt with this number: asking for it changes nothing.
CHECK_NO: Final = "health-check"


class ProviderStatus(StrEnum):
    """Where an attempt stands at the provider."""

    PENDING = "PENDING"
    PAID = "PAID"
    FAILED = "FAILED"
    CLOSED = "CLOSED"
    """It can never be paid any more, not even if it was never created."""


class CloseStatus(StrEnum):
    """How a provider answered a close."""

    CLOSED = "CLOSED"
    """Acknowledged: from now on it can never be paid."""
    PAID = "PAID"
    """Refused because it is paid."""
    NOT_NOW = "NOT_NOW"
    """Refused for now: too young or busy."""


class RefundStatus(StrEnum):
    """How a provider answered a refund."""

    DONE = "DONE"
    PENDING = "PENDING"
    """Accepted; ask again with the same key."""
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class CreateOrder:
    """Is what a provider needs to know to take money.

    Attributes:
        merchant_no: Our number, the attempt's id; creating it twice is one attempt.
        method: Method of payment the buyer chose.
        amount_minor: Minor units, 1 to 1e12.
        currency: ISO 4217, three capitals.
        expire_ms: Last instant at which it may be paid, milliseconds since the epoch; 0: no end.
    """

    merchant_no: str
    method: str
    amount_minor: int
    currency: str
    expire_ms: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """Is what we know of an attempt, for providers that cannot find it by our number alone.

    Attributes:
        provider_no: The provider's number; empty if it has not told.
        order: What was asked for; None if nobody here has asked.
        refund_no: The provider's number of the refund that is asked about; empty if not told.
    """

    provider_no: str = ""
    order: CreateOrder | None = None
    refund_no: str = ""


@dataclass(frozen=True, slots=True)
class ProviderAttempt:
    """Is an attempt as the provider sees it.

    Attributes:
        merchant_no: Our number.
        provider_no: The provider's number; empty for one that was closed before it was created.
        status: Where it stands.
        amount_minor: What was asked for, or, once PAID, what was paid; minor units.
        currency: ISO 4217.
        pay_url: Where the buyer pays.
        occurred_ms: When the status was reached, milliseconds since the epoch.
        state_version: Rises with each change of this attempt, 1 or more.
        failure_code: The provider's code if it failed; empty otherwise.
    """

    merchant_no: str
    provider_no: str
    status: ProviderStatus
    amount_minor: int
    currency: str
    pay_url: str
    occurred_ms: int
    state_version: int
    failure_code: str = ""


@dataclass(frozen=True, slots=True)
class CloseAnswer:
    """Is the answer to a close.

    Attributes:
        status: Whether the door is shut.
        attempt: The attempt as it stands, with the money's facts if it is PAID.
        detail: The provider's words for a refusal.
    """

    status: CloseStatus
    attempt: ProviderAttempt
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RefundAnswer:
    """Is the answer to a refund.

    Attributes:
        status: Whether the money is on its way back.
        refund_no: The provider's number of the refund.
        detail: The provider's words for a failure.
        occurred_ms: When it was done, milliseconds since the epoch; 0 if not told.
    """

    status: RefundStatus
    refund_no: str
    detail: str = ""
    occurred_ms: int = 0


class BillLineKind(StrEnum):
    """Whether money came or went."""

    PAYMENT = "PAYMENT"
    REFUND = "REFUND"


@dataclass(frozen=True, slots=True)
class BillLine:
    """Is one line of a provider's bill.

    Attributes:
        kind: A payment or a refund.
        merchant_no: Our number of the attempt.
        provider_no: The provider's number of the payment, or of the refund.
        amount_minor: Minor units, 1 or more.
        currency: ISO 4217.
        occurred_ms: When it happened, milliseconds since the epoch.
        refund_key: The key that a refund was asked for with; empty if not told.
    """

    kind: BillLineKind
    merchant_no: str
    provider_no: str
    amount_minor: int
    currency: str
    occurred_ms: int
    refund_key: str = ""


@dataclass(frozen=True, slots=True)
class BillPage:
    """Is a page of a bill.

    Attributes:
        lines: In an order of the provider's own that does not change.
        next_cursor: Where the next page begins; empty on the last one; up to 1,024 characters.
    """

    lines: tuple[BillLine, ...]
    next_cursor: str


class ProviderUnavailableError(Exception):
    """The provider gave no answer; whether it acted is unknown."""


class ProviderRefusedError(Exception):
    """The provider said no, and meant it.

    Attributes:
        code: The provider's code.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Provider(Protocol):
    """Takes money, tells of it, and gives it back; every call may be repeated."""

    @property
    def name(self) -> str:
        """The provider's name, 1 to 64 bytes of `[A-Za-z0-9._:-]`."""
        ...

    async def create(self, order: CreateOrder) -> ProviderAttempt:
        """Makes an attempt payable; a repeat returns the same attempt.

        Raises:
            ProviderUnavailableError: No answer; it may exist.
            ProviderRefusedError: It does not exist and never will under this number.
        """
        ...

    async def query(
        self, merchant_no: str, *, known: Known | None = None
    ) -> ProviderAttempt | None:
        """Returns the attempt as it stands; None if the provider does not know the number.

        Raises:
            ProviderUnavailableError: No answer.
        """
        ...

    async def check(self) -> None:
        """Asks for a sign of life: returns once the provider has answered, whatever it says.

        It must not wait behind other calls of this process: a rush of ours says nothing of the
        provider.

        Raises:
            ProviderUnavailableError: No answer.
            ProviderRefusedError: It is there, and refuses.
        """
        ...

    async def close(self, merchant_no: str, *, known: Known | None = None) -> CloseAnswer:
        """Asks that an attempt can never be paid; an unknown number is barred as well.

        Raises:
            ProviderUnavailableError: No answer; it may be closed.
        """
        ...

    async def refund(
        self,
        merchant_no: str,
        *,
        amount_minor: int,
        currency: str,
        refund_key: str,
        known: Known | None = None,
    ) -> RefundAnswer:
        """Gives money back, all or a part; a repeat with the same key is one refund.

        A repeat also asks: it answers how far the refund with this key is now.

        Raises:
            ProviderUnavailableError: No answer; it may be done.
        """
        ...

    async def bill(self, from_ms: int, to_ms: int, *, cursor: str, limit: int) -> BillPage:
        """Returns a page of what came and went in a span.

        A page may be empty and not the last one.

        Args:
            from_ms: The span's first millisecond since the epoch.
            to_ms: The first one after it.
            cursor: As the page before gave it; empty for the first one.
            limit: At most so many lines, 1 to 500.

        Raises:
            ProviderUnavailableError: No answer, or this provider has no bill to ask for.
            ProviderRefusedError: It refuses to show one.
        """
        ...
