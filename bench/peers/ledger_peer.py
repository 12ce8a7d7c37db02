"""lastunit itself: both fronts of one durable server, one call an operation and in messages."""

from __future__ import annotations

import importlib.metadata
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from bench import front, stock
from bench.peers import driver
from bench.peers.shape import Figures, Shape
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

NATIVE, GRPCIO = "lastunit native", "lastunit grpcio"
EXCHANGE = f"{NATIVE} Exchange"
PYTHON = f"{NATIVE} Exchange from Python"
# Operations of a message, and how many messages are under way. The largest has fewer: a server of
# two processors gains nothing from more, and each of them holds half a megabyte.
MESSAGES = ((1, 64), (16, 16), (256, 8), (4096, 4))
UNITS_PER_BUYER_MAX = 5
UNITS = 1_000_000_000
# Admission decides about every operation, as always; its default rate would be the result.
POLICY = """version = 1
[lanes.reservation]
rate_per_second = 1_000_000
burst = 1_000_000
calls_in_flight_max = 100_000
[lanes.settlement]
calls_in_flight_max = 100_000
"""


class LedgerPeer:
    """A lastunit server that is up."""

    name = "lastunit"

    def __init__(self, server: front.Server) -> None:
        self._server = server
        self.version = importlib.metadata.version("lastunit-server")

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._server.pid

    def shapes(self) -> Sequence[Shape]:
        """Both fronts one call at a time, then messages, then Python in front."""
        alone = [Shape(way=way, workers=it) for way in (NATIVE, GRPCIO) for it in (1, 64, 512)]
        shared = [Shape(way=EXCHANGE, workers=it, batch=batch) for batch, it in MESSAGES]
        sizes = (256, 4096)
        python = [Shape(way=PYTHON, workers=2, batch=it, is_python=True) for it in sizes]
        return [*alone, *shared, *python]

    def open_shapes(self) -> Sequence[Shape]:
        """Calls that share no message, on both fronts."""
        return [Shape(way=way, workers=256) for way in (NATIVE, GRPCIO)]

    def measure(self, shape: Shape, seconds: float) -> Figures:
        """Runs one load."""
        addresses, pid = self._server.addresses, self._server.pid
        if shape.is_python:
            arguments = ["lastunit", addresses["native_data"], str(shape.batch), str(seconds)]
            return driver.python_run(arguments, server=pid)
        if shape.way == EXCHANGE:
            return driver.run("exchange", addresses["native_data"], shape, seconds, server=pid)
        kind = "native_" if shape.way == NATIVE else ""
        both = ",".join(addresses[kind + it] for it in ("data", "settlement"))
        return driver.run("unary", both, shape, seconds, server=pid)


def _supply(settlement_address: str) -> None:
    # As strict as the peers: a limit for each buyer, and no other.
    policy = sale_pb2.SalePolicy(
        units_per_person_per_sku_max=UNITS_PER_BUYER_MAX, unpaid_reservations_per_person_max=0
    )
    sale = admin.PutSaleRequest(request_id="sale", policy=policy)
    pool = admin.PutPoolRequest(request_id="pool", is_offered=True)
    units = admin.AdjustStockRequest(request_id="stock", available=UNITS)
    requests = (sale, pool, units)
    for request in requests:
        request.sale_id, request.actor, request.reason = stock.SALE, stock.ACTOR, stock.REASON
        if not isinstance(request, admin.PutSaleRequest):
            request.sku, request.pool = stock.SKU, stock.POOL
    with grpc.insecure_channel(settlement_address) as channel:
        stub = StockAdminServiceStub(channel)
        stub.PutSale(sale)
        stub.PutPool(pool)
        stub.AdjustStock(units)


@contextmanager
def started(folder: Path) -> Iterator[LedgerPeer]:
    """Starts a server with its journal in `folder`, and supplies it."""
    command = [sys.executable, "-m", "lastunit_server", "serve", *stock.server_flags(folder)]
    policy = folder / "policy.toml"
    policy.write_text(POLICY)
    command += ["--policy", str(policy), "--log-level", "warning"]
    with front.started("lastunit", command) as server:
        _supply(server.addresses["settlement"])
        yield LedgerPeer(server)
