"""Builds the messages of the hot calls from plain arguments.

Owns units and forms: seconds and milliseconds become spans and instants. Must not check what the
contract declares: the server does, and names the field. Next: `lastunit.client.aio`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import duration_pb2, timestamp_pb2

from lastunit.stock.v1 import reservation_pb2, stock_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastunit.client.outcomes import (
        Disposition,
        Line,
        PaymentResult,
        ReleaseReason,
    )

__all__ = ["duration", "instant"]

_NANOSECONDS = 1_000_000_000


def instant(time_ms: int | None) -> timestamp_pb2.Timestamp | None:
    """Returns milliseconds since the epoch as a message; None stays unset."""
    if time_ms is None:
        return None
    seconds, rest = divmod(time_ms, 1000)
    return timestamp_pb2.Timestamp(seconds=seconds, nanos=rest * 1_000_000)


def duration(seconds: float | None) -> duration_pb2.Duration | None:
    """Returns seconds as a message; None stays unset."""
    if seconds is None:
        return None
    nanoseconds = round(seconds * _NANOSECONDS)
    # A span's two parts share their sign, so the division must cut towards zero.
    whole = int(nanoseconds / _NANOSECONDS)
    return duration_pb2.Duration(seconds=whole, nanos=nanoseconds - whole * _NANOSECONDS)


def reserve(
    reservation_id: str,
    *,
    sale_id: str,
    person_id: str,
    lines: Iterable[Line],
    ttl_seconds: float | None,
    not_after_ms: int | None,
) -> stock_service_pb2.ReserveRequest:
    """Builds a ReserveRequest."""
    return stock_service_pb2.ReserveRequest(
        reservation_id=reservation_id,
        sale_id=sale_id,
        person_id=person_id,
        lines=[
            reservation_pb2.Line(sku=line.sku, pool=line.pool, units=line.units) for line in lines
        ],
        ttl=duration(ttl_seconds),
        not_after_time=instant(not_after_ms),
    )


def begin_payment(
    attempt_id: str, *, reservation_id: str, provider: str, amount_minor: int, currency: str
) -> stock_service_pb2.BeginPaymentRequest:
    """Builds a BeginPaymentRequest."""
    return stock_service_pb2.BeginPaymentRequest(
        reservation_id=reservation_id,
        attempt_id=attempt_id,
        provider=provider,
        amount_minor=amount_minor,
        currency=currency,
    )


def settle_payment(
    request_id: str,
    *,
    reservation_id: str,
    attempt_id: str,
    payment_result: PaymentResult,
    occurred_ms: int | None,
    evidence: str,
) -> stock_service_pb2.SettlePaymentRequest:
    """Builds a SettlePaymentRequest."""
    return stock_service_pb2.SettlePaymentRequest(
        request_id=request_id,
        reservation_id=reservation_id,
        attempt_id=attempt_id,
        payment_result=reservation_pb2.PaymentResult.ValueType(payment_result),
        occurred_time=instant(occurred_ms),
        evidence=evidence,
    )


def confirm(request_id: str, *, reservation_id: str) -> stock_service_pb2.ConfirmRequest:
    """Builds a ConfirmRequest."""
    return stock_service_pb2.ConfirmRequest(request_id=request_id, reservation_id=reservation_id)


def release(
    request_id: str, *, reservation_id: str, release_reason: ReleaseReason
) -> stock_service_pb2.ReleaseRequest:
    """Builds a ReleaseRequest."""
    return stock_service_pb2.ReleaseRequest(
        request_id=request_id,
        reservation_id=reservation_id,
        release_reason=reservation_pb2.ReleaseReason.ValueType(release_reason),
    )


def extend(
    request_id: str, *, reservation_id: str, extension_seconds: float
) -> stock_service_pb2.ExtendRequest:
    """Builds an ExtendRequest."""
    return stock_service_pb2.ExtendRequest(
        request_id=request_id,
        reservation_id=reservation_id,
        extension=duration(extension_seconds),
    )


def return_units(
    request_id: str,
    *,
    reservation_id: str,
    sku: str,
    pool: str,
    units: int,
    disposition: Disposition,
    give_limit_back: bool | None,
) -> stock_service_pb2.ReturnRequest:
    """Builds a ReturnRequest."""
    return stock_service_pb2.ReturnRequest(
        request_id=request_id,
        reservation_id=reservation_id,
        sku=sku,
        pool=pool,
        units=units,
        disposition=reservation_pb2.Disposition.ValueType(disposition),
        give_limit_back=give_limit_back,
    )


def record_refund(
    request_id: str, *, reservation_id: str, attempt_id: str, evidence: str
) -> stock_service_pb2.RecordRefundRequest:
    """Builds a RecordRefundRequest."""
    return stock_service_pb2.RecordRefundRequest(
        request_id=request_id,
        reservation_id=reservation_id,
        attempt_id=attempt_id,
        evidence=evidence,
    )
