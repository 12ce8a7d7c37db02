"""The server's life: open, listen, serve, stop.

Owns the order in which the parts start and stop, the signals and the exit code; must not know what
a call means.

Stopping (SIGTERM or SIGINT): health says NOT_SERVING; the data listeners of both fronts stop
accepting and their streams end as DRAINING; the settlement listeners follow last; the node flushes,
writes a snapshot and seals the journal. All of it within `grace_seconds`. A second signal leaves at
once: what was acknowledged is on disk already. SIGHUP has certificates, tokens and permissions read
again.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from lastunit import tracing
from lastunit_server import logs, standard
from lastunit_server.admission_service import AdmissionService
from lastunit_server.advisor import Advisor
from lastunit_server.console import Console
from lastunit_server.data_front import DataFront
from lastunit_server.errors import StartError
from lastunit_server.exit_codes import ExitCode
from lastunit_server.gate_book import GateBook
from lastunit_server.gate_http import GateApp
from lastunit_server.gates import Gates
from lastunit_server.http_listener import HttpListener
from lastunit_server.methods import Listener
from lastunit_server.metrics import MetricsEndpoint, ServerCollector
from lastunit_server.native_front import NativeFronts
from lastunit_server.native_settings import gate_settings_json, native_settings_json
from lastunit_server.policy_watch import PolicyWatch
from lastunit_server.reloading import LoadedSecurity, Security
from lastunit_server.settlement_front import SettlementFront

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lastunit_server._native import Node
    from lastunit_server.counts import Counts
    from lastunit_server.policy import PolicyDocument
    from lastunit_server.settings import Settings
    from lastunit_server.stamps import Stamp

__all__ = ["run"]

# A settlement thread that wants the GIL waits at most this long behind the data listener's loop.
# Python's default of 5 ms, taken four to five times in one call, was most of settlement's p99 in a
# flood (bench/settlement_under_flood.py).
GIL_SWITCH_SECONDS = 0.0005
# How soon health follows the node; a load balancer asks every second at most.
_HEALTH_INTERVAL_SECONDS = 0.25
# Of the grace time, what the listeners may use; the rest is the journal's.
_LISTENERS_SHARE = 0.7
# Caches in front keep few connections; who comes without one is told 503 beyond it.
_GATE_CONNECTIONS_MAX = 1024
# A few people with a few pages each.
_CONSOLE_CONNECTIONS_MAX = 256


def run(
    settings: "Settings",
    policy: "PolicyDocument",
    security: LoadedSecurity,
    *,
    read_settings: "Callable[[], Settings]",
    config_file: "Path | None",
    config_stamp: "Stamp",
) -> ExitCode:
    """Serves until a signal comes.

    Args:
        settings: Checked settings.
        policy: A checked admission policy.
        security: Certificates, tokens and permissions, as the settings name them.
        read_settings: Reads the settings again, from the same sources.
        config_file: The settings file, watched for changes; None if there is none.
        config_stamp: How it looked before it was read.

    Returns:
        How the process should exit.

    Raises:
        StartError: The node or a listener could not be opened.
    """
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    try:
        tracing.start("lastunit-ledger", endpoint=settings.tracing.endpoint)
    except tracing.TracingError as error:
        raise StartError(str(error)) from error
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        server = _Server(settings, policy)

        def secure(node: "Node") -> Security:
            return Security(
                node,
                settings,
                security,
                read_settings=read_settings,
                config_file=config_file,
                config_stamp=config_stamp,
            )

        return runner.run(server.serve(secure))


def _loop_factory() -> Any:
    """Returns uvloop's loop where it is installed: up to a third less CPU a call."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def open_node(settings: "Settings", policy: "PolicyDocument") -> "Node":
    """Opens the node.

    Args:
        settings: Checked settings.
        policy: A checked admission policy.

    Returns:
        The open node, which owns the data directory from now on.

    Raises:
        StartError: The directory has an owner or its journal can't be recovered.
    """
    from lastunit_server._native import Node, NodeOpenError

    try:
        return Node(native_settings_json(settings, policy))
    except NodeOpenError as error:
        raise StartError(str(error.args[0])) from error


def open_gates(node: "Node", settings: "Settings") -> Gates:
    """Lays the settings and the kept orders on the gates.

    Args:
        node: The open node.
        settings: Checked settings.

    Returns:
        The gates, to be shown.

    Raises:
        StartError: The file of orders can't be read.
    """
    node.set_gate_settings(gate_settings_json(settings))
    durability = settings.journal.durability
    directory = None if durability == "memory" else settings.data_directory
    try:
        return Gates(node, GateBook(directory, is_flushed=durability == "flushed"))
    except OSError as error:
        raise StartError(
            f"the operators' orders can't be read: {error}; correct the file's owner or mode, or"
            " move it away to leave all gates to the measurements"
        ) from error


