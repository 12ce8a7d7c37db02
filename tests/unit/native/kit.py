"""Calls on the native node in the words of the contract."""

from __future__ import annotations

import json
import select
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from lastunit_server import _native

SALE: Final = "sale"
SKU: Final = "sku"
PATIENCE_SECONDS: Final = 20

Response = TypeVar("Response", bound="Message")


def settings(directory: Path, **more: object) -> str:
    """Settings of a node with a manual clock."""
    basic: dict[str, object] = {
        "data_directory": str(directory),
        "clock": "manual",
        "manual_start_ms": 1_000_000,
        # Small, because a test waits until the first segments are filled with zeros.
        "journal": {"segment_bytes": 262_144, "kept_back_bytes": 0},
    }
    return json.dumps(basic | more)


def path(method: str) -> str:
    """Full path of a method, found by the service that has it."""
    service = "StockAdminService" if hasattr(admin, f"{method}Request") else "StockService"
    return f"lastunit.stock.v1.{service}/{method}"


def call(node: _native.Node, method: str, request: Message) -> tuple[int, bytes]:
    """Calls as the tester."""
    body = request.SerializeToString()
    return node.call(path(method), body, "tester", PATIENCE_SECONDS * 1000, 0, "data")


def ask(node: _native.Node, method: str, request: Message, response: type[Response]) -> Response:
    """Calls, and decodes the response of a call that is served."""
    code, body = call(node, method, request)
    assert code == 0, reason(body)
    return response.FromString(body)


def reason(body: bytes) -> str:
    """Reason of a fault."""
    return str(details(body, error_details_pb2.ErrorInfo).reason)


def details(body: bytes, kind: type[Response]) -> Response:
    """One kind of detail of a fault."""
    found = kind()
    for detail in status_pb2.Status.FromString(body).details:
        if detail.Unpack(found):
            return found
    message = f"no {kind.__name__} in the status"
    raise AssertionError(message)


def put_sale(node: _native.Node, units: int) -> None:
    """Makes an open sale of one sku in one pool."""
    who: dict[str, Any] = {"actor": "tester", "reason": "test", "sale_id": SALE}
    pool: dict[str, Any] = {"sku": SKU, "pool": "pool"}
    opens = admin.PutSaleRequest(request_id="sale", opens_time=Timestamp(seconds=0), **who)
    ask(node, "PutSale", opens, admin.PutSaleResponse)
    put_pool = admin.PutPoolRequest(request_id="pool", is_offered=True, **who, **pool)
    ask(node, "PutPool", put_pool, admin.PutPoolResponse)
    supply = admin.SupplyStockRequest(request_id="supply", units=units, **who, **pool)
    ask(node, "SupplyStock", supply, admin.SupplyStockResponse)


def reserve(reservation_id: str) -> stock.ReserveRequest:
    """Reserves one unit for a person of its own."""
    request = stock.ReserveRequest(
        reservation_id=reservation_id, sale_id=SALE, person_id=f"person-{reservation_id}"
    )
    request.lines.add(sku=SKU, units=1)
    return request


def submit(
    node: _native.Node, port: _native.CompletionPort, ticket: int, request: stock.ReserveRequest
) -> tuple[int, bytes] | None:
    """Submits a Reserve as the tester."""
    body = request.SerializeToString()
    return node.submit(port, ticket, path("Reserve"), body, "tester", None, 0, "data")


def collect(port: _native.CompletionPort, count: int) -> list[tuple[int, int, bytes]]:
    """Waits for `count` answers of a port."""
    answers: list[tuple[int, int, bytes]] = []
    while len(answers) < count:
        readable, _, _ = select.select([port.fileno()], [], [], PATIENCE_SECONDS)
        assert readable, f"{len(answers)} of {count} answers came"
        answers += port.drain()
    return answers
