"""kill -9 in the middle of load: every acknowledged reservation is there after the restart."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from tests.conformance.kit import (
    SKU,
    Ledger,
    Server,
    new_id,
    refused,
    reserve_request,
    start_server,
)

from lastunit.stock.v1 import reservation_pb2 as reservation
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from pathlib import Path

CALLERS = 32
UNITS = 100_000
# The server is killed when this many reservations are acknowledged, in each round.
ACKNOWLEDGED = 400
ROUNDS = 3


class Oracle:
    """What the callers were told: the truth that the ledger has to agree with afterwards."""

    def __init__(self) -> None:
        self.reserved: dict[str, stock.ReserveRequest] = {}
        self.confirmed: set[str] = set()
        self.unknown: dict[str, stock.ReserveRequest] = {}
        self.sequence = 0

    async def one_caller(self, stub: Any, settling: Any, sale_id: str) -> None:
        """Reserves and sells every third one, until the server is gone."""
        while True:
            request = reserve_request(sale_id)
            self.unknown[request.reservation_id] = request
            try:
                reply = await stub.Reserve(request, timeout=10)
                self.note(request, reply)
                if len(self.reserved) % 3 == 0:
                    await self.sell(settling, request.reservation_id)
            except grpc.aio.AioRpcError:
                return

    def note(self, request: stock.ReserveRequest, reply: Any) -> None:
        """Notes an acknowledged reservation."""
        assert reply.result.outcome == 1, reply
        assert reply.place.durable_sequence >= reply.place.sequence
        self.reserved[request.reservation_id] = request
        self.sequence = max(self.sequence, reply.place.sequence)
        del self.unknown[request.reservation_id]

    async def sell(self, settling: Any, reservation_id: str) -> None:
        """Confirms a reservation and notes it when that is acknowledged."""
        request = stock.ConfirmRequest(
            request_id=f"sell-{reservation_id}", reservation_id=reservation_id
        )
        reply = await settling.Confirm(request, timeout=10)
        assert reply.result.outcome == 1, reply
        self.confirmed.add(reservation_id)
        self.sequence = max(self.sequence, reply.place.sequence)


async def load_until_gone(server: Server, oracle: Oracle, sale_id: str, *, goal: int) -> None:
    """Runs all callers until the server ends by itself, or kills it at so many answers."""
    async with (
        grpc.aio.insecure_channel(server.ready["data"]) as data,
        grpc.aio.insecure_channel(server.ready["settlement"]) as settlement,
    ):
        stub, settling = StockServiceStub(data), StockServiceStub(settlement)
        callers = [
            asyncio.create_task(oracle.one_caller(stub, settling, sale_id)) for _ in range(CALLERS)
        ]
        # The oracle is plain data, so its size is polled.
        while len(oracle.reserved) < goal and server.process.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        server.kill()
        await asyncio.gather(*callers)


def check(ledger: Ledger, oracle: Oracle, sale_id: str) -> None:
    """Compares what the ledger shows with what the callers were told."""
    shown: dict[str, int] = {}
    token = ""
    while True:
        page = ledger.must(
            ledger.stock.ListReservations(
                stock.ListReservationsRequest(sale_id=sale_id, page_size=1000, page_token=token)
            )
        )
        shown |= {row.reservation_id: row.state for row in page.reservations}
        token = page.next_page_token
        if not token:
            break
    lost = set(oracle.reserved) - set(shown)
    invented = set(shown) - set(oracle.reserved) - set(oracle.unknown)
    assert not lost
    assert not invented
    unsold = {one for one in oracle.confirmed if shown[one] != reservation.STATE_CONFIRMED}
    assert not unsold
    counters = ledger.counters(sale_id)
    assert counters["held"] + counters["sold"] == len(shown)
    audit = ledger.admin.Audit(admin.AuditRequest())
    assert audit.holds, audit.findings
    assert audit.place.as_of_sequence >= oracle.sequence


async def test_every_acknowledged_reservation_survives_kill_9(tmp_path: Path) -> None:
    """Three kills under load: nothing acknowledged is lost, and every retried id has one effect."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=UNITS, unpaid_reservations_per_person_max=1)
    ledger.close()
    oracle = Oracle()
    for _ in range(ROUNDS):
        goal = len(oracle.reserved) + ACKNOWLEDGED
        await load_until_gone(server, oracle, sale_id, goal=goal)
        epoch = server.ready["epoch"]
        server = start_server(tmp_path)
        assert server.ready["epoch"] > epoch
        ledger = Ledger(server.ready["data"], server.ready["settlement"])
        check(ledger, oracle, sale_id)
        retry_unknown(ledger, oracle)
        check(ledger, oracle, sale_id)
        ledger.close()
    assert server.stop() == 0


