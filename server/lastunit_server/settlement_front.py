"""The settlement listener: payment facts, operators and control on threads of their own.

Owns the handlers of this listener. It is a sync server on purpose: grpc.aio gives every server of a
process one completion queue and one loop, where a flood of reservations would stand before a
settlement; this one has a queue and threads of its own, and waits for the disk without the GIL.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from lastunit import tracing
from lastunit_server import faults
from lastunit_server.call_context import milliseconds_left
from lastunit_server.counts import CallCounts
from lastunit_server.data_front import LINGER_SECONDS, STOP_POLL_SECONDS, Handlers, add_port
from lastunit_server.doorkeeper import Credentials, Doorkeeper
from lastunit_server.errors import StartError
from lastunit_server.faults import Refusal
from lastunit_server.gate_service import GateService
from lastunit_server.half_open import MessageFirstPool
from lastunit_server.methods import ADMISSION, JOURNAL, STOCK, Listener, path, unary_methods
from lastunit_server.options import CALLS_IN_FLIGHT_MAX, listener_options
from lastunit_server.settlement_exchange import SettlementExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.tls import Rotation
    from lastunit_server._native import Node
    from lastunit_server.admission_service import AdmissionService, Answer
    from lastunit_server.call_context import Caller
    from lastunit_server.gates import Gates
    from lastunit_server.settings import Settings

__all__ = ["CONCURRENT_STREAMS_MAX", "SettlementFront"]

Context = grpc.ServicerContext
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# Our services send batches; a client that opens more calls than this at once waits its turn.
CONCURRENT_STREAMS_MAX = 256


class SettlementFront:
    """The settlement listener.

    Args:
        node: The open node.
        settings: Checked settings.
        doorkeeper: Who calls; by default callers name themselves.
        rotation: Certificates; None speaks plain text.
        gates: What front ends are told; None leaves their methods out.
        admission: Shows and changes how work is let in; None leaves its methods out.
    """

    def __init__(
        self,
        node: "Node",
        settings: "Settings",
        *,
        doorkeeper: Doorkeeper | None = None,
        rotation: "Rotation | None" = None,
        gates: "Gates | None" = None,
        admission: "AdmissionService | None" = None,
    ) -> None:
        self._doorkeeper = doorkeeper or Doorkeeper(node, Credentials())
        self._rotation = rotation
        self.counts = CallCounts()
        self.address = ""
        self._node = node
        self._settings = settings
        # Told to callers that knock here instead; nobody knows it before all listeners are bound.
        self.data_address = ""
        self._admission = admission.methods() if admission else {}
        self._gates = GateService(gates, self._doorkeeper).methods() if gates else {}
        self.exchange = SettlementExchange(node, self.counts, self._doorkeeper)
        self._threads = MessageFirstPool(
            settings.settlement.thread_count,
            self.counts,
            wait_seconds=settings.limits.message_seconds,
        )
        self.server = grpc.server(
            self._threads,
            options=listener_options(CONCURRENT_STREAMS_MAX, settings.limits),
            maximum_concurrent_rpcs=CALLS_IN_FLIGHT_MAX,
        )
        self.server.add_generic_rpc_handlers((Handlers(self._handlers()),))

    def _handlers(self) -> dict[str, Handler]:
        is_rehearsal = self._settings.clock == "manual"
        served, elsewhere = unary_methods(Listener.SETTLEMENT, is_rehearsal=is_rehearsal)
        handlers: dict[str, Handler] = {
            method: grpc.unary_unary_rpc_method_handler(
                tracing.traced(method, self._unary(method), lastunit_listener="settlement")
            )
            for method in served
        }
        for method, answer in self._admission.items():
            handlers[method] = grpc.unary_unary_rpc_method_handler(self._shown(method, answer))
        for method, answer_to in self._gates.items():
            handlers[method] = grpc.unary_unary_rpc_method_handler(self._asked(method, answer_to))
        for method in elsewhere:
            handlers[method] = grpc.unary_unary_rpc_method_handler(self._elsewhere(method))
        streams = ((STOCK, "WatchAvailability"), (JOURNAL, "ReadEvents"), (ADMISSION, "WatchGate"))
        for method in (path(*stream) for stream in streams):
            handlers[method] = grpc.unary_stream_rpc_method_handler(self._elsewhere(method))
        handlers[path(STOCK, "Exchange")] = grpc.stream_stream_rpc_method_handler(
            self.exchange.handler()
        )
        return handlers

    def _unary(self, method: str) -> Any:
        call = self._node.call
        listener = Listener.SETTLEMENT.value
        caller_of = self._doorkeeper.caller

        def handle(request: bytes, context: Context) -> bytes:
            begun = self.counts.begin()
            try:
                caller = caller_of(context)
                if isinstance(caller, Refusal):
                    refusal = caller
                else:
                    code, body = call(
                        method,
                        request,
                        caller.name,
                        milliseconds_left(context.time_remaining()),
                        caller.seen_sequence,
                        listener,
                        caller.seen_epoch,
                    )
                    if code == 0:
                        self.counts.add(method, 0, begun)
                        return body
                    refusal = faults.refusal_from(code, body)
            except Exception:  # noqa: BLE001 - the outer guard: no text of ours reaches a caller
                refusal = faults.bug(method)
            finally:
                self.counts.end()
            return self._refuse(method, context, refusal, begun)

        return handle

    def _shown(self, method: str, answer: "Answer") -> Any:
        name = method.rpartition("/")[2]

        def answer_to(caller: "Caller", request: bytes) -> bytes | Refusal:
            return self._doorkeeper.refusal(caller, name) or answer(request, caller.name)

        return self._asked(method, answer_to)

    def _asked(self, method: str, answer_to: "Callable[[Caller, bytes], bytes | Refusal]") -> Any:
        def handle(request: bytes, context: Context) -> bytes:
            shown: bytes | Refusal
            try:
                caller = self._doorkeeper.caller(context)
                shown = caller if isinstance(caller, Refusal) else answer_to(caller, request)
            except Exception:  # noqa: BLE001 - the outer guard: no text of ours reaches a caller
                shown = faults.bug(method)
            if isinstance(shown, Refusal):
                return self._refuse(method, context, shown)
            self.counts.add(method, 0)
            return shown

        return handle

    def _refuse(
        self, method: str, context: Context, refusal: Refusal, begun: float | None = None
    ) -> bytes:
        self.counts.add(method, refusal.code.value[0], begun)
        context.set_trailing_metadata(refusal.trailers)
        context.abort(refusal.code, refusal.message)
        return b""

    def _elsewhere(self, method: str) -> Any:
        def handle(_request: bytes, context: Context) -> bytes:
            refusal = faults.wrong_listener(
                method, here="settlement", there="data", address=self.data_address
            )
            return self._refuse(method, context, refusal)

        return handle

    def bind(self) -> str:
        """Takes the port, if there is one.

        Returns:
            The `host:port` that is served, with the real port if 0 was asked for; empty for off.

        Raises:
            StartError: The port is taken or the address is not ours.
        """
        address = self._settings.settlement.address
        if not address:
            return ""
        try:
            port = add_port(self.server, address, self._rotation)
        except RuntimeError as error:
            raise StartError(
                f"settlement.address = {address!r} can't be bound: it is taken or not an address of"
                " this machine; stop what listens there or set another settlement.address"
            ) from error
        self.address = f"{address.rpartition(':')[0]}:{port}"
        return self.address

    def start(self) -> None:
        """Begins to serve; does nothing without a port."""
        if self.address:
            self.server.start()

    def sweep(self) -> None:
        """Ends calls whose message is late; called about once a second."""
        self._threads.sweep()

    def stop(self, grace_seconds: float) -> None:
        """Stops accepting, ends the streams, lets calls in flight finish; blocks until then.

        Args:
            grace_seconds: After this, what is left is cut off.
        """
        self.exchange.stop()
        stopped = self.server.stop(grace_seconds)
        while self.counts.open_count and not stopped.is_set():
            stopped.wait(STOP_POLL_SECONDS)
        # Nothing of ours is open. A watcher of health has been told and would stay for ever.
        stopped.wait(LINGER_SECONDS)
        self.server.stop(None).wait()
        self.exchange.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
