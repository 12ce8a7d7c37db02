"""The data listener: reservations and reads over grpc.aio, bytes in and bytes out.

Owns the handlers of StockService and JournalService on this listener; must not build or parse a
message on the hot path, nor hold a stock rule. Streams live in `streams`.
"""

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio

from lastunit import tracing
from lastunit_server import faults
from lastunit_server.call_context import milliseconds_left
from lastunit_server.completions import Completions
from lastunit_server.counts import CallCounts
from lastunit_server.doorkeeper import Credentials, Doorkeeper
from lastunit_server.errors import StartError
from lastunit_server.faults import Refusal
from lastunit_server.half_open import Anteroom
from lastunit_server.methods import ADMISSION, JOURNAL, STOCK, Listener, path, unary_methods
from lastunit_server.options import DATA_CALLS_IN_FLIGHT_MAX, listener_options
from lastunit_server.paced import Stream, paced
from lastunit_server.streams import Streams

if TYPE_CHECKING:
    from lastunit.tls import Rotation
    from lastunit_server._native import Node
    from lastunit_server.gates import Gates
    from lastunit_server.settings import Settings

__all__ = [
    "LINGER_SECONDS",
    "STOP_POLL_SECONDS",
    "DataFront",
    "Handlers",
    "add_port",
    "refuse",
]

