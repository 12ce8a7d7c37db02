"""A ledger as a test sees it: addresses, stubs, and the few moves that most tests begin with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from lastunit.admission.v1.admission_service_pb2_grpc import AdmissionServiceStub
from lastunit.stock.v1 import journal_service_pb2 as journal
from lastunit.stock.v1 import reservation_pb2, sale_pb2
from lastunit.stock.v1 import stock_admin_service_pb2 as admin
from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit.stock.v1.journal_service_pb2_grpc import JournalServiceStub
from lastunit.stock.v1.rehearsal_service_pb2_grpc import RehearsalServiceStub
from lastunit.stock.v1.stock_admin_service_pb2_grpc import StockAdminServiceStub
from lastunit.stock.v1.stock_service_pb2_grpc import StockServiceStub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf import any_pb2
    from google.protobuf.message import Message

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 10.0
Answer = TypeVar("Answer")
SKU = "unit"
POOL = "main"
# The free port, a directory that is given back, and no rate: what tests measure is not admission.
FREE_ADDRESS = "127.0.0.1:0"
# How long a caller comes back to a full lane before it calls that a failure.
PATIENCE_SECONDS = 30.0


def new_id(kind: str) -> str:
    """Returns an id that no other test or run uses."""
    return f"{kind}-{uuid.uuid4().hex[:16]}"


@dataclass
class Server:
    """A ledger server of our own, as a process."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]
    log: Path

    def kill(self) -> None:
        """Ends it at once, as a power cut would for the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(SECONDS_MAX)

    def stop(self, seconds: float = 30) -> int:
        """Ends it cleanly; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


# Every server that a test started: one that fails leaves none behind (tests/conftest.py).
STARTED: list[Server] = []


def serve_command(directory: Path, *flags: str) -> list[str]:
    """Returns the command line of a server on free ports."""
    return [
        sys.executable,
        "-m",
        "lastunit_server",
        "serve",
        "--data-directory",
        str(directory / "data"),
        "--data-address",
        FREE_ADDRESS,
        "--settlement-address",
        FREE_ADDRESS,
        *flags,
    ]


def start_server(directory: Path, *flags: str, environment: dict[str, str] | None = None) -> Server:
    """Starts a server and waits until it is ready."""
    outer = {key: value for key, value in os.environ.items() if "LASTUNIT_" not in key}
    log = directory / f"server-{uuid.uuid4().hex[:8]}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            serve_command(directory, *flags),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=outer | (environment or {}),
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    if not line:
        process.wait(SECONDS_MAX)
        raise AssertionError(f"the server did not start: {log.read_text()}")
    STARTED.append(Server(process, json.loads(line), log))
    return STARTED[-1]


def patiently(call: Callable[[], Answer], seconds: float = PATIENCE_SECONDS) -> Answer:
    """Calls again, as a good client does, as long as a full lane says "not now"."""
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            is_refused = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            if not is_refused or "LANE_FULL" not in str(error.details()) or time.monotonic() > end:
                raise
            time.sleep(0.02)


@dataclass(frozen=True)
class Access:
    """What it takes to be let in by a ledger that is not ours.

    Attributes:
        authorities: PEM of whom to trust; None speaks plain text.
        certificate: PEM of our own certificate, for mutual TLS.
        private_key: PEM of its key.
        token: A bearer token; empty for none.
        server_name: What the server's certificate is made out to, if not to the address's host.
    """

    authorities: bytes | None = None
    certificate: bytes | None = None
    private_key: bytes | None = None
    token: str = ""
    server_name: str = ""

    def channel(self, address: str) -> grpc.Channel:
        """Opens a channel with a connection of its own."""
        own: list[tuple[str, int | str]] = [("grpc.use_local_subchannel_pool", 1)]
        if self.authorities is None:
            opened = grpc.insecure_channel(address, options=own)
        else:
            credentials = grpc.ssl_channel_credentials(
                self.authorities, self.private_key, self.certificate
            )
            if self.server_name:
                own.append(("grpc.ssl_target_name_override", self.server_name))
            opened = grpc.secure_channel(address, credentials, options=own)
        return grpc.intercept_channel(opened, Bearer(self.token)) if self.token else opened


