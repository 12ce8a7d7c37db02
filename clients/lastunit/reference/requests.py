"""Which method takes which request, and what of it is compared when an id comes again.

Owns the table of methods. Must not carry anything out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lastunit.reference import (
    paying,
    persons,
    reserving,
    returning,
    sales,
    settling,
    stock,
    views,
)
from lastunit.reference.words import optional_millis, optional_value
from lastunit.stock.v1 import stock_admin_service_pb2 as admin_pb2
from lastunit.stock.v1 import stock_service_pb2 as stock_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.reference.answers import Answer
    from lastunit.reference.ledger import Ledger

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the contract.

    Attributes:
        name: As the proto calls it.
        response: Class of its response.
        run: The rule.
        read: Reads each compared field, by name, in the order of the proto; empty if the method
            has no `request_id`.
    """

    name: str
    response: Callable[..., Any]
    run: Callable[[Ledger, Any], Answer]
    read: dict[str, Callable[[Any], Any]]

    def content(self, request: Any) -> tuple[Any, ...]:
        """Returns what is compared when the id comes again."""
        return tuple(read(request) for read in self.read.values())


def plain(*names: str) -> dict[str, Callable[[Any], Any]]:
    """Reads fields as they are."""

    def reader(name: str) -> Callable[[Any], Any]:
        return lambda request: getattr(request, name)

    return {name: reader(name) for name in names}


def optional(name: str) -> dict[str, Callable[[Any], Any]]:
    """Reads a field that may be unset."""
    return {name: lambda request: optional_value(request, name)}


def millis(name: str) -> dict[str, Callable[[Any], Any]]:
    """Reads a time or a span, cut to whole milliseconds."""
    return {name: lambda request: optional_millis(request, name)}


def labels() -> dict[str, Callable[[Any], Any]]:
    """Reads labels, whose order says nothing."""
    return {"labels": lambda request: tuple(sorted(request.labels.items()))}


def policy() -> dict[str, Callable[[Any], Any]]:
    """Reads a policy with its defaults filled in."""
    return {"policy": lambda request: sales.policy_of(request.policy)}


UNIT_MOVE: Final = plain("sale_id", "sku", "pool", "units")

_TABLE: Final[dict[Any, tuple[Any, dict[str, Callable[[Any], Any]]]]] = {
    stock_pb2.ReserveRequest: (reserving.reserve, {}),
    stock_pb2.BeginPaymentRequest: (paying.begin_payment, {}),
    stock_pb2.SettlePaymentRequest: (
        settling.settle_payment,
        plain("reservation_id", "attempt_id", "payment_result")
        | millis("occurred_time")
        | plain("evidence"),
    ),
    stock_pb2.ConfirmRequest: (returning.confirm, plain("reservation_id")),
    stock_pb2.ReleaseRequest: (returning.release, plain("reservation_id", "release_reason")),
    stock_pb2.ExtendRequest: (returning.extend, plain("reservation_id") | millis("extension")),
    stock_pb2.ReturnRequest: (
        returning.return_units,
        plain("reservation_id", "sku", "pool", "units", "disposition")
        | optional("give_limit_back"),
    ),
    stock_pb2.RecordRefundRequest: (
        settling.record_refund,
        plain("reservation_id", "attempt_id", "evidence"),
    ),
    stock_pb2.GetReservationRequest: (views.get_reservation, {}),
    stock_pb2.ListReservationsRequest: (views.list_reservations, {}),
    stock_pb2.GetAvailabilityRequest: (views.get_availability, {}),
    admin_pb2.PutSaleRequest: (
        sales.put_sale,
        plain("sale_id")
        | millis("opens_time")
        | millis("closes_time")
        | policy()
        | optional("expected_revision"),
    ),
    admin_pb2.SetSaleStateRequest: (sales.set_sale_state, plain("sale_id", "state")),
    admin_pb2.PutPoolRequest: (
        stock.put_pool,
        plain("sale_id", "sku", "pool", "position") | labels() | plain("is_offered"),
    ),
    admin_pb2.SupplyStockRequest: (stock.supply_stock, UNIT_MOVE | plain("is_buffer")),
    admin_pb2.WithdrawStockRequest: (stock.withdraw_stock, UNIT_MOVE | plain("is_buffer")),
    admin_pb2.AdjustStockRequest: (
        stock.adjust_stock,
        plain("sale_id", "sku", "pool", "expected_available", "available"),
    ),
    admin_pb2.MoveStockRequest: (
        stock.move_stock,
        plain("sale_id", "sku", "source_pool", "target_pool", "units"),
    ),
    admin_pb2.PourBufferRequest: (stock.pour_buffer, UNIT_MOVE),
    admin_pb2.ReleaseUnverifiedRequest: (returning.release_unverified, plain("reservation_id")),
    admin_pb2.MergePersonsRequest: (
        persons.merge_persons,
        plain("source_person_id", "target_person_id"),
    ),
    admin_pb2.SplitPersonsRequest: (
        persons.split_persons,
        {"person_ids": lambda request: tuple(request.person_ids)},
    ),
    admin_pb2.SetExpiryBrakeRequest: (
        persons.set_expiry_brake,
        plain("is_on") | millis("until_time"),
    ),
    admin_pb2.AuditRequest: (views.audit, {}),
    admin_pb2.ExplainReservationRequest: (views.explain_reservation, {}),
}


def _method(request_class: Any, run: Any, read: dict[str, Callable[[Any], Any]]) -> Method:
    name = request_class.DESCRIPTOR.name.removesuffix("Request")
    module = stock_pb2 if hasattr(stock_pb2, f"{name}Response") else admin_pb2
    return Method(name, getattr(module, f"{name}Response"), run, read)


METHODS: Final = {kind: _method(kind, run, read) for kind, (run, read) in _TABLE.items()}