# How often a stop looks whether the last call has ended.
STOP_POLL_SECONDS = 0.01
# What the transport gets to send the last replies before connections are cut.
LINGER_SECONDS = 0.1
# How often calls whose message is late are looked for.
_SWEEP_SECONDS = 1.0

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Handlers(grpc.GenericRpcHandler):
    """Finds a handler by gRPC path; a plain look-up, because it runs once a call."""

    def __init__(self, handlers: dict[str, Handler]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "Handler | None":
        """Returns the handler of a call, or None so that grpc answers UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)


def refuse(context: Context, refusal: Refusal) -> bytes:
    """Sets a refusal as the call's status.

    Without raising: an abort costs an exception on the path that an overload takes most often.

    Returns:
        No bytes; grpc sends no message beside a status that is not OK.
    """
    context.set_code(refusal.code)
    context.set_details(refusal.message)
    context.set_trailing_metadata(refusal.trailers)
    return b""


def add_port(server: Any, address: str, rotation: "Rotation | None") -> int:
    """Takes a listener's port, encrypted if there are certificates.

    Raises:
        RuntimeError: The port is taken or the address is not ours.
    """
    if rotation is None:
        return int(server.add_insecure_port(address))
    return int(server.add_secure_port(address, rotation.credentials()))


class DataFront:
    """The data listener.

    Args:
        node: The open node.
        settings: Checked settings.
        loop: The running loop; every handler runs on it.
        doorkeeper: Who calls; by default callers name themselves.
        rotation: Certificates; None speaks plain text.
        gates: What front ends are told; None leaves WatchGate out.
    """

    def __init__(
        self,
        node: "Node",
        settings: "Settings",
        loop: asyncio.AbstractEventLoop,
        *,
        doorkeeper: Doorkeeper | None = None,
        rotation: "Rotation | None" = None,
        gates: "Gates | None" = None,
    ) -> None:
        self._doorkeeper = doorkeeper or Doorkeeper(node, Credentials())
        self._rotation = rotation
        self.counts = CallCounts()
        self.address = ""
        self.completions = Completions(node, loop)
        self._anteroom = Anteroom(self.counts, wait_seconds=settings.limits.message_seconds)
        self._sweeping: asyncio.Task[None] | None = None
        self.streams = Streams(
            node,
            self.completions,
            self.counts,
            self._doorkeeper,
            streams_max=settings.data.streams_max,
            gates=gates,
        )
        self._settings = settings
        self.settlement_address = settings.settlement.address
        self.server = grpc.aio.server(
            options=listener_options(settings.data.max_concurrent_streams, settings.limits),
            maximum_concurrent_rpcs=DATA_CALLS_IN_FLIGHT_MAX,
        )
        self.server.add_generic_rpc_handlers((Handlers(self._handlers()),))

    def _handlers(self) -> dict[str, Handler]:
        is_rehearsal = self._settings.clock == "manual"
        served, elsewhere = unary_methods(Listener.DATA, is_rehearsal=is_rehearsal)
        handlers: dict[str, Handler] = {
            # Served as a stream of requests, so that waiting for the one message is ours to end.
            method: grpc.stream_unary_rpc_method_handler(
                tracing.traced_async(method, self._unary(method), lastunit_listener="data")
            )
            for method in served
        }
        for method in elsewhere:
            handlers[method] = grpc.stream_unary_rpc_method_handler(self._elsewhere(method))
        streams, to_many = self.streams, grpc.unary_stream_rpc_method_handler
        handlers[path(STOCK, "Exchange")] = grpc.stream_stream_rpc_method_handler(
            self._paced(streams.exchange)
        )
        handlers[path(STOCK, "WatchAvailability")] = to_many(
            self._paced(streams.watch_availability)
        )
        handlers[path(JOURNAL, "ReadEvents")] = to_many(self._paced(streams.read_events))
        if streams.gates is not None:
            handlers[path(ADMISSION, "WatchGate")] = to_many(self._paced(streams.watch_gate))
        return handlers

    def _paced(self, stream: Stream) -> Any:
        return paced(stream, self.counts, self._settings.limits.reader_seconds)

    def _unary(self, method: str) -> Any:
        submit = self.completions.submit
        count, begin, end = self.counts.add, self.counts.begin, self.counts.end
        listener = Listener.DATA.value
        caller_of = self._doorkeeper.caller
        message_of = self._anteroom.message

        async def handle(_requests: Any, context: Context) -> bytes:
            begun = begin()
            try:
                caller = caller_of(context)
                if isinstance(caller, Refusal):
                    count(method, caller.code.value[0], begun)
                    return refuse(context, caller)
                request = await message_of(context)
                if isinstance(request, Refusal):
                    count(method, request.code.value[0], begun)
                    return refuse(context, request)
                answer = submit(
                    method,
                    request,
                    caller=caller.name,
                    deadline_ms=milliseconds_left(context.time_remaining()),
                    seen_sequence=caller.seen_sequence,
                    seen_epoch=caller.seen_epoch,
                    listener=listener,
                )
                code, body = answer if isinstance(answer, tuple) else await answer
                count(method, code, begun)
                return body if code == 0 else refuse(context, faults.refusal_from(code, body))
            except Exception:  # noqa: BLE001 - the outer guard: no text of ours reaches a caller
                refusal = faults.bug(method)
                count(method, refusal.code.value[0], begun)
                return refuse(context, refusal)
            finally:
                end()

        return handle

    def _elsewhere(self, method: str) -> Any:
        async def handle(_requests: Any, context: Context) -> bytes:
            refusal = faults.wrong_listener(
                method, here="data", there="settlement", address=self.settlement_address
            )
            self.counts.add(method, refusal.code.value[0])
            return refuse(context, refusal)

        return handle

    def bind(self) -> str:
        """Takes the port, if there is one.

        Returns:
            The `host:port` that is served, with the real port if 0 was asked for; empty for off.

        Raises:
            StartError: The port is taken or the address is not ours.
        """
        address = self._settings.data.address
        if not address:
            return ""
        try:
            port = add_port(self.server, address, self._rotation)
        except RuntimeError as error:
            raise StartError(
                f"data.address = {address!r} can't be bound: it is taken or not an address of this"
                " machine; stop what listens there or set another data.address"
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{port}"
        return self.address

    async def start(self) -> None:
        """Begins to serve; does nothing without a port."""
        if not self.address:
            return
        await self.server.start()
        self._sweeping = asyncio.create_task(self._sweep())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self._anteroom.sweep()

    async def stop(self, grace_seconds: float) -> None:
        """Stops accepting, ends the streams, and lets calls in flight finish.

        Args:
            grace_seconds: After this, what is left is cut off.
        """
        self.streams.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        stopping = asyncio.ensure_future(self.server.stop(grace_seconds))
        while self.counts.open_count and not stopping.done():  # noqa: ASYNC110 - counted by threads
            await asyncio.sleep(STOP_POLL_SECONDS)
        # Nothing of ours is open. A watcher of health has been told and would stay for ever.
        await asyncio.wait((stopping,), timeout=LINGER_SECONDS)
        await self.server.stop(None)
        await stopping
        self.completions.close()
