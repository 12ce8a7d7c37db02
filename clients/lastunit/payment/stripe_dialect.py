"""Stripe's events, verified by its own library, as the callbacks that the inbox acts upon.

Owns which event is which kind of news. Must not call Stripe: bytes in, facts out.
Next: `lastunit.payment.dialect` (the port), `lastunit.payment.stripe_provider` (the calls).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import stripe

from lastunit.payment.callback import (
    AMOUNT_MINOR_MAX,
    CODE_LENGTH_MAX,
    TIME_MS_MAX,
    Callback,
    CallbackKind,
    MalformedCallbackError,
    plain,
)
from lastunit.payment.dialect import Envelope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ATTEMPT_FIELD", "REFUND_FIELD", "VERSIONS", "StripeDialect"]

ATTEMPT_FIELD: Final = "lastunit_attempt"
"""Key of the metadata in which our number travels."""
REFUND_FIELD: Final = "lastunit_refund"
"""Key of a refund's metadata in which its idempotency key travels."""

SIGNATURE_HEADER: Final = "stripe-signature"

VERSIONS: Final[Mapping[CallbackKind, int]] = {
    CallbackKind.PAYMENT_FAILED: 2,
    CallbackKind.PAYMENT_CLOSED: 2,
    CallbackKind.PAYMENT_SUCCEEDED: 3,
    CallbackKind.REFUND_FAILED: 4,
    CallbackKind.REFUND_SUCCEEDED: 4,
}
"""Stripe counts no versions of a session; these rise as it goes on."""

_SESSION_KINDS: Final[Mapping[str, CallbackKind]] = {
    "checkout.session.completed": CallbackKind.PAYMENT_SUCCEEDED,
    "checkout.session.async_payment_succeeded": CallbackKind.PAYMENT_SUCCEEDED,
    "checkout.session.async_payment_failed": CallbackKind.PAYMENT_FAILED,
    "checkout.session.expired": CallbackKind.PAYMENT_CLOSED,
}
_REFUND_EVENTS: Final = frozenset(
    {"refund.created", "refund.updated", "refund.failed", "charge.refund.updated"}
)
_REFUND_KINDS: Final[Mapping[str, CallbackKind]] = {
    "succeeded": CallbackKind.REFUND_SUCCEEDED,
    "failed": CallbackKind.REFUND_FAILED,
    "canceled": CallbackKind.REFUND_FAILED,
}

_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_LONG_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_TIMESTAMP: Final = re.compile(r"(?:^|,)\s*t=([0-9]{1,12})(?:,|$)", re.ASCII)


class StripeDialect:
    """Understands events of Stripe's webhooks."""

    def timestamp(self, headers: Mapping[str, str]) -> str:
        """Returns `t` of the signature header."""
        found = _TIMESTAMP.search(headers.get(SIGNATURE_HEADER, ""))
        return found[1] if found else ""

    def is_signed(self, keys: Sequence[bytes], headers: Mapping[str, str], raw_body: bytes) -> bool:
        """Lets Stripe's library verify with each key; all are tried, whichever fits."""
        header = headers.get(SIGNATURE_HEADER, "")
        # Every key is tried, so that the time taken does not tell which one fits.
        matches = [_is_signed(raw_body, header, key) for key in keys]
        return any(matches)

    def read(self, raw_body: bytes) -> Envelope:
        """Returns the news of an event; None in it if it is none for us."""
        try:
            event: Any = json.loads(raw_body)
        except (ValueError, RecursionError) as error:
            raise MalformedCallbackError("the body is not JSON") from error
        if not isinstance(event, dict):
            raise MalformedCallbackError("the body is not a JSON object")
        event_id = _text(event, "id", _ID)
        subject = event.get("data")
        subject = subject.get("object") if isinstance(subject, dict) else None
        if not isinstance(subject, dict):
            raise MalformedCallbackError("data.object is missing")
        kind = _kind(str(event.get("type")), subject)
        if kind is None:
            return Envelope(event_id, None)
        return Envelope(event_id, _callback(event_id, kind, event, subject))

    def named(self, headers: Mapping[str, str]) -> str:
        """Returns nothing: Stripe's headers do not name the event."""
        del headers
        return ""


def _is_signed(raw_body: bytes, header: str, key: bytes) -> bool:
    """Does what `stripe.Webhook.construct_event` does before it reads an event.

    The window of time is not given: it is the webhook's own check, by its own clock.
    """
    try:
        stripe.WebhookSignature.verify_header(raw_body.decode(), header, key.decode())
    except (stripe.SignatureVerificationError, ValueError):
        # Stripe signs text: bytes that are none, it has not signed.
        return False
    return True


def _kind(event_type: str, subject: dict[str, Any]) -> CallbackKind | None:
    if event_type in _REFUND_EVENTS:
        return _REFUND_KINDS.get(str(subject.get("status")))
    kind = _SESSION_KINDS.get(event_type)
    if kind is CallbackKind.PAYMENT_SUCCEEDED and subject.get("payment_status") != "paid":
        # A slow method has been chosen; its end has an event of its own.
        return None
    return kind


def _callback(
    event_id: str, kind: CallbackKind, event: dict[str, Any], subject: dict[str, Any]
) -> Callback:
    metadata = subject.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    is_refund = kind in (CallbackKind.REFUND_SUCCEEDED, CallbackKind.REFUND_FAILED)
    provider_no = _text(subject, "id", _LONG_ID)
    told = subject.get("client_reference_id") or metadata.get(ATTEMPT_FIELD)
    # What was not started by us has no number of ours; it is an orphan under Stripe's.
    merchant_no = told if isinstance(told, str) and _ID.fullmatch(told) else provider_no[:64]
    refund_key = metadata.get(REFUND_FIELD, "")
    return Callback(
        event_id=event_id,
        kind=kind,
        merchant_no=merchant_no,
        provider_no=provider_no,
        amount_minor=_number(subject, "amount" if is_refund else "amount_total", AMOUNT_MINOR_MAX),
        currency=_currency(subject),
        occurred_ms=_number(event, "created", TIME_MS_MAX // 1_000) * 1_000,
        state_version=VERSIONS[kind],
        failure_code=plain(str(subject.get("failure_reason") or ""))[:CODE_LENGTH_MAX],
        refund_key=refund_key if is_refund and isinstance(refund_key, str) else "",
        refund_no=provider_no if is_refund else "",
    )


def _currency(subject: dict[str, Any]) -> str:
    currency = str(subject.get("currency")).upper()
    if not _CURRENCY.fullmatch(currency):
        raise MalformedCallbackError("currency is not three letters")
    return currency


def _text(body: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedCallbackError(f"{name} does not match {pattern.pattern}")
    return value


def _number(body: dict[str, Any], name: str, most: int) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise MalformedCallbackError(f"{name} is not a whole number from 0 to {most}")
    return value
