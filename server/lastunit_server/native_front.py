"""The native listeners: the same node and the same contract without Python on a call's way.

Owns their start and stop and what they are told; must not see a call. They are made in Rust
(core_rs/front): this hands over addresses, certificates, credentials and limits, and again when
they change.
"""

import json
import logging
import socket
from typing import TYPE_CHECKING, Any

from lastunit import tracing
from lastunit_server import faults, logs, options
from lastunit_server.call_context import Caller
from lastunit_server.counts import LATENCY_BOUNDS, Counts, DoorCounts, Latency
from lastunit_server.errors import StartError
from lastunit_server.faults import Refusal
from lastunit_server.gate_service import GateService
from lastunit_server.methods import ADMISSION, Listener, path
from lastunit_server.native_traces import NativeTraces
from lastunit_server.settings import host_and_port
from lastunit_server.settlement_exchange import STREAMS_MAX
from lastunit_server.settlement_front import CONCURRENT_STREAMS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.tls import Material
    from lastunit_server._native import NativeFront, Node
    from lastunit_server.admission_service import AdmissionService, Answer
    from lastunit_server.doorkeeper import Credentials, Doorkeeper
    from lastunit_server.gates import Gates
    from lastunit_server.settings import Settings

__all__ = ["NativeFronts", "credentials_json"]

_KEYS = {Listener.DATA: "native.data_address", Listener.SETTLEMENT: "native.settlement_address"}
# One line tells of all refusals since the last; a stranger must not fill the disk with log lines.
_SWEEPS_PER_LOG = 4


def credentials_json(credentials: "Credentials") -> str:
    """Returns what callers are known by in the form that `_native.pyi` draws."""
    tokens = credentials.tokens
    return json.dumps(
        {
            "tokens": None if tokens is None else tokens.rows(),
            "certificates": credentials.certificates or {},
            "has_certificates": credentials.has_certificates,
        }
    )


def _pem(material: "Material | None") -> tuple[bytes, bytes, bytes | None] | None:
    if material is None:
        return None
    return material.certificate, material.private_key, material.client_authorities


class _Control:
    """What the native listeners have answered here: AdmissionService, an operator's rare calls.

    Args:
        admission: Shows and changes how work is let in.
        gates: What front ends are told.
        doorkeeper: Who may.
    """

    def __init__(
        self, admission: "AdmissionService", gates: "Gates", doorkeeper: "Doorkeeper"
    ) -> None:
        gate_service = GateService(gates, doorkeeper)
        self._doorkeeper = doorkeeper
        self._methods = gate_service.methods()
        self._methods[path(ADMISSION, "WatchGate")] = gate_service.watch_gate
        for method, answer in admission.methods().items():
            self._methods[method] = self._asked(method, answer)

    def _asked(self, method: str, answer: "Answer") -> "Callable[[Caller, bytes], bytes | Refusal]":
        name = method.rpartition("/")[2]

        def answer_to(caller: Caller, request: bytes) -> bytes | Refusal:
            return self._doorkeeper.refusal(caller, name) or answer(request, caller.name)

        return answer_to

    def answer(self, method: str, caller: str, request: bytes) -> tuple[int, bytes]:
        """Answers one call, or what a watch should show now; never raises."""
        shown: bytes | Refusal
        try:
            shown = self._methods[method](Caller(caller, 0, 0), request)
        except Exception:  # noqa: BLE001 - the outer guard: no text of ours reaches a caller
            shown = faults.bug(method)
        if isinstance(shown, Refusal):
            return int(shown.code.value[0]), shown.status
        return 0, shown


class _NativeCounts:
    """What one native listener counts."""

    def __init__(self, front: "NativeFront") -> None:
        self._front = front

    @property
    def open_count(self) -> int:
        return self._front.open_count

    def snapshot(self) -> dict[tuple[str, int], int]:
        return {(method, code): count for method, code, count in self._front.counts()}

    def latencies(self) -> dict[str, Latency]:
        return {
            method: Latency(tuple(counts), seconds)
            for method, counts, seconds in self._front.latencies()
        }

    def door(self) -> DoorCounts:
        return DoorCounts(
            dict(self._front.refusals()), self._front.connection_count, self._front.waiting_bytes
        )


