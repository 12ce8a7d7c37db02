"""Starts, runs and drains the gRPC server of a service.

Owns the bootstrap: health, reflection, limits, the ready line, signals. Must not know what the
services do. Next: `lastunit.service._door` for what each call passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
from typing import TYPE_CHECKING, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lastunit import tracing
from lastunit.reflection import ReflectionPool
from lastunit.service._door import Door
from lastunit.service.metrics import (
    MetricsListener,
    ServiceMetrics,
    address_from_environment,
)
from lastunit.service.security import ServiceSecurity
from lastunit.tls import TlsFileError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["ServiceServer", "run_service"]

_log: Final = logging.getLogger(__name__)

# The contract's bound on one message, so that a stranger cannot make us hold a huge one.
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024

# 20,000 buyers may be open at once, each with one call; beyond this gRPC refuses by itself.
CONCURRENT_CALLS_MAX: Final = 32_768

# Time for calls under way after SIGTERM; an orchestrator usually kills after 30 s.
GRACE_SECONDS: Final = 10.0

# Python lets a thread wait up to 5 ms for the interpreter behind a busy event loop. A unit of work
# of the writer takes it ten times: at 5 ms each, a flood of calls would slow the database, and with
# it settlement, to twenty units a second.
GIL_SWITCH_SECONDS: Final = 0.0005

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    # Two processes on one port would each get half of the calls without anybody noticing.
    ("grpc.so_reuseport", 0),
    # Calls that have arrived and wait to be taken up. gRPC's own bounds are 1,000 and 3,000, past
    # which it cancels calls at random and without a word; ours answers, with when to come back.
    ("grpc.server.max_pending_requests", CONCURRENT_CALLS_MAX),
    ("grpc.server.max_pending_requests_hard_limit", 2 * CONCURRENT_CALLS_MAX),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A connection is renewed once an hour, so that a client finds a moved service.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)


class ServiceServer:
    """Is one gRPC server with health, reflection and the door in front of its services.

    Create it inside a running event loop, add servicers to `grpc`, then `start` it.

    Args:
        name: Name of the service in the ready line and the log, such as `account`.
        service_names: Full names of the gRPC services that will be added.
        listen: Address to bind, `host:port`; port 0 takes a free one.
        concurrent_calls_max: Calls under way at once, 1 or more; more are refused.
        security: Certificates and whose calls are taken; None reads LASTUNIT_SERVICE_….
        operator_methods: Paths of the methods that are for operators, such as `/a.v1.B/Refund`.
        unproved_methods: Paths of those that are for operators if the request has no `proof` of
            whom it concerns.

    Attributes:
        grpc: The server to add servicers to.
        address: `host:port` as bound; empty until started.
        metrics: Counts its calls; `watch` a database there to have it shown.
    """

    def __init__(
        self,
        name: str,
        *,
        service_names: Sequence[str],
        listen: str = "127.0.0.1:0",
        concurrent_calls_max: int = CONCURRENT_CALLS_MAX,
        security: ServiceSecurity | None = None,
        operator_methods: Sequence[str] = (),
        unproved_methods: Sequence[str] = (),
    ) -> None:
        # Before the door is made: it asks once whether calls are traced.
        tracing.start(f"lastunit-{name}")
        self._security = security or ServiceSecurity.from_environment()
        self.metrics = ServiceMetrics(name)
        self._renewal: asyncio.Task[None] | None = None
        self.name = name
        self.address = ""
        self._listen = listen
        self._service_names = tuple(service_names)
        self.grpc = grpc.aio.server(
            interceptors=(
                Door(
                    frozenset(service_names),
                    self._security,
                    self.metrics,
                    operator_methods=frozenset(operator_methods),
                    unproved_methods=frozenset(unproved_methods),
                ),
            ),
            options=_CHANNEL_OPTIONS,
            maximum_concurrent_rpcs=concurrent_calls_max,
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection(
            (*service_names, health.SERVICE_NAME, reflection.SERVICE_NAME),
            self.grpc,
            pool=ReflectionPool(),
        )

    async def start(self) -> str:
        """Binds the address and serves.

        Returns:
            The address as bound, `host:port`.

        Raises:
            OSError: The address cannot be bound, or a file of the certificates can't be used.
        """
        try:
            rotation = self._security.rotation()
        except TlsFileError as error:
            raise OSError(str(error)) from error
        try:
            if rotation is None:
                port = self.grpc.add_insecure_port(self._listen)
            else:
                port = self.grpc.add_secure_port(self._listen, rotation.credentials())
                self._renewal = asyncio.create_task(self._security.watch(rotation))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._listen}; is it taken or misspelt?") from error
        await self.grpc.start()
        host = self._listen.rpartition(":")[0]
        self.address = f"{host}:{port}" if host else self._listen
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return self.address

    async def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """Stops taking calls, lets those under way end, then closes.

        Args:
            grace_seconds: Seconds until calls under way are cut off, 0 or more.
        """
        if self._renewal is not None:
            self._renewal.cancel()
        await self._health.enter_graceful_shutdown()
        await self.grpc.stop(grace_seconds)
        await asyncio.to_thread(tracing.stop)

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service_name in ("", *self._service_names):
            await self._health.set(service_name, status)


async def run_service(
    server: ServiceServer,
    *,
    on_stopping: Callable[[], None] | None = None,
    on_drained: Callable[[], Awaitable[None]] | None = None,
    is_json: bool = True,
    grace_seconds: float = GRACE_SECONDS,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    When it can be called it prints one line to standard output:
    `{"event": "ready", "service": …, "address": …, "metrics": …}`. Metrics are served at
    LASTUNIT_SERVICE_METRICS_ADDRESS, by default on a free port of loopback.

    Args:
        server: The server with its servicers added.
        on_stopping: Called when the drain begins: end streams here that would outlive it.
        on_drained: Called after the last call has ended: close databases and clients here.
        is_json: False prints a sentence instead of the JSON line.
        grace_seconds: Seconds until calls under way are cut off, 0 or more.
    """
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    stopping = asyncio.Event()
    listener: MetricsListener | None = None
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for each in signals:
        loop.add_signal_handler(each, stopping.set)
    try:
        metrics_address = address_from_environment()
        if metrics_address:
            listener = MetricsListener(metrics_address, server.metrics)
        address = await server.start()
        shown = listener.address if listener is not None else None
        _print_ready(server.name, address, metrics=shown, is_json=is_json)
        await stopping.wait()
        _log.info("draining", extra={"grace_seconds": grace_seconds})
    finally:
        if on_stopping is not None:
            on_stopping()
        await server.stop(grace_seconds)
        if listener is not None:
            await asyncio.to_thread(listener.close)
        if on_drained is not None:
            await on_drained()
        for each in signals:
            loop.remove_signal_handler(each)


def _print_ready(name: str, address: str, *, metrics: str | None, is_json: bool) -> None:
    line = f"{name} serves on {address}"
    if is_json:
        line = json.dumps(
            {"event": "ready", "service": name, "address": address, "metrics": metrics}
        )
    # Whoever started us may have stopped listening; that is no reason to die.
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
