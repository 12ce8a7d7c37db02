"""What a callback's body says, checked field by field.

Owns parsing and its limits. Must not check signatures or touch a database: bytes in, facts out.
Next: `lastunit.payment.webhook` stores the bytes, `lastunit.payment.inbox` acts on the facts.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

__all__ = ["Callback", "CallbackKind", "MalformedCallbackError", "parse_callback", "plain"]

_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
# The key that a refund was asked for with: longer than an id, for a provider may add to ours.
_REFUND_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{0,128}", re.ASCII)
_CURRENCY_PATTERN: Final = re.compile(r"[A-Z]{3}", re.ASCII)

AMOUNT_MINOR_MAX: Final = 1_000_000_000_000_000
TIME_MS_MAX: Final = 253_402_300_799_000
VERSION_MAX: Final = 2**63 - 1
CODE_LENGTH_MAX: Final = 64


class MalformedCallbackError(ValueError):
    """The body is not what the contract says; the text names the field."""


class CallbackKind(StrEnum):
    """What a callback tells of."""

    PAYMENT_SUCCEEDED = "payment.succeeded"
    PAYMENT_FAILED = "payment.failed"
    PAYMENT_CLOSED = "payment.closed"
    REFUND_SUCCEEDED = "refund.succeeded"
    REFUND_FAILED = "refund.failed"


@dataclass(frozen=True, slots=True)
class Callback:
    """Is what a provider told us, field by field.

    Attributes:
        event_id: The provider's id of the event, 1 to 64 bytes.
        kind: What it tells of.
        merchant_no: Our number, the attempt's id.
        provider_no: The provider's number.
        amount_minor: Minor units, 0 to 1e15.
        currency: Three capitals.
        occurred_ms: When it happened, milliseconds since the epoch.
        state_version: The provider's version of the attempt, 0 or more.
        failure_code: The provider's code, at most 64 characters; empty if none.
        refund_key: The key that the refund was asked for with; empty if none or not told.
        refund_no: The provider's number of the refund; empty likewise.
    """

    event_id: str
    kind: CallbackKind
    merchant_no: str
    provider_no: str
    amount_minor: int
    currency: str
    occurred_ms: int
    state_version: int
    failure_code: str
    refund_key: str = ""
    refund_no: str = ""


def parse_callback(raw_body: bytes) -> Callback:
    """Returns what a body says.

    Args:
        raw_body: JSON, an object; unknown fields are ignored.

    Raises:
        MalformedCallbackError: A field is missing or out of range.
    """
    try:
        body: Any = json.loads(raw_body)
    except (ValueError, RecursionError) as error:
        raise MalformedCallbackError("the body is not JSON") from error
    if not isinstance(body, dict):
        raise MalformedCallbackError("the body is not a JSON object")
    return Callback(
        event_id=_id(body, "event_id"),
        kind=_kind(body),
        merchant_no=_id(body, "merchant_no"),
        provider_no=_id(body, "provider_no"),
        amount_minor=_number(body, "amount_minor", AMOUNT_MINOR_MAX),
        currency=_matching(body, "currency", _CURRENCY_PATTERN),
        occurred_ms=_number(body, "occurred_at", TIME_MS_MAX),
        state_version=_number(body, "state_version", VERSION_MAX),
        failure_code=_text(body, "failure_code"),
        refund_key=_optional(body, "refund_key"),
        refund_no=_optional(body, "refund_no"),
    )


def _kind(body: dict[str, Any]) -> CallbackKind:
    try:
        return CallbackKind(str(body.get("type")))
    except ValueError:
        raise MalformedCallbackError("type is not one of the kinds we know") from None


def _id(body: dict[str, Any], name: str) -> str:
    return _matching(body, name, _ID_PATTERN)


def _optional(body: dict[str, Any], name: str) -> str:
    return _matching(body, name, _REFUND_KEY_PATTERN) if name in body else ""


def _matching(body: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedCallbackError(f"{name} does not match {pattern.pattern}")
    return value


def _number(body: dict[str, Any], name: str, most: int) -> int:
    value = body.get(name)
    # A bool is an int to Python, and a float of money is somebody's rounding.
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise MalformedCallbackError(f"{name} is not a whole number from 0 to {most}")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > CODE_LENGTH_MAX:
        raise MalformedCallbackError(f"{name} is not a text of at most {CODE_LENGTH_MAX}")
    return plain(value)


def plain(text: str) -> str:
    """Returns a text with `?` for what cannot be shown or stored: controls, NUL, half characters.

    A provider's words about money must not be lost for one of them.
    """
    return "".join(each if each.isprintable() else "?" for each in text)