class NativeFronts:
    """Both native listeners; each may be off.

    Args:
        node: The open node.
        settings: Checked settings.
        credentials: What callers are known by.
        material: Certificates; None speaks plain text.
        beside: Where the other front's listeners are, told to callers whose listener is off here.
        gates: What front ends are told.
        doorkeeper: Who may do what is answered here.
        admission: Shows and changes how work is let in.

    Raises:
        StartError: An address is taken or not one of this machine.
    """

    def __init__(
        self,
        node: "Node",
        settings: "Settings",
        credentials: "Credentials",
        material: "Material | None",
        *,
        beside: dict[Listener, str],
        gates: "Gates",
        doorkeeper: "Doorkeeper",
        admission: "AdmissionService",
    ) -> None:
        self._settings = settings
        self._control = _Control(admission, gates, doorkeeper)
        self._sweep_count = 0
        self._door: dict[str, Any] = {
            "material": _pem(material),
            "credentials_json": credentials_json(credentials),
        }
        self._fronts: dict[Listener, NativeFront] = {}
        self._traces: NativeTraces | None = None
        try:
            for listener, address in settings.native_addresses().items():
                if address:
                    self._fronts[listener] = self._start(node, listener, address)
        except BaseException:
            self.stop(0.0)
            raise
        if tracing.is_on():
            self._traces = NativeTraces(self._fronts)
        for listener, front in self._fronts.items():
            other = Listener.DATA if listener is Listener.SETTLEMENT else Listener.SETTLEMENT
            front.set_other_address(self.address(other) or beside[other])

    def _start(self, node: "Node", listener: Listener, address: str) -> "NativeFront":
        from lastunit_server._native import NativeFront

        settings, is_data = self._settings, listener is Listener.DATA
        streams = settings.data.max_concurrent_streams if is_data else CONCURRENT_STREAMS_MAX
        streams_max = settings.data.streams_max if is_data else STREAMS_MAX
        limits = options.native_limits(streams, streams_max, settings.limits)
        try:
            return NativeFront(
                node,
                address=_literal(address),
                listener=listener.value,
                is_rehearsal=settings.clock == "manual",
                has_reflection=settings.reflection,
                control=self._control.answer,
                thread_count=settings.native.thread_count,
                limits_json=json.dumps(limits),
                latency_bounds=LATENCY_BOUNDS,
                is_traced=tracing.is_on(),
                **self._door,
            )
        except OSError as error:
            reason = error.args[0] if error.args else str(error)
            advice = 'set another, or "" for none'
            raise StartError(f"{_KEYS[listener]} = {address!r}: {reason}; {advice}") from error

    def address(self, listener: Listener) -> str | None:
        """Where a listener is, with its real port; None if it is off."""
        front = self._fronts.get(listener)
        return None if front is None else front.address

    def set_health(self, *, is_serving: bool) -> None:
        """Sets what health says on both."""
        for front in self._fronts.values():
            front.set_health(is_serving)

    def counts(self) -> dict[str, Counts]:
        """Returns what each listener counts, by its name in metrics."""
        return {
            f"native_{listener.value}": _NativeCounts(front)
            for listener, front in self._fronts.items()
        }

    def tell_news(self) -> None:
        """Has whoever watches a gate shown how it is now."""
        for front in self._fronts.values():
            front.tell_news()

    def sweep(self) -> None:
        """Logs callers that were not let in; called a few times a second."""
        self._sweep_count += 1
        if self._sweep_count % _SWEEPS_PER_LOG:
            return
        for front in self._fronts.values():
            if (unknown := front.take_unknown_callers()) is not None:
                peer, reason, count = unknown
                logs.event(
                    "caller_not_known",
                    level=logging.WARNING,
                    peer=peer,
                    reason=reason,
                    others_since_last=count - 1,
                )

    def replace(self, credentials: "Credentials", material: "Material | None") -> None:
        """Puts other credentials in force, and other certificates for new connections."""
        text, pem = credentials_json(credentials), _pem(material)
        for front in self._fronts.values():
            if pem is not None:
                front.replace_material(pem)
            # Last, because open streams look at everything again when it changes.
            front.replace_credentials(text)

    def stop(self, grace_seconds: float, *listeners: Listener) -> None:
        """Stops listeners; calls in flight finish.

        Args:
            grace_seconds: After this, what is left is cut off.
            listeners: Which; none means both.
        """
        for listener in listeners or tuple(self._fronts):
            front = self._fronts.get(listener)
            if front is not None:
                front.stop(round(grace_seconds * 1000))

    def tell_traces(self) -> None:
        """Hands over the spans of the last calls, before tracing ends."""
        if self._traces is not None:
            self._traces.close()


def _literal(address: str) -> str:
    """Returns the address with its host as a number: the native side resolves no names."""
    host, port = host_and_port(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartError(f"{host!r} is no address of this machine: {error}") from error
    host = str(found[0][4][0])
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
