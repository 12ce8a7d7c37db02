"""Places make the promises checkable: order, durability, read your own writes, no rollback."""

from __future__ import annotations

import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from bench.attacks import frames

from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import Ledger, new_id, refused, reserve_request


def get(reservation_id: str) -> stock.GetReservationRequest:
    """Builds a read."""
    return stock.GetReservationRequest(reservation_id=reservation_id)


def test_every_reply_says_where_it_stands(ledger: Ledger) -> None:
    """A write has a sequence, a refusal and a read have none; nothing shown is not durable."""
    sale_id = ledger.put_sale(units=1)
    write = ledger.reserve(sale_id).place
    refusal = ledger.reserve(sale_id).place
    read = ledger.stock.GetReservation(get(new_id("reservation"))).place

    assert write.sequence > 0
    assert refusal.sequence == read.sequence == 0
    for place in (write, refusal, read):
        assert 0 < place.as_of_sequence <= place.durable_sequence
        assert place.epoch >= 1
        assert place.durability != 0
    assert write.op_number < refusal.op_number < read.op_number


def test_op_numbers_are_unique_under_concurrency(ledger: Ledger) -> None:
    """500 calls from 16 threads have 500 positions, and sequences follow them."""
    sale_id = ledger.put_sale(units=1000)

    with ThreadPoolExecutor(16) as threads:
        places = list(threads.map(lambda _: ledger.reserve(sale_id).place, range(500)))

    places.sort(key=lambda place: place.op_number)
    assert len({place.op_number for place in places}) == 500
    sequences = [place.sequence for place in places]
    assert sequences == sorted(set(sequences))


def test_a_caller_reads_its_own_writes(ledger: Ledger) -> None:
    """A read with the highest sequence seen shows at least that."""
    sale_id = ledger.put_sale(units=50)
    for _ in range(20):
        request = reserve_request(sale_id)
        seen = ledger.stock.Reserve(request).place.sequence
        reply = ledger.stock.GetReservation(
            get(request.reservation_id), metadata=(("lastunit-seen-sequence", str(seen)),)
        )
        assert reply.place.as_of_sequence >= seen
        assert reply.reservation.reservation_id == request.reservation_id


@pytest.mark.parametrize("listener", ["stock", "settling"])
def test_a_server_that_is_behind_refuses_instead_of_selling_again(
    ledger: Ledger, listener: str
) -> None:
    """A caller that has seen more than the journal holds gets JOURNAL_ROLLED_BACK."""
    seen = ledger.sequence() + 1_000_000
    stub = getattr(ledger, listener)
    epoch = ledger.stock.GetReservation(get("nobody")).place.epoch

    with pytest.raises(grpc.RpcError) as caught:
        stub.GetReservation(
            get("nobody"),
            metadata=(("lastunit-seen-sequence", str(seen)), ("lastunit-seen-epoch", str(epoch))),
            timeout=5,
        )

    told = refused(caught.value)
    assert told.code is grpc.StatusCode.FAILED_PRECONDITION
    assert told.reason == "JOURNAL_ROLLED_BACK"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lastunit-caller", "a" * 65),
        ("lastunit-caller", "with space"),
        ("lastunit-seen-sequence", "-1"),
        ("lastunit-seen-epoch", "first"),
    ],
)
@pytest.mark.parametrize("listener", ["stock", "settling"])
def test_malformed_metadata_is_named(ledger: Ledger, listener: str, key: str, value: str) -> None:
    """INVALID_ARGUMENT names the key, on both listeners."""
    with pytest.raises(grpc.RpcError) as caught:
        getattr(ledger, listener).GetReservation(get("nobody"), metadata=((key, value),))

    told = refused(caught.value)
    assert told.code is grpc.StatusCode.INVALID_ARGUMENT
    assert told.fields == (key,)


def reserve_in_a_nanosecond(address: str, request: stock.ReserveRequest) -> None:
    """Sends a Reserve with a deadline that no server can keep, and waits for the call's end.

    By hand: a client library ends such a call itself, and tells the server a whole millisecond.
    """
    host, _colon, port = address.rpartition(":")
    headers = frames.call_headers(
        "/lastunit.stock.v1.StockService/Reserve", (b"grpc-timeout", b"1n")
    )
    body = frames.message(request.SerializeToString())
    with socket.create_connection((host, int(port)), timeout=10) as opened:
        opened.sendall(
            frames.PREFACE
            + frames.settings()
            + frames.frame(frames.HEADERS, frames.END_HEADERS, 1, headers)
            + frames.frame(frames.DATA, frames.END_STREAM, 1, body)
        )
        stream = opened.makefile("rb")
        ended = False
        while not ended:
            length_high, length_low, kind, flags, number = struct.unpack(">BHBBL", stream.read(9))
            stream.read(length_high << 16 | length_low)
            is_last = kind == frames.HEADERS and bool(flags & frames.END_STREAM)
            ended = number == 1 and (is_last or kind == frames.RST_STREAM)


def test_a_passed_deadline_has_no_effect(ledger: Ledger) -> None:
    """A call whose time is up before it is decided takes no unit."""
    if ledger.access.authorities:
        pytest.skip("sends bytes by hand, which it does without encryption only")
    sale_id = ledger.put_sale(units=1)

    reserve_in_a_nanosecond(ledger.data_address, reserve_request(sale_id))

    assert ledger.counters(sale_id) == {"supplied": 1, "available": 1}
