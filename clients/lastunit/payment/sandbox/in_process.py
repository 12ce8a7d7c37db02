"""The provider port on a sandbox in the same process, for simulations and tests.

Owns nothing but the shape. Must not add behaviour. Next: `lastunit.payment.sandbox.core`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.payment.provider import CHECK_NO

if TYPE_CHECKING:
    from lastunit.payment.provider import (
        BillPage,
        CloseAnswer,
        CreateOrder,
        Known,
        ProviderAttempt,
        RefundAnswer,
    )
    from lastunit.payment.sandbox.core import SandboxCore

__all__ = ["InProcessProvider"]


class InProcessProvider:
    """Reaches a sandbox by calling it.

    Args:
        core: The sandbox.
        name: Name of the provider in attempts and callbacks.
    """

    def __init__(self, core: SandboxCore, *, name: str = "sandbox") -> None:
        self._core = core
        self._name = name

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._name

    async def create(self, order: CreateOrder) -> ProviderAttempt:
        """Makes an attempt payable; see `Provider.create`."""
        return self._core.create(order)

    async def query(
        self, merchant_no: str, *, known: Known | None = None
    ) -> ProviderAttempt | None:
        """Returns the attempt as it stands; see `Provider.query`."""
        del known
        return self._core.query(merchant_no)

    async def check(self) -> None:
        """Gives a sign of life; see `Provider.check`."""
        self._core.query(CHECK_NO)

    async def close(self, merchant_no: str, *, known: Known | None = None) -> CloseAnswer:
        """Asks to shut the attempt; see `Provider.close`."""
        del known
        return self._core.close(merchant_no)

    async def refund(
        self,
        merchant_no: str,
        *,
        amount_minor: int,
        currency: str,
        refund_key: str,
        known: Known | None = None,
    ) -> RefundAnswer:
        """Gives money back; see `Provider.refund`."""
        del known
        return self._core.refund(
            merchant_no, amount_minor=amount_minor, currency=currency, refund_key=refund_key
        )

    async def bill(self, from_ms: int, to_ms: int, *, cursor: str, limit: int) -> BillPage:
        """Returns a page of the bill; see `Provider.bill`."""
        return self._core.bill_page(from_ms, to_ms, cursor=cursor, limit=limit)
