"""Both fronts of one server refuse the same call with the same words and details."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from lastunit.admission.v1 import admission_service_pb2 as admission
from lastunit.admission.v1 import gate_pb2 as gate
from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import rehearsal_service_pb2 as rehearsal
from lastunit.stock.v1 import reservation_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock

from .kit import Server, reserve_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

STOCK = "/lastunit.stock.v1.StockService/"
ADMIN = "/lastunit.stock.v1.StockAdminService/"
EVENTS = "/lastunit.stock.v1.JournalService/ReadEvents"
ADMISSION = "/lastunit.admission.v1.AdmissionService/"
DETAILS_KEY = "grpc-status-details-bin"
FAR = 2**62


@dataclass(frozen=True)
class Call:
    """One call that must be refused; how many messages are sent, and what comes with them."""

    path: str
    message: Message | bytes = b""
    metadata: tuple[tuple[str, str], ...] = ()
    listener: str = "data"
    is_sent: bool = True


def lines(count: int) -> stock.ReserveRequest:
    """Builds a Reserve with so many lines."""
    request = reserve_request("sale")
    del request.lines[:]
    request.lines.extend(
        reservation_pb2.Line(sku=f"sku-{number}", units=1) for number in range(count)
    )
    return request


def changed(**fields: Any) -> stock.ReserveRequest:
    """Builds a Reserve with other fields."""
    request = reserve_request("sale")
    for name, value in fields.items():
        setattr(request, name, value)
    return request


RESERVE = STOCK + "Reserve"
CALLS = {
    "no message of the contract": Call(RESERVE, b"\xff" * 9),
    "an empty message": Call(RESERVE),
    "an id with a blank": Call(RESERVE, changed(reservation_id="two words")),
    "an id of 65 bytes": Call(RESERVE, changed(person_id="x" * 65)),
    "no lines": Call(RESERVE, lines(0)),
    "33 lines": Call(RESERVE, lines(33)),
    "a caller with a blank": Call(RESERVE, lines(1), (("lastunit-caller", "two words"),)),
    "a caller of 65 bytes": Call(RESERVE, lines(1), (("lastunit-caller", "x" * 65),)),
    "a sequence with a sign": Call(RESERVE, lines(1), (("lastunit-seen-sequence", "+1"),)),
    "a sequence past 64 bits": Call(RESERVE, lines(1), (("lastunit-seen-sequence", "9" * 19),)),
    "an epoch that is no number": Call(RESERVE, lines(1), (("lastunit-seen-epoch", "one"),)),
    "an epoch of the future": Call(RESERVE, lines(1), (("lastunit-seen-epoch", "999"),)),
    "no message at all": Call(RESERVE, is_sent=False),
    "a page of none": Call(STOCK + "ListReservations", stock.ListReservationsRequest()),
    "settlement of nothing": Call(STOCK + "SettlePayment", listener="settlement"),
    "an order of nobody": Call(ADMIN + "PutSale", admin.PutSaleRequest(), listener="settlement"),
    "a page of stats too large": Call(
        ADMISSION + "GetAdmissionStats",
        admission.GetAdmissionStatsRequest(page_size=1_000_000),
        listener="settlement",
    ),
    "no question about policy": Call(ADMISSION + "GetPolicy", b"\xff" * 9, listener="settlement"),
    "a policy that is none": Call(
        ADMISSION + "PutPolicy",
        admission.PutPolicyRequest(document="version = 0", actor="sre", reason="a test"),
        listener="settlement",
    ),
    "an older policy that never was": Call(
        ADMISSION + "RollBack",
        admission.RollBackRequest(revision=999, actor="sre", reason="a test"),
        listener="settlement",
    ),
    "a trial without a reason": Call(
        ADMISSION + "SetShadowPolicy",
        admission.SetShadowPolicyRequest(document="version = 1", actor="sre"),
        listener="settlement",
    ),
    "a negative count": Call(
        ADMISSION + "ReportPressure",
        admission.ReportPressureRequest(persisted_count=-1),
        listener="settlement",
    ),
    "no message to put": Call(ADMISSION + "PutPolicy", listener="settlement", is_sent=False),
    "the gate of nobody's sale": Call(
        ADMISSION + "GetGate", gate.GetGateRequest(sale_id="nobodys"), listener="settlement"
    ),
    "an order without a reason": Call(
        ADMISSION + "SetGate",
        gate.SetGateRequest(sale_id="nobodys", hand=gate.GATE_HAND_OPEN, actor="sre"),
        listener="settlement",
    ),
    "a watch of nobody's gate": Call(
        ADMISSION + "WatchGate", gate.WatchGateRequest(sale_id="nobodys")
    ),
    "a watch of a gate without a name": Call(ADMISSION + "WatchGate", gate.WatchGateRequest()),
    "a gate at the wrong door": Call(ADMISSION + "GetGate", gate.GetGateRequest(sale_id="sale")),
    "a watch of a gate at the wrong door": Call(
        ADMISSION + "WatchGate", gate.WatchGateRequest(sale_id="sale"), listener="settlement"
    ),
    "a watch of no sale": Call(STOCK + "WatchAvailability"),
    "a watch that is no message": Call(STOCK + "WatchAvailability", b"\xff"),
    "events after the end": Call(
        EVENTS, journal.ReadEventsRequest(after_sequence=FAR, page_size=1)
    ),
    "an Exchange of nothing": Call(STOCK + "Exchange"),
    "an Exchange that is no message": Call(STOCK + "Exchange", b"\xff" * 9),
    "an Exchange on settlement": Call(STOCK + "Exchange", b"\xff" * 9, listener="settlement"),
    "a nameless Exchange": Call(
        STOCK + "Exchange",
        metadata=(("lastunit-caller", "two words"),),
        listener="settlement",
    ),
    "a reservation at the wrong door": Call(RESERVE, lines(1), listener="settlement"),
    "control at the wrong door": Call(ADMIN + "Audit", admin.AuditRequest()),
    "policy at the wrong door": Call(ADMISSION + "GetPolicy", admission.GetPolicyRequest()),
    "events at the wrong door": Call(
        EVENTS,
        journal.ReadEventsRequest(page_size=1),
        listener="settlement",
    ),
}


@pytest.fixture(scope="module")
def channels(server: Server) -> Iterator[dict[str, grpc.Channel]]:
    """One channel to each of the four listeners."""
    names = ("data", "settlement", "native_data", "native_settlement")
    opened = {name: grpc.insecure_channel(server.ready[name]) for name in names}
    yield opened
    for channel in opened.values():
        channel.close()


def refusal(channel: grpc.Channel, call: Call) -> tuple[grpc.StatusCode, str, bytes]:
    """Makes a call; returns code, text and details of its refusal."""
    message = call.message if isinstance(call.message, bytes) else call.message.SerializeToString()
    sent = iter([message] if call.is_sent else [])
    made: Any = channel
    # Read as a stream whatever it is: a refusal is its end.
    replies = made.stream_stream(call.path)(sent, metadata=call.metadata, timeout=20)
    with pytest.raises(grpc.RpcError) as caught:
        list(replies)
    error: Any = caught.value
    trailers = dict(error.trailing_metadata() or ())
    return error.code(), error.details(), trailers.get(DETAILS_KEY, b"")


def unpacked(details: bytes) -> tuple[int, str, list[Message]]:
    """Reads a status with what is packed in it: maps have no order in bytes."""
    status = status_pb2.Status.FromString(details)
    found: list[Message] = []
    for packed in status.details:
        kind = getattr(error_details_pb2, packed.TypeName().rpartition(".")[2])
        found.append(kind.FromString(packed.value))
    return status.code, status.message, found


@pytest.mark.parametrize("name", CALLS)
def test_both_fronts_refuse_with_the_same_details(
    server: Server, channels: dict[str, grpc.Channel], name: str
) -> None:
    """Code, text and details are equal, but for the address that each names of its own."""
    call = CALLS[name]
    code, text, details = refusal(channels[call.listener], call)
    native_code, native_text, native_details = refusal(channels[f"native_{call.listener}"], call)

    assert details, text
    other = "settlement" if call.listener == "data" else "data"
    ours, native = server.ready[other], server.ready[f"native_{other}"]
    assert (code, text) == (native_code, native_text.replace(native, ours))
    # Ports of the kernel's choice have five digits, so that lengths inside stay the same.
    native_details = native_details.replace(native.encode(), ours.encode())
    assert unpacked(details) == unpacked(native_details)
    if len(unpacked(details)[2][0].metadata) < 2:  # type: ignore[attr-defined]
        assert details == native_details


@pytest.mark.parametrize("fields", [{"page_size": 0}, {"page_size": 1, "reader_id": "two words"}])
def test_both_fronts_name_the_same_field_of_a_reader(
    channels: dict[str, grpc.Channel], fields: dict[str, Any]
) -> None:
    """Who checks what a reader asks for words its rules in another way, not the reason."""
    call = Call(EVENTS, journal.ReadEventsRequest(**fields))
    told = [unpacked(refusal(channels[name], call)[2]) for name in ("data", "native_data")]

    for code, _message, (info, violations) in told:
        shown: Any = (info, violations)
        assert code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert shown[0].reason == "INVALID_FIELD"
        assert {found.field for found in shown[1].field_violations} == {max(fields)}


def test_the_clock_at_the_wrong_time_is_unknown_to_both(
    channels: dict[str, grpc.Channel],
) -> None:
    """Outside rehearsals neither front knows SetClock."""
    path = "/lastunit.stock.v1.RehearsalService/SetClock"
    request = rehearsal.SetClockRequest().SerializeToString()
    for channel in channels.values():
        made: Any = channel
        with pytest.raises(grpc.RpcError) as caught:
            made.unary_unary(path)(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
