"""A ledger that does as it is told: it keeps ids, and fails, stalls or breaks by script.

Owns: a real gRPC server in this process. It knows no stock, only which ids it has seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import grpc

from lastunit.service.faults import FaultError
from lastunit.stock.v1 import (
    event_pb2,
    fault_pb2,
    journal_service_pb2,
    journal_service_pb2_grpc,
    outcome_pb2,
    stock_admin_service_pb2,
    stock_admin_service_pb2_grpc,
    stock_service_pb2,
    stock_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# The generated bases are abstract to a type checker and answer UNIMPLEMENTED when they run, which
# is what a fake that serves a part of the contract wants.
_Stock: Any = stock_service_pb2_grpc.StockServiceServicer
_Admin: Any = stock_admin_service_pb2_grpc.StockAdminServiceServicer
_Journal: Any = journal_service_pb2_grpc.JournalServiceServicer

OK = outcome_pb2.OUTCOME_OK
UNKNOWN_SALE = outcome_pb2.OUTCOME_UNKNOWN_SALE


def unavailable(*, pushback_seconds: float | None = None) -> FaultError:
    """Returns the fault of a ledger that is down."""
    return FaultError(
        grpc.StatusCode.UNAVAILABLE,
        "the journal cannot be written, wait for a restart",
        reason="JOURNAL_FAILED",
        retry_after_seconds=pushback_seconds,
    )


class FakeLedger(_Stock, _Admin, _Journal):  # type: ignore[misc]  # see above
    """Serves what the tests need of the contract on a free loopback port."""

    def __init__(self) -> None:
        self.port = 0
        self.sequence = 0
        self.first_sequences: dict[str, int] = {}
        self.received: list[str] = []
        self.message_sizes: list[int] = []
        self.metadata: list[dict[str, Any]] = []
        self.stream_count = 0
        # One entry for each message to come: None answers, else the stream breaks that way.
        self.message_script: deque[FaultError | str | None] = deque()
        # One entry for each unary call to come.
        self.call_script: deque[FaultError | None] = deque()
        self.faults: dict[str, deque[fault_pb2.Fault]] = {}
        self.answers = asyncio.Event()
        self.answers.set()
        self.events: list[event_pb2.Event] = []
        self.event_script: deque[int] = deque()
        self._server: Any = None

    async def start(self) -> str:
        """Serves; after a stop again on the same port."""
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        stock_service_pb2_grpc.add_StockServiceServicer_to_server(self, server)
        stock_admin_service_pb2_grpc.add_StockAdminServiceServicer_to_server(self, server)
        journal_service_pb2_grpc.add_JournalServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server
        return self.address

    @property
    def address(self) -> str:
        """Where it serves."""
        return f"127.0.0.1:{self.port}"

    async def stop(self) -> None:
        """Cuts everything off."""
        await self._server.stop(0)

    @property
    def effects(self) -> Counter[str]:
        """How often each id had an effect."""
        return Counter(list(self.first_sequences))

    # --- StockService ---

    async def Reserve(  # noqa: N802 - named by the contract
        self, request: stock_service_pb2.ReserveRequest, context: Any
    ) -> stock_service_pb2.ReserveResponse:
        """Remembers the id."""
        await self._unary(context)
        return self._reserve(request)

    async def GetAvailability(  # noqa: N802 - named by the contract
        self, request: stock_service_pb2.GetAvailabilityRequest, context: Any
    ) -> stock_service_pb2.GetAvailabilityResponse:
        """Shows nothing, at the present sequence."""
        await self._unary(context)
        response = stock_service_pb2.GetAvailabilityResponse()
        response.place.as_of_sequence = self.sequence
        response.result.outcome = OK
        return response

    async def Audit(  # noqa: N802 - named by the contract
        self, request: stock_admin_service_pb2.AuditRequest, context: Any
    ) -> stock_admin_service_pb2.AuditResponse:
        """Finds that all holds."""
        await self._unary(context)
        return stock_admin_service_pb2.AuditResponse(holds=True)

    async def Exchange(  # noqa: N802 - named by the contract
        self, request_iterator: AsyncIterator[stock_service_pb2.ExchangeRequest], context: Any
    ) -> AsyncIterator[stock_service_pb2.ExchangeResponse]:
        """Answers messages in their order, as the script says."""
        self.stream_count += 1
        self.metadata.append(dict(context.invocation_metadata()))
        async for message in request_iterator:
            self.message_sizes.append(len(message.operations))
            step = self.message_script.popleft() if self.message_script else None
            if isinstance(step, FaultError):
                await context.abort(step.code, step.message, step.trailers())
            response = self._message(message)
            await self.answers.wait()
            if step == "lose":
                fault = unavailable()
                await context.abort(fault.code, fault.message)
            if step == "end":
                return
            if step == "short":
                del response.replies[-1]
            if step == "other":
                response.exchange_id += 1_000
            yield response

    async def WatchAvailability(  # noqa: N802 - named by the contract
        self, request: stock_service_pb2.WatchAvailabilityRequest, context: Any
    ) -> AsyncIterator[stock_service_pb2.WatchAvailabilityResponse]:
        """Tells the present sequence, then breaks."""
        self.received.append(f"watch after {request.after_sequence}")
        self.sequence += 1
        response = stock_service_pb2.WatchAvailabilityResponse()
        response.place.as_of_sequence = self.sequence
        response.result.outcome = OK if request.sale_id == "flash" else UNKNOWN_SALE
        yield response
        if request.sale_id == "flash":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    # --- JournalService ---

    async def ReadEvents(  # noqa: N802 - named by the contract
        self, request: journal_service_pb2.ReadEventsRequest, context: Any
    ) -> AsyncIterator[journal_service_pb2.ReadEventsResponse]:
        """Streams the events, and breaks after as many as the script says."""
        self.stream_count += 1
        if request.after_sequence > len(self.events):
            fault = FaultError(
                grpc.StatusCode.OUT_OF_RANGE,
                f"the journal ends at {len(self.events)}",
                reason="SEQUENCE_NOT_REACHED",
            )
            await context.abort(fault.code, fault.message, fault.trailers())
        remaining = self.event_script.popleft() if self.event_script else None
        cursor = request.after_sequence
        while cursor < len(self.events) or request.follow:
            page = self.events[cursor : cursor + request.page_size]
            cursor += len(page)
            yield journal_service_pb2.ReadEventsResponse(
                events=page, durable_sequence=len(self.events), epoch=1
            )
            if remaining is not None:
                remaining -= 1
                if remaining <= 0:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
            if not page:
                await asyncio.sleep(0.01)

    def write_events(self, count: int) -> None:
        """Adds events that follow the last one."""
        start = len(self.events) + 1
        self.events += [event_pb2.Event(sequence=start + index) for index in range(count)]

    # --- what all share ---

    async def _unary(self, context: Any) -> None:
        self.metadata.append(dict(context.invocation_metadata()))
        step = self.call_script.popleft() if self.call_script else None
        if step is not None:
            await context.abort(step.code, step.message, step.trailers())
        await self.answers.wait()

    def _message(
        self, message: stock_service_pb2.ExchangeRequest
    ) -> stock_service_pb2.ExchangeResponse:
        response = stock_service_pb2.ExchangeResponse(exchange_id=message.exchange_id)
        for operation in message.operations:
            response.replies.append(self._reply(operation))
        return response

    def _reply(self, operation: stock_service_pb2.Operation) -> stock_service_pb2.Reply:
        kind = operation.WhichOneof("request") or ""
        request = getattr(operation, kind)
        key = {"reserve": "reservation_id", "begin_payment": "attempt_id"}.get(kind, "request_id")
        identifier = getattr(request, key)
        faults = self.faults.get(identifier)
        if faults:
            self.received.append(f"{identifier} refused")
            return stock_service_pb2.Reply(fault=faults.popleft())
        reply = stock_service_pb2.Reply()
        self._decide(identifier, getattr(reply, kind))
        return reply

    def _reserve(
        self, request: stock_service_pb2.ReserveRequest
    ) -> stock_service_pb2.ReserveResponse:
        response = stock_service_pb2.ReserveResponse()
        self._decide(request.reservation_id, response)
        return response

    def _decide(self, identifier: str, response: Any) -> None:
        self.received.append(identifier)
        response.result.outcome = OK
        response.result.replayed = identifier in self.first_sequences
        if not response.result.replayed:
            self.sequence += 1
            self.first_sequences[identifier] = self.sequence
        response.place.sequence = self.first_sequences[identifier]
        response.place.as_of_sequence = self.sequence
        response.place.epoch = 1