class Bearer(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds a token, and whatever else a test wants to say, to each call."""

    def __init__(self, token: str, *more: tuple[str, str]) -> None:
        self._pairs = [("authorization", f"Bearer {token}"), *more] if token else list(more)

    def _with(self, details: Any) -> Any:
        return details._replace(metadata=[*(details.metadata or ()), *self._pairs])

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Adds to a unary call."""
        return continuation(self._with(details), request)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Adds to a stream of replies."""
        return continuation(self._with(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        """Adds to a stream both ways."""
        return continuation(self._with(details), requests)


@dataclass
class Ledger:
    """One ledger under test, reached over gRPC only."""

    data_address: str
    settlement_address: str
    access: Access = Access()
    channels: list[grpc.Channel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = self._channel(self.data_address)
        self.settlement = self._channel(self.settlement_address)
        self.stock = StockServiceStub(self.data)
        self.settling = StockServiceStub(self.settlement)
        self.admin = StockAdminServiceStub(self.settlement)
        self.journal = JournalServiceStub(self.data)
        self.rehearsal = RehearsalServiceStub(self.settlement)
        self.admission = AdmissionServiceStub(self.settlement)

    def _channel(self, address: str) -> grpc.Channel:
        channel = self.access.channel(address)
        self.channels.append(channel)
        return channel

    def close(self) -> None:
        """Closes the channels."""
        for channel in self.channels:
            channel.close()

    def call(self, path: str, request: bytes, *, is_stream: bool = False) -> Any:
        """Sends raw bytes to a method on the listener that serves it; returns the (first) reply."""
        is_control = "StockAdmin" in path or "Rehearsal" in path or "Admission" in path
        # The one method of AdmissionService that front ends keep open, so it is served on data.
        is_control = is_control and not path.endswith("/WatchGate")
        channel: Any = self.settlement if is_control else self.data
        if is_stream:
            return next(channel.unary_stream(path)(request, timeout=SECONDS_MAX))
        return channel.unary_unary(path)(request, timeout=SECONDS_MAX)

    def sequence(self) -> int:
        """Returns the last event whose effect is visible now."""
        request = stock.GetReservationRequest(reservation_id="nobody-has-this-id")
        return int(self.stock.GetReservation(request).place.as_of_sequence)

    def caused_since(self, sequence: int) -> list[Any]:
        """Returns the events after a position that some caller caused.

        What the ledger's own timers do is left out: a ledger that has been used before still has
        reservations that lapse.
        """
        request = journal.ReadEventsRequest(after_sequence=sequence, page_size=1000)
        pages = self.journal.ReadEvents(request, timeout=SECONDS_MAX)
        return [event for page in pages for event in page.events if event.caller]

    def put_sale(self, *, units: int = 0, pools: Sequence[str] = (POOL,), **policy: Any) -> str:
        """Makes an open sale of one sku; the units go to the first pool. Returns its id."""
        sale_id = new_id("sale")
        self.must(
            self.admin.PutSale(
                admin.PutSaleRequest(
                    **self.by(), sale_id=sale_id, policy=sale_pb2.SalePolicy(**policy)
                )
            )
        )
        for position, pool in enumerate(pools):
            self.must(
                self.admin.PutPool(
                    admin.PutPoolRequest(
                        **self.by(),
                        sale_id=sale_id,
                        sku=SKU,
                        pool=pool,
                        position=position,
                        is_offered=True,
                    )
                )
            )
        if units:
            self.supply(sale_id, units, pool=pools[0])
        return sale_id

    def supply(
        self, sale_id: str, units: int, *, pool: str = POOL, is_buffer: bool = False
    ) -> None:
        """Adds units to a pool."""
        request = admin.SupplyStockRequest(
            **self.by(), sale_id=sale_id, sku=SKU, pool=pool, units=units, is_buffer=is_buffer
        )
        self.must(self.admin.SupplyStock(request))

    @staticmethod
    def by() -> dict[str, Any]:
        """Returns what every admin request carries."""
        return {"request_id": new_id("request"), "actor": "conformance", "reason": "test"}

    @staticmethod
    def must(response: Any) -> Any:
        """Passes an OK reply on and fails on any other."""
        assert response.result.outcome == 1, response
        return response

    def reserve(self, sale_id: str, units: int = 1, **fields: Any) -> Any:
        """Reserves units for a new person; the reply, whatever it is."""
        return self.stock.Reserve(reserve_request(sale_id, units, **fields), timeout=SECONDS_MAX)

    def held(self, sale_id: str, units: int = 1, **fields: Any) -> str:
        """Reserves units that must be there; returns the reservation's id."""
        reservation_id = fields.setdefault("reservation_id", new_id("reservation"))
        self.must(self.reserve(sale_id, units, **fields))
        return str(reservation_id)

    def paying(self, sale_id: str, units: int = 1) -> tuple[str, str]:
        """Reserves and opens an attempt; returns both ids."""
        reservation_id = self.held(sale_id, units)
        attempt_id = new_id("attempt")
        self.must(self.begin(reservation_id, attempt_id))
        return reservation_id, attempt_id

    def begin(self, reservation_id: str, attempt_id: str) -> Any:
        """Opens an attempt on the settlement listener."""
        request = stock.BeginPaymentRequest(reservation_id=reservation_id, attempt_id=attempt_id)
        return self.settling.BeginPayment(request, timeout=SECONDS_MAX)

    def settle(self, reservation_id: str, attempt_id: str, result: Any, **fields: Any) -> Any:
        """Reports what the provider said."""
        fields.setdefault("request_id", new_id("request"))
        request = stock.SettlePaymentRequest(
            reservation_id=reservation_id,
            attempt_id=attempt_id,
            payment_result=result,
            **fields,
        )
        return self.settling.SettlePayment(request, timeout=SECONDS_MAX)

    def sold(self, sale_id: str, units: int = 1) -> str:
        """Reserves and confirms; returns the reservation's id."""
        reservation_id = self.held(sale_id, units)
        request = stock.ConfirmRequest(request_id=new_id("request"), reservation_id=reservation_id)
        self.must(self.settling.Confirm(request))
        return reservation_id

    def state(self, reservation_id: str) -> int:
        """Returns the state of a reservation."""
        request = stock.GetReservationRequest(reservation_id=reservation_id)
        return int(self.must(self.stock.GetReservation(request)).reservation.state)

    def wait_for_state(self, reservation_id: str, state: int) -> None:
        """Waits until a timer has moved a reservation; fails after a while."""
        end = time.monotonic() + SECONDS_MAX
        while self.state(reservation_id) != state:
            assert time.monotonic() < end, self.state(reservation_id)
            time.sleep(0.01)

    def counters(self, sale_id: str) -> dict[str, int]:
        """Returns the counters of the sale's sku that are not zero."""
        request = stock.GetAvailabilityRequest(sale_id=sale_id, skus=[SKU])
        [shown] = self.must(self.stock.GetAvailability(request)).availabilities
        return {field.name: value for field, value in shown.counters.ListFields()}


def reserve_request(sale_id: str, units: int = 1, **fields: Any) -> stock.ReserveRequest:
    """Builds a Reserve of one line for a new person under a new id."""
    pool = fields.pop("pool", "")
    fields.setdefault("reservation_id", new_id("reservation"))
    fields.setdefault("person_id", new_id("person"))
    fields.setdefault("lines", [reservation_pb2.Line(sku=SKU, pool=pool, units=units)])
    return stock.ReserveRequest(sale_id=sale_id, **fields)


@dataclass(frozen=True)
class Refused:
    """What a refused call said."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    fields: tuple[str, ...]


def refused(error: Any) -> Refused:
    """Unpacks the status of a failed call."""
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = _detail(status.details, error_details_pb2.ErrorInfo())
    bad = _detail(status.details, error_details_pb2.BadRequest())
    assert status.code == error.code().value[0]
    assert info.domain == "lastunit"
    return Refused(
        error.code(),
        error.details(),
        info.reason,
        dict(info.metadata),
        tuple(found.field for found in bad.field_violations),
    )


def _detail(details: Sequence[any_pb2.Any], kind: Any) -> Any:
    for packed in details:
        if packed.Unpack(kind):
            return kind
    return kind


def without_place(response: Message) -> Message:
    """Returns a reply without what differs between two equal answers: place and `replayed`."""
    copy: Any = type(response)()
    copy.CopyFrom(response)
    copy.ClearField("place")
    copy.result.replayed = False
    return copy  # type: ignore[no-any-return]
