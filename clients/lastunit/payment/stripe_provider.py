"""The provider port in Stripe's API shape, through its own client library: Checkout sessions.

Owns the calls and what their answers mean. Must not retry or decide: the reconciler does; nor log
the key. Next: `lastunit.payment.provider` (the port), `lastunit.payment.stripe_dialect` (events).

A session is made with our number as idempotency key, so a repeat is the same session, and tells
its number when the first answer was lost. Money is in the currency's smallest unit on both sides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import stripe

from lastunit.payment.callback import CODE_LENGTH_MAX, CallbackKind, plain
from lastunit.payment.provider import (
    CHECK_NO,
    BillLine,
    BillLineKind,
    BillPage,
    CloseAnswer,
    CloseStatus,
    CreateOrder,
    Known,
    ProviderAttempt,
    ProviderRefusedError,
    ProviderStatus,
    ProviderUnavailableError,
    RefundAnswer,
    RefundStatus,
)
from lastunit.payment.stripe_dialect import ATTEMPT_FIELD, REFUND_FIELD, VERSIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

__all__ = ["API_URL", "StripeProvider"]

ResultT = TypeVar("ResultT")

API_URL: Final = "https://api.stripe.com"

# After so long an answer is not worth waiting for; the attempt is UNKNOWN and asked for.
TIMEOUT_SECONDS: Final = 3.0

# Stripe lets a session lapse at the soonest half an hour after it was made. We close it ourselves
# at settle_by; this is for the case that we cannot.
LIFE_SECONDS_MIN: Final = 1_800

# Lists of Stripe have at most so many rows a page.
PAGE_ROWS_MAX: Final = 100

_EXPANDED: Final = ["payment_intent.latest_charge"]
_ENDED_INTENTS: Final = frozenset({"requires_payment_method", "canceled"})
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409

_VERSIONS: Final[Mapping[ProviderStatus, int]] = {
    ProviderStatus.PENDING: 1,
    ProviderStatus.FAILED: VERSIONS[CallbackKind.PAYMENT_FAILED],
    ProviderStatus.CLOSED: VERSIONS[CallbackKind.PAYMENT_CLOSED],
    ProviderStatus.PAID: VERSIONS[CallbackKind.PAYMENT_SUCCEEDED],
}

_REFUND_STATUS: Final[Mapping[str, RefundStatus]] = {
    "succeeded": RefundStatus.DONE,
    "pending": RefundStatus.PENDING,
    "requires_action": RefundStatus.PENDING,
    "failed": RefundStatus.FAILED,
    "canceled": RefundStatus.FAILED,
}


class StripeProvider:
    """Calls Stripe.

    Args:
        api_key: The secret key; goes into calls only.
        return_url: Where a buyer goes after paying.
        name: Name of the provider in attempts and callbacks.
        base_url: Where the API is.
        timeout_seconds: For each call, more than 0.
    """

    def __init__(
        self,
        api_key: str,
        *,
        return_url: str,
        name: str = "stripe",
        base_url: str = API_URL,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._name = name
        self._return_url = return_url
        self._http = stripe.HTTPXClient(timeout=timeout_seconds)
        # Whether to repeat is decided by who asks: the library must not do it on its own.
        self._client = stripe.StripeClient(
            api_key,
            base_addresses={"api": base_url.rstrip("/")},
            http_client=self._http,
            max_network_retries=0,
        )

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._name

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call] # the library's

    async def create(self, order: CreateOrder) -> ProviderAttempt:
        """Makes a session; see `Provider.create`."""
        session = await self._make(order)
        if session.status == "expired":
            raise ProviderRefusedError("this number is closed", code="CLOSED")
        return _attempt(order.merchant_no, session)

    async def query(
        self, merchant_no: str, *, known: Known | None = None
    ) -> ProviderAttempt | None:
        """Returns the session as it stands; see `Provider.query`."""
        session = await self._session(merchant_no, known)
        return None if session is None else _attempt(merchant_no, session)

    async def check(self) -> None:
        """Gives a sign of life; see `Provider.check`."""
        await self.query(CHECK_NO)

    async def close(self, merchant_no: str, *, known: Known | None = None) -> CloseAnswer:
        """Lets the session expire; see `Provider.close`."""
        session = await self._session(merchant_no, known)
        if session is None:
            # Nobody has made one, and who might has to ask for this number first.
            return CloseAnswer(CloseStatus.CLOSED, _never_made(merchant_no))
        if session.status == "open":
            try:
                session = await self._call(
                    self._client.v1.checkout.sessions.expire_async(
                        session.id, {"expand": _EXPANDED}
                    )
                )
            except stripe.InvalidRequestError:
                # It is not open any more: what it has become counts.
                session = await self._retrieve(session.id)
        if session is None:
            raise ProviderUnavailableError(f"{self._name} has forgotten a session it just had")
        attempt = _attempt(merchant_no, session)
        match attempt.status:
            case ProviderStatus.PAID:
                return CloseAnswer(CloseStatus.PAID, attempt, "paid already")
            case ProviderStatus.PENDING:
                return CloseAnswer(CloseStatus.NOT_NOW, attempt, "a payment is under way")
            case ProviderStatus.CLOSED | ProviderStatus.FAILED:
                return CloseAnswer(CloseStatus.CLOSED, attempt)

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
        del currency  # A refund is in the currency of its payment.
        try:
            if known is not None and known.refund_no:
                # A repeat of the first call would be answered as it was answered then.
                refund = await self._call(self._client.v1.refunds.retrieve_async(known.refund_no))
                return _refund(refund)
            intent_id = await self._intent_id(merchant_no, known)
            if intent_id is None:
                return RefundAnswer(RefundStatus.FAILED, "", "not paid")
            refund = await self._call(
                self._client.v1.refunds.create_async(
                    {
                        "payment_intent": intent_id,
                        "amount": amount_minor,
                        "metadata": {ATTEMPT_FIELD: merchant_no, REFUND_FIELD: refund_key},
                    },
                    {"idempotency_key": refund_key},
                )
            )
        except stripe.InvalidRequestError as error:
            return RefundAnswer(
                RefundStatus.FAILED, "", (error.code or "refused")[:CODE_LENGTH_MAX]
            )
        return _refund(refund)

    async def bill(self, from_ms: int, to_ms: int, *, cursor: str, limit: int) -> BillPage:
        """Returns a page of charges, and after them of refunds; see `Provider.bill`."""
        kind, _, after = cursor.partition(" ")
        span = {"gte": -(-from_ms // 1_000), "lt": -(-to_ms // 1_000)}
        words: dict[str, Any] = {"created": span, "limit": min(limit, PAGE_ROWS_MAX)}
        if after:
            words["starting_after"] = after
        is_refunds = kind == "refund"
        service = self._client.v1.refunds if is_refunds else self._client.v1.charges
        page: Any = await self._refusing(service.list_async(words))  # type: ignore[arg-type]
        lines = [_refund_line(row) if is_refunds else _charge_line(row) for row in page.data]
        next_cursor = "" if is_refunds else "refund"
        if page.has_more and page.data:
            next_cursor = f"{kind or 'charge'} {page.data[-1].id}"
        return BillPage(tuple(line for line in lines if line is not None), next_cursor)

    # --- inside ----------------------------------------------------------------------------

    async def _make(self, order: CreateOrder) -> Any:
        """Makes the session of an attempt, or gets the one that was made before."""
        words: dict[str, Any] = {
            "mode": "payment",
            "client_reference_id": order.merchant_no,
            "metadata": {ATTEMPT_FIELD: order.merchant_no, "method": order.method},
            "payment_intent_data": {"metadata": {ATTEMPT_FIELD: order.merchant_no}},
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": order.currency.lower(),
                        "unit_amount": order.amount_minor,
                        "product_data": {"name": order.merchant_no},
                    },
                }
            ],
            "success_url": self._return_url,
        }
        if order.expire_ms:
            # Follows from the order alone, so that a repeat has the same content.
            words["expires_at"] = order.expire_ms // 1_000 + LIFE_SECONDS_MIN
        return await self._refusing(
            self._client.v1.checkout.sessions.create_async(
                words,  # type: ignore[arg-type] # the library's own dictionary type
                {"idempotency_key": f"{order.merchant_no}:create"},
            )
        )

    async def _session(self, merchant_no: str, known: Known | None) -> Any:
        """Returns the session of an attempt with its payment, or None if there is none."""
        if known is not None and known.provider_no:
            return await self._retrieve(known.provider_no)
        if known is not None and known.order is not None:
            made = await self._make(known.order)
            # The repeat of a call is answered as it was then; how it is now has to be asked for.
            return await self._retrieve(made.id)
        words: Any = {"query": f'metadata["{ATTEMPT_FIELD}"]:"{merchant_no}"', "limit": 1}
        found = await self._refusing(self._client.v1.payment_intents.search_async(words))
        if not found.data:
            return None
        listed: Any = {"payment_intent": found.data[0].id, "limit": 1}
        sessions = await self._refusing(self._client.v1.checkout.sessions.list_async(listed))
        return await self._retrieve(sessions.data[0].id) if sessions.data else None

    async def _retrieve(self, session_id: str) -> Any:
        try:
            return await self._call(
                self._client.v1.checkout.sessions.retrieve_async(session_id, {"expand": _EXPANDED})
            )
        except stripe.InvalidRequestError as error:
            if error.http_status == _NOT_FOUND:
                return None
            raise ProviderUnavailableError(f"{self._name} refused a question") from error

    async def _intent_id(self, merchant_no: str, known: Known | None) -> str | None:
        session = await self._session(merchant_no, known)
        intent = None if session is None else session.payment_intent
        return None if intent is None else str(getattr(intent, "id", intent))

    async def _refusing(self, call: Awaitable[ResultT]) -> ResultT:
        """Makes a call whose refusal is meant."""
        try:
            return await self._call(call)
        except stripe.CardError as error:
            raise ProviderRefusedError("stripe refused", code=_code(error)) from error
        except stripe.InvalidRequestError as error:
            raise ProviderRefusedError("stripe refused", code=_code(error)) from error

    async def _call(self, call: Awaitable[ResultT]) -> ResultT:
        """Makes a call; what is no answer of Stripe's business is no answer at all.

        Raises:
            ProviderUnavailableError: No answer, an error of Stripe's, too many calls, a bad key.
            stripe.StripeError: It understood and refused.
        """
        try:
            return await call
        except stripe.IdempotencyError as error:
            raise ProviderRefusedError("this number has other content", code="CONFLICT") from error
        except (stripe.InvalidRequestError, stripe.CardError) as error:
            if error.http_status == _CONFLICT:
                # The same key is in use by a call that is still under way.
                raise ProviderUnavailableError(f"{self._name} is busy with this number") from error
            raise
        except stripe.StripeError as error:
            # A bad key is no verdict on a payment: nothing may be taken for refused by it.
            kind = type(error).__name__
            raise ProviderUnavailableError(f"{self._name} did not answer: {kind}") from error


def _attempt(merchant_no: str, session: Any) -> ProviderAttempt:
    """Reads a session; what it does not say is no guess of ours."""
    intent = session.payment_intent
    is_expanded = intent is not None and not isinstance(intent, str)
    status = _status(session, intent if is_expanded else None)
    is_paid = status is ProviderStatus.PAID
    charge = intent.latest_charge if is_expanded and is_paid else None
    # A list of ids instead of the charge would have no time in it.
    paid_seconds = getattr(charge, "created", session.created)
    return ProviderAttempt(
        merchant_no=merchant_no,
        provider_no=session.id,
        status=status,
        amount_minor=intent.amount_received if is_paid and is_expanded else session.amount_total,
        currency=str(session.currency).upper(),
        pay_url=session.url or "",
        occurred_ms=paid_seconds * 1_000,
        state_version=_VERSIONS[status],
        failure_code=_failure(intent) if status is ProviderStatus.FAILED else "",
    )


def _status(session: Any, intent: Any) -> ProviderStatus:
    if session.status == "expired":
        return ProviderStatus.CLOSED
    if session.status != "complete":
        return ProviderStatus.PENDING
    if session.payment_status == "paid":
        return ProviderStatus.PAID
    if intent is not None and intent.status in _ENDED_INTENTS:
        return ProviderStatus.FAILED
    return ProviderStatus.PENDING


def _failure(intent: Any) -> str:
    error = getattr(intent, "last_payment_error", None)
    return plain(str(getattr(error, "code", "") or "FAILED"))[:CODE_LENGTH_MAX]


def _never_made(merchant_no: str) -> ProviderAttempt:
    return ProviderAttempt(
        merchant_no=merchant_no,
        provider_no="",
        status=ProviderStatus.CLOSED,
        amount_minor=0,
        currency="",
        pay_url="",
        occurred_ms=0,
        state_version=_VERSIONS[ProviderStatus.CLOSED],
    )


def _refund(refund: Any) -> RefundAnswer:
    status = _REFUND_STATUS.get(str(refund.status), RefundStatus.PENDING)
    reason = plain(str(getattr(refund, "failure_reason", "") or ""))[:CODE_LENGTH_MAX]
    occurred_ms = refund.created * 1_000 if status is RefundStatus.DONE else 0
    return RefundAnswer(status, refund.id, reason, occurred_ms)


def _charge_line(charge: Any) -> BillLine | None:
    if charge.status != "succeeded" or not charge.amount_captured:
        return None
    return BillLine(
        BillLineKind.PAYMENT,
        _from_metadata(charge, ATTEMPT_FIELD) or charge.id,
        charge.id,
        charge.amount_captured,
        str(charge.currency).upper(),
        charge.created * 1_000,
    )


def _refund_line(refund: Any) -> BillLine | None:
    if refund.status != "succeeded":
        return None
    return BillLine(
        BillLineKind.REFUND,
        _from_metadata(refund, ATTEMPT_FIELD) or refund.id,
        refund.id,
        refund.amount,
        str(refund.currency).upper(),
        refund.created * 1_000,
        refund_key=_from_metadata(refund, REFUND_FIELD),
    )


def _from_metadata(subject: Any, name: str) -> str:
    metadata = subject.metadata
    return "" if metadata is None else str(getattr(metadata, name, "") or "")


def _code(error: stripe.StripeError) -> str:
    return str(error.code or "REFUSED")[:CODE_LENGTH_MAX]