@pytest.mark.parametrize(
    "place",
    [
        "after_append_before_write:50",
        "after_write_before_sync:50",
        "after_sync_before_reply:50",
        "during_snapshot",
    ],
)
async def test_every_acknowledged_reservation_survives_a_cut_at(tmp_path: Path, place: str) -> None:
    """The process ends itself between two steps of a flush; what was told stands all the same."""
    server = start_server(
        tmp_path,
        *("--set", "journal.snapshot_events=1000"),
        environment={"LASTUNIT_FAILPOINT": place},
    )
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=UNITS)
    ledger.close()
    oracle = Oracle()

    await load_until_gone(server, oracle, sale_id, goal=10 * ACKNOWLEDGED)
    assert len(oracle.reserved) < 10 * ACKNOWLEDGED, "the failpoint was never reached"

    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    check(ledger, oracle, sale_id)
    retry_unknown(ledger, oracle)
    check(ledger, oracle, sale_id)
    ledger.close()
    assert server.stop() == 0


def retry_unknown(ledger: Ledger, oracle: Oracle) -> None:
    """Sends the calls again whose answer was lost: each has one effect, now or before."""
    for request in list(oracle.unknown.values()):
        oracle.note(request, ledger.stock.Reserve(request, timeout=10))
    for request in list(oracle.reserved.values())[-20:]:
        again = ledger.stock.Reserve(request, timeout=10)
        assert again.result.replayed or again.result.outcome == 1, again


def test_clients_in_flight_learn_that_the_server_is_gone(tmp_path: Path) -> None:
    """A killed server shows as UNAVAILABLE, which is what clients retry with the same id."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=5)
    server.kill()

    with pytest.raises(grpc.RpcError) as caught:
        ledger.stock.Reserve(reserve_request(sale_id), timeout=5)
    ledger.close()

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_older_copy_of_the_journal_refuses_those_who_have_seen_more(tmp_path: Path) -> None:
    """A directory restored from an old copy says JOURNAL_ROLLED_BACK and does not sell again."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=5)
    ledger.close()
    assert server.stop() == 0
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    for _ in range(5):
        place = ledger.must(ledger.reserve(sale_id)).place
    ledger.close()
    assert server.stop() == 0
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "copy").rename(tmp_path / "data")

    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    seen = (
        ("lastunit-seen-sequence", str(place.sequence)),
        ("lastunit-seen-epoch", str(place.epoch)),
    )
    with pytest.raises(grpc.RpcError) as caught:
        ledger.stock.Reserve(reserve_request(sale_id), metadata=seen, timeout=5)
    ledger.close()

    assert refused(caught.value).reason == "JOURNAL_ROLLED_BACK"
    assert server.stop() == 0


def test_a_unit_of_a_killed_server_is_not_sold_twice(tmp_path: Path) -> None:
    """The last unit stays with who was told so, whoever asks after the restart."""
    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    sale_id = ledger.put_sale(units=1)
    request = reserve_request(sale_id, reservation_id=new_id("winner"))
    ledger.must(ledger.stock.Reserve(request))
    server.kill()
    ledger.close()

    server = start_server(tmp_path)
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    other = ledger.reserve(sale_id)
    retry = ledger.stock.Reserve(request)

    assert other.result.sku == SKU
    assert retry.result.replayed
    assert ledger.counters(sale_id) == {"supplied": 1, "held": 1}
    ledger.close()
    assert server.stop() == 0
