"""A server that shows the network the native listeners only, as operating/door.md advises."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from tests.conformance.kit import Ledger, reserve_request, start_server

from lastunit.stock.v1 import stock_service_pb2 as stock

if TYPE_CHECKING:
    from pathlib import Path

FREE = "127.0.0.1:0"
# Of this machine, and not the one that the grpcio listeners have.
OTHER_ADDRESS = "127.0.0.2"
NATIVE = ("native_data", "native_settlement")
OFF = {
    "data": ("--set", "data.address=", "--set", f"native.data_address={FREE}"),
    "settlement": ("--set", "settlement.address=", "--set", f"native.settlement_address={FREE}"),
}


@pytest.mark.parametrize("off", [("data",), ("settlement",), ("data", "settlement")])
def test_the_native_front_serves_where_the_other_is_off(
    tmp_path: Path, off: tuple[str, ...]
) -> None:
    """Every call is served, wrong listeners name the native one, and the server stops cleanly."""
    flags = [flag for listener in off for flag in OFF[listener]]
    server = start_server(tmp_path, "--durability", "memory", *flags)
    ledger = Ledger(server.ready["native_data"], server.ready["native_settlement"])
    sale_id = ledger.put_sale(units=3)
    ledger.must(ledger.stock.Reserve(reserve_request(sale_id), timeout=30))
    with pytest.raises(grpc.RpcError) as caught:
        ledger.settling.Reserve(reserve_request(sale_id), timeout=30)
    data_here = server.ready["data"] or server.ready["native_data"]
    for listener in {"data", "settlement"} - set(off):
        here = Ledger(server.ready[listener], server.ready[listener])
        question = stock.GetReservationRequest(reservation_id="nobody")
        here.settling.GetReservation(question, timeout=30)
        here.close()
    page = httpx.get(f"http://{server.ready['metrics']}/metrics", timeout=30).text
    ledger.close()

    assert server.stop() == 0
    assert [server.ready[listener] for listener in off] == [None] * len(off)
    assert server.ready["address"] == data_here
    assert server.ready["native_data"] in str(caught.value.details())
    assert 'lastunit_door_connections{listener="native_data"}' in page


def test_other_addresses_reach_the_native_front_and_never_the_other(tmp_path: Path) -> None:
    """What the native listeners are given for the network does not take the grpcio ones along."""
    flags = ("native.data_address", "native.settlement_address")
    beyond = [part for key in flags for part in ("--set", f"{key}=0.0.0.0:0")]
    server = start_server(tmp_path, "--durability", "memory", "--allow-insecure", *beyond)
    ports = {name: int(server.ready[name].rpartition(":")[2]) for name in (*OFF, *NATIVE)}

    for name, port in ports.items():
        if name in NATIVE:
            socket.create_connection((OTHER_ADDRESS, port), timeout=10).close()
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((OTHER_ADDRESS, port), timeout=10)
    assert server.stop() == 0
