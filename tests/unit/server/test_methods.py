"""The table of listeners against the contract."""

from __future__ import annotations

import pytest

from lastunit.admission.v1 import admission_service_pb2
from lastunit.stock.v1 import (
    journal_service_pb2,
    rehearsal_service_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)
from lastunit_server.methods import COST_METHODS, Listener, unary_methods

CONTRACT = (
    stock_service_pb2,
    stock_admin_service_pb2,
    journal_service_pb2,
    rehearsal_service_pb2,
    admission_service_pb2,
)


def declared_unary() -> set[str]:
    """Returns the paths of all unary methods that the protos declare."""
    return {
        f"/{service.full_name}/{method.name}"
        for module in CONTRACT
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not (method.client_streaming or method.server_streaming)
    }


@pytest.mark.parametrize("listener", Listener)
def test_each_unary_method_is_served_or_sent_elsewhere(listener: Listener) -> None:
    """Every unary method of the contract has a row for each listener, and nothing else has."""
    served, elsewhere = unary_methods(listener, is_rehearsal=True)

    assert served | elsewhere == declared_unary()
    assert not served & elsewhere


def test_each_unary_method_is_served_somewhere() -> None:
    """No method is sent elsewhere by both listeners."""
    data, _ = unary_methods(Listener.DATA, is_rehearsal=True)
    settlement, _ = unary_methods(Listener.SETTLEMENT, is_rehearsal=True)

    assert data | settlement == declared_unary()


def test_settlement_keeps_the_flood_out() -> None:
    """What a flood consists of is not served on the settlement listener."""
    served, elsewhere = unary_methods(Listener.SETTLEMENT, is_rehearsal=False)

    names = {path.rpartition("/")[2] for path in elsewhere}
    assert names == {"Reserve", "GetAvailability", "ListReservations"}
    assert "/lastunit.stock.v1.StockService/SettlePayment" in served


def test_the_clock_is_driven_in_rehearsals_only() -> None:
    """RehearsalService exists only when the node's clock is manual."""
    served, elsewhere = unary_methods(Listener.SETTLEMENT, is_rehearsal=False)

    assert not any("Rehearsal" in path for path in served | elsewhere)


def test_every_operation_can_be_priced() -> None:
    """A policy may set the cost of each method of StockService, and of the operators' as one."""
    stock = stock_service_pb2.DESCRIPTOR.services_by_name["StockService"]

    assert {method.name for method in stock.methods} - {"Exchange"} | {"Admin"} == COST_METHODS
