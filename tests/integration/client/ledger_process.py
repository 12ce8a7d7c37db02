"""A ledger server in a process of its own, as an operator starts it.

Owns: starting on free ports, killing, starting again on the same ports.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from lastunit.stock.v1 import stock_admin_service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from lastunit.client.aio import Reply, StockClient


LISTENERS = ("data", "settlement", "native_data", "native_settlement")


class LedgerProcess:
    """Serves one data directory.

    Args:
        directory: Where its journal is.
        prefix: Of the addresses in its ready line; `native_` has clients call the native front.
    """

    def __init__(self, directory: Path, *, prefix: str = "") -> None:
        self.directory = directory
        self._prefix = prefix
        self._addresses = dict.fromkeys(LISTENERS, "127.0.0.1:0")
        if not prefix:
            # A port beside one that is taken again may be anybody's by now.
            self._addresses |= {"native_data": "", "native_settlement": ""}
        self._process: subprocess.Popen[str] | None = None

    @property
    def data(self) -> str:
        """Where clients find the data listener."""
        return self._addresses[f"{self._prefix}data"]

    @property
    def settlement(self) -> str:
        """Where clients find the settlement listener."""
        return self._addresses[f"{self._prefix}settlement"]

    def start(self) -> None:
        """Starts it and returns once it serves; later starts use the same ports."""
        addresses = self._addresses
        with (self.directory.parent / "ledger.log").open("a") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "lastunit_server", "serve"),
                    *("--data-directory", str(self.directory)),
                    *("--data-address", addresses["data"]),
                    *("--settlement-address", addresses["settlement"]),
                    *("--set", f"native.data_address={addresses['native_data']}"),
                    *("--set", f"native.settlement_address={addresses['native_settlement']}"),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.directory.parent / "ledger.log").read_text()
        ready = json.loads(line)
        self._addresses = {name: ready[name] or "" for name in LISTENERS}

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is None:
            return
        self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait(30)
        self._process = None

    def lose_everything(self) -> None:
        """Ends it and throws its journal away, as a wrong restore would."""
        self.kill()
        shutil.rmtree(self.directory)


async def put_on_sale(client: StockClient, *, units: int) -> None:
    """Opens the sale `flash` with one pool of phones."""
    common: Any = {"actor": "tests", "reason": "set-up", "sale_id": "flash"}
    sale = pb.PutSaleRequest(request_id="sale", **common)
    sale.opens_time.FromSeconds(1)
    sale.policy.reservation_ttl.FromSeconds(600)
    replies: list[Reply[Any]] = [
        await client.admin.put_sale(sale),
        await client.admin.put_pool(
            pb.PutPoolRequest(
                request_id="pool", sku="phone", pool="main", is_offered=True, **common
            )
        ),
        await client.admin.supply_stock(
            pb.SupplyStockRequest(
                request_id="supply", sku="phone", pool="main", units=units, **common
            )
        ),
    ]

    assert [reply.is_ok for reply in replies] == [True, True, True], replies
