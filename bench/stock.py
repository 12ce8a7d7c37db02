"""The work that is measured: one unit of a well-supplied sku for a new person, under a new id."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grpc

from bench.machine import ROOT
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub

SALE = "bench"
SKU = "unit"
POOL = "main"
# The most units that one SupplyStock may add, so that no load of a session sells out.
UNITS_PER_SUPPLY = 1_000_000
SUPPLIES = 8
ACTOR = "bench"
REASON = "benchmark"


def reserve_message() -> dict[str, object]:
    """Returns a Reserve request whose ids ghz makes anew for each call."""
    return {
        "reservation_id": "{{newUUID}}",
        "sale_id": SALE,
        "person_id": "{{newUUID}}",
        "lines": [{"sku": SKU, "units": 1}],
    }


def write_protoset(path: Path) -> None:
    """Writes the contract's descriptor set, which lets ghz call servers without reflection."""
    buf = Path(sys.executable).parent / "buf"
    subprocess.run([str(buf), "build", "--output", str(path)], cwd=ROOT, check=True)


def server_flags(folder: Path) -> list[str]:
    """Returns the flags of a ledger server on free ports, with its journal below `folder`."""
    return [
        "--data-directory",
        str(folder / "data"),
        "--data-address",
        "127.0.0.1:0",
        "--settlement-address",
        "127.0.0.1:0",
    ]


def supply(settlement_address: str, policy: sale_pb2.SalePolicy | None = None) -> None:
    """Opens the sale and supplies more units than any load here can take.

    Args:
        settlement_address: Of the ledger's settlement listener.
        policy: Of the sale; defaults if left out.
    """
    with grpc.insecure_channel(settlement_address) as channel:
        stub = StockAdminServiceStub(channel)
        stub.PutSale(
            admin.PutSaleRequest(
                request_id="sale",
                sale_id=SALE,
                policy=policy or sale_pb2.SalePolicy(),
                actor=ACTOR,
                reason=REASON,
            )
        )
        stub.PutPool(
            admin.PutPoolRequest(
                request_id="pool",
                sale_id=SALE,
                sku=SKU,
                pool=POOL,
                is_offered=True,
                actor=ACTOR,
                reason=REASON,
            )
        )
        for number in range(SUPPLIES):
            stub.SupplyStock(
                admin.SupplyStockRequest(
                    request_id=f"supply-{number}",
                    sale_id=SALE,
                    sku=SKU,
                    pool=POOL,
                    units=UNITS_PER_SUPPLY,
                    actor=ACTOR,
                    reason=REASON,
                )
            )


def main() -> None:
    """Supplies the sale on a running server, so that ghz has something to reserve."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one address
        sys.exit("usage: python -m bench.stock SETTLEMENT_ADDRESS, for example 127.0.0.1:7401")
    try:
        supply(sys.argv[1])
    except grpc.RpcError as error:
        code = error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"
        sys.exit(f"bench: {sys.argv[1]} answers {code}; is it a ledger's settlement listener?")
    print(f"sale {SALE!r} has {SUPPLIES * UNITS_PER_SUPPLY:,} units of {SKU!r}")


if __name__ == "__main__":
    main()
