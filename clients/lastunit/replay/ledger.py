"""The real ledger server as a child process of the replay, on a manual clock.

Owns its start, the sale that it is given and its end. Must not know buyers.
Next: ``ours.py``; the server itself is ``lastunit-server``.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lastunit.client.aio import ExchangeLimits, StockClient
from lastunit.service.children import Child, stop_all
from lastunit.stock.v1 import sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["SALE_ID", "SKU", "put_sale", "rehearsal_ledger"]

SALE_ID: Final = "incident"
SKU: Final = "unit"
_POOL: Final = "main"
_ACTOR: Final = "replay"

# The replay sends everything of one instant at once; what it tests is not admission.
_ADMISSION: Final = """\
version = 1
[lanes.settlement]
calls_in_flight_max = 100000
[lanes.reservation]
calls_in_flight_max = 100000
[lanes.read]
calls_in_flight_max = 100000
"""

_DEADLINE_SECONDS: Final = 60.0


@contextlib.asynccontextmanager
async def rehearsal_ledger(start_ms: int) -> AsyncIterator[StockClient]:
    """Runs a ledger server whose time is set by the caller.

    Args:
        start_ms: Its first ledger time, milliseconds since the epoch.

    Yields:
        A client of it.
    """
    with tempfile.TemporaryDirectory(prefix="lastunit-replay-") as name:
        directory = Path(name)
        admission = directory / "admission.toml"
        admission.write_text(_ADMISSION, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "lastunit_server", "serve"),
            *("--data-directory", str(directory / "ledger")),
            *("--data-address", "127.0.0.1:0"),
            *("--settlement-address", "127.0.0.1:0"),
            *("--clock", "manual"),
            *("--manual-start-ms", str(start_ms)),
            # A rehearsal needs no disk: the same code runs, and nothing of it is kept.
            *("--durability", "memory"),
            *("--admission-file", str(admission)),
        ]
        child = Child("ledger", command, log_directory=directory)
        try:
            ready = await child.start()
            async with StockClient(
                ready["data"],
                settlement_address=ready["settlement"],
                caller=_ACTOR,
                deadline_seconds=_DEADLINE_SECONDS,
                limits=ExchangeLimits(operations_per_message_max=4_096),
                seed=1,
            ) as client:
                yield client
        finally:
            await stop_all([child])


async def put_sale(client: StockClient, *, units: int, ttl_seconds: float) -> None:
    """Opens the sale of the incident: one sku, one pool, one unit a person.

    Args:
        client: Of an empty ledger.
        units: How many there are.
        ttl_seconds: Life of an unpaid reservation, and time until an open payment is asked for.
    """
    policy = sale_pb2.SalePolicy(
        units_per_person_per_sku_max=1,
        units_per_person_max=1,
        unpaid_reservations_per_person_max=1,
    )
    policy.reservation_ttl.FromMilliseconds(int(ttl_seconds * 1_000))
    policy.settle_by.FromMilliseconds(int(ttl_seconds * 1_000))
    policy.max_life.FromMilliseconds(int(ttl_seconds * 3_000))
    policy.retry_grace.FromSeconds(120)
    policy.expiry_brake_lag.FromSeconds(60)
    sale = await client.admin.put_sale(
        admin.PutSaleRequest(
            request_id="replay-sale",
            actor=_ACTOR,
            reason="replay of the incident",
            sale_id=SALE_ID,
            policy=policy,
        )
    )
    pool = await client.admin.put_pool(
        admin.PutPoolRequest(
            request_id="replay-pool",
            actor=_ACTOR,
            reason="replay of the incident",
            sale_id=SALE_ID,
            sku=SKU,
            pool=_POOL,
            is_offered=True,
        )
    )
    stock = await client.admin.supply_stock(
        admin.SupplyStockRequest(
            request_id="replay-supply",
            actor=_ACTOR,
            reason="replay of the incident",
            sale_id=SALE_ID,
            sku=SKU,
            pool=_POOL,
            units=units,
        )
    )
    for reply in (sale, pool, stock):
        if not reply.is_ok:
            raise RuntimeError(f"the ledger refused to set up the sale: {reply.outcome.name}")