class _Server:
    """One run of the server, from open to closed."""

    def __init__(self, settings: "Settings", policy: "PolicyDocument") -> None:
        self._settings = settings
        self._policy = policy
        self._is_rehearsal = settings.clock == "manual"
        self._stop_asked = asyncio.Event()
        self._has_journal_failed = False

    async def serve(self, secure: "Callable[[Node], Security]") -> ExitCode:
        """Opens everything, waits for a signal, closes everything."""
        self._take_signals()
        # In a thread, so that a signal during a long recovery is heard.
        self._node = await asyncio.to_thread(open_node, self._settings, self._policy)
        try:
            self._security = secure(self._node)
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._security.ask)
            await self._listen()
        except BaseException:
            await asyncio.to_thread(self._node.close)
            raise
        self._say_ready()
        watches = [
            asyncio.create_task(self._watch_health()),
            asyncio.create_task(self._security.watch()),
            asyncio.create_task(self._gates.follow()),
            asyncio.create_task(self._tell_native_watchers()),
            asyncio.create_task(self._advisor.watch()),
            *self._policy_watches(),
        ]
        await self._stop_asked.wait()
        for watch in watches:
            watch.cancel()
        code = await self._stop()
        self._ignore_signals()
        return code

    def _policy_watches(self) -> "list[asyncio.Task[None]]":
        file = self._settings.admission_file
        if file is None:
            return []
        watch = PolicyWatch(self._node, file, self._policy.stamp)
        return [asyncio.create_task(watch.watch())]

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, signal.Signals(number).name)

    @staticmethod
    def _ignore_signals() -> None:
        """Keeps a late signal from turning a clean end into a killed one: all work is done."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, name: str) -> None:
        if self._stop_asked.is_set():
            logs.event("stopped_at_once", level=logging.WARNING, signal=name)
            # Nothing is lost: no reply has left before its record was on disk.
            os._exit(ExitCode.FORCED)
        logs.event("stop_asked", signal=name, grace_seconds=self._settings.grace_seconds)
        self._stop_asked.set()

    async def _listen(self) -> None:
        settings, security = self._settings, self._security
        self._gates = open_gates(self._node, settings)
        door: dict[str, Any] = {
            "doorkeeper": security.doorkeeper,
            "rotation": security.rotation,
            "gates": self._gates,
        }
        self._advisor = Advisor(self._node, self._gates, settings.gate)
        self._admission = AdmissionService(self._node, self._advisor)
        self._data = DataFront(self._node, settings, asyncio.get_running_loop(), **door)
        self._data_health = standard.DataHealth()
        self._data_health.add_to(self._data.server)
        standard.add_to_data_server(
            self._data.server, security.doorkeeper, has_reflection=settings.reflection
        )
        self.data_address = self._data.bind()

        self._settlement = SettlementFront(self._node, settings, admission=self._admission, **door)
        self._settlement_health = standard.SettlementHealth(is_rehearsal=self._is_rehearsal)
        self._settlement_health.add_to(self._settlement.server)
        standard.add_to_settlement_server(
            self._settlement.server,
            security.doorkeeper,
            has_reflection=settings.reflection,
            is_rehearsal=self._is_rehearsal,
        )
        self.settlement_address = self._settlement.bind()

        await self._listen_natively()
        # Whose other listener is off here names the native one.
        native = self._native.address
        self._data.settlement_address = self.settlement_address or native(Listener.SETTLEMENT) or ""
        self._settlement.data_address = self.data_address or native(Listener.DATA) or ""
        self._metrics = self._open_metrics()
        self._http = self._open_http()
        self._settlement.start()
        await self._data.start()
        await self._set_health(is_serving=True)

    async def _listen_natively(self) -> None:
        loaded = self._security.loaded
        self._native = await asyncio.to_thread(
            NativeFronts,
            self._node,
            self._settings,
            loaded.credentials,
            loaded.material,
            beside={
                Listener.DATA: self.data_address,
                Listener.SETTLEMENT: self.settlement_address,
            },
            gates=self._gates,
            doorkeeper=self._security.doorkeeper,
            admission=self._admission,
        )
        self._security.follow(lambda now: self._native.replace(now.credentials, now.material))

    async def _tell_native_watchers(self) -> None:
        while True:
            await self._gates.news().wait()
            self._native.tell_news()

    def _open_metrics(self) -> MetricsEndpoint | None:
        counts: dict[str, Counts] = {
            "data": self._data.counts,
            "settlement": self._settlement.counts,
        }
        counts |= self._native.counts()
        self._advisor.watch_counts(counts)
        address = self._settings.metrics_address
        if not address:
            return None
        return MetricsEndpoint(address, ServerCollector(self._node, counts, self._settings))

    def _open_http(self) -> dict[str, HttpListener]:
        listeners = {}
        if self._settings.gate.address:
            app = GateApp(self._gates, is_clock_manual=self._is_rehearsal).app
            listeners["gate"] = HttpListener(
                app,
                self._settings.gate.address,
                setting="gate.address",
                connections_max=_GATE_CONNECTIONS_MAX,
            )
        if self._settings.console.address:
            console = Console(
                self._node,
                self._gates,
                self._security.doorkeeper,
                self._admission,
                hosts=self._settings.console.hosts,
            )
            listeners["console"] = HttpListener(
                console.app,
                self._settings.console.address,
                setting="console.address",
                connections_max=_CONSOLE_CONNECTIONS_MAX,
            )
        for listener in listeners.values():
            listener.start()
        return listeners

    def _say_ready(self) -> None:
        _is_serving, _reason, epoch, sequence, _durable_sequence = self._node.health()
        line: dict[str, Any] = {
            "event": "ready",
            "service": "ledger",
            "address": self.data_address or self._native.address(Listener.DATA),
            "data": self.data_address or None,
            "settlement": self.settlement_address or None,
            "native_data": self._native.address(Listener.DATA),
            "native_settlement": self._native.address(Listener.SETTLEMENT),
            "metrics": self._metrics.address if self._metrics else None,
            "gate": self._http["gate"].address if "gate" in self._http else None,
            "console": self._http["console"].address if "console" in self._http else None,
            "epoch": epoch,
            "sequence": sequence,
            "durability": self._settings.journal.durability,
            "clock": self._settings.clock,
            "is_encrypted": self._settings.tls.is_on,
            "is_authenticated": self._settings.has_authentication,
            "directory": str(self._settings.data_directory),
            "process_id": os.getpid(),
        }
        print(json.dumps(line), flush=True)  # noqa: T201 - the parent process waits for it
        del line["event"]
        logs.event("ready", **line)

    async def _set_health(self, *, is_serving: bool) -> None:
        self._settlement_health.set(is_serving=is_serving)
        await self._data_health.set(is_serving=is_serving)
        await asyncio.to_thread(self._native.set_health, is_serving=is_serving)

    async def _watch_health(self) -> None:
        """Makes health follow the node. A failed journal stays failed until a restart."""
        was_serving = True
        while True:
            is_serving, reason, *_places = self._node.health()
            if is_serving != was_serving:
                was_serving = is_serving
                await self._set_health(is_serving=is_serving)
                level = logging.INFO if is_serving else logging.ERROR
                advice = "serving" if is_serving else "restart the server to recover the journal"
                logs.event("health_changed", level=level, reason=reason, advice=advice)
            self._has_journal_failed = self._has_journal_failed or not is_serving
            self._settlement.sweep()
            self._native.sweep()
            await asyncio.sleep(_HEALTH_INTERVAL_SECONDS)

    async def _stop(self) -> ExitCode:
        end = time.monotonic() + self._settings.grace_seconds
        await self._set_health(is_serving=False)
        self._node.end_waiting()
        listeners_end = end - self._settings.grace_seconds * (1 - _LISTENERS_SHARE)
        await asyncio.gather(
            self._data.stop(_left(listeners_end)),
            asyncio.to_thread(self._native.stop, _left(listeners_end), Listener.DATA),
        )
        await asyncio.gather(
            asyncio.to_thread(self._settlement.stop, _left(listeners_end)),
            asyncio.to_thread(self._native.stop, _left(listeners_end), Listener.SETTLEMENT),
        )
        self._settlement_health.close()
        if self._metrics:
            await asyncio.to_thread(self._metrics.close)
        for listener in self._http.values():
            await asyncio.to_thread(listener.close)
        await asyncio.to_thread(self._native.tell_traces)
        await asyncio.to_thread(tracing.stop)
        is_drained = await asyncio.to_thread(self._node.drain, int(_left(end) * 1000))
        return await self._close_node(is_drained=is_drained, end=end)

    async def _close_node(self, *, is_drained: bool, end: float) -> ExitCode:
        try:
            await asyncio.wait_for(asyncio.to_thread(self._node.close), max(_left(end), 0.1))
        except TimeoutError:
            logs.event("stopped_late", level=logging.ERROR, advice="raise grace_seconds")
            os._exit(ExitCode.FORCED)
        except OSError as error:
            logs.event(
                "journal_failed",
                level=logging.ERROR,
                error=str(error),
                advice="what was acknowledged is on disk; look after the disk, then start again",
            )
            return ExitCode.JOURNAL_FAILED
        if self._has_journal_failed:
            return ExitCode.JOURNAL_FAILED
        logs.event("stopped", is_drained=is_drained)
        return ExitCode.OK if is_drained else ExitCode.FORCED


def _left(end: float) -> float:
    return max(0.0, end - time.monotonic())
