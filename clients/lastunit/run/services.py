"""The services of a sale as child processes, wired to each other.

Owns their command lines, the order in which they start and stop, and the ledger's restart.
Must not know what the sale does. Next: ``lastunit.service.children`` for one child, ``job.py`` for
the sale.
"""

from __future__ import annotations

import json
import secrets
import sys
from typing import TYPE_CHECKING, Final

from lastunit.service.children import Child, stop_all

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from lastunit.run.sale import SaleFile

__all__ = ["Services"]

# Admission is not what the main job shows: buyers come as one caller, the order service.
_ADMISSION: Final = """\
version = 1
[lanes.settlement]
calls_in_flight_max = 100000
[lanes.reservation]
calls_in_flight_max = 100000
[lanes.read]
calls_in_flight_max = 100000
"""

_ANY_PORT: Final = "127.0.0.1:0"

_ASK_OFFSETS: Final = "150,300,600"
"""Sale seconds after its start at which an attempt without news is asked for."""

CALL_SECONDS_MAX: Final = 30.0
"""Deadline between services; long enough to outlive a kill and a restart of the ledger."""


class Services:
    """All child processes of a sale but the buyers.

    Args:
        file: The sale; its time scale stretches every span.
        directory: Where each service keeps its data, and the logs.
        ledger_settings: Settings of the ledger server, each KEY=VALUE.

    Attributes:
        ledger_address: Data listener of the ledger.
        settlement_address: Settlement listener of the ledger.
        account_address: The account service.
        order_address: The order service.
        metrics_addresses: Where services beside the ledger show their metrics, by name.
        payment_address: The payment service.
        provider_url: The sandbox provider.
    """

    def __init__(
        self, file: SaleFile, directory: Path, *, ledger_settings: Sequence[str] = ()
    ) -> None:
        self._file = file
        self._ledger_settings = tuple(ledger_settings)
        self.directory = directory
        self.log_directory = directory / "logs"
        self._secrets = {"LASTUNIT_WEBHOOK_KEYS": secrets.token_hex(16)}
        self._children: list[Child] = []
        self._ledger: Child | None = None
        self.ledger_address = self.settlement_address = _ANY_PORT
        self._metrics_address = _ANY_PORT
        self.account_address = self.order_address = self.payment_address = ""
        self.metrics_addresses: dict[str, str] = {}
        self.provider_url = ""

    async def start(self, on_start: Callable[[str], None]) -> None:
        """Starts everything, each service once those it calls can be called.

        Args:
            on_start: Called with the name of each service before it is started.

        Raises:
            ChildError: A service did not become ready.
        """
        self.log_directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "admission.toml").write_text(_ADMISSION, encoding="utf-8")
        on_start("ledger")
        await self._start_ledger()
        on_start("account")
        self.account_address = await self._start(
            "account",
            [
                *("account", "serve", "--proofs", "none"),
                *("--settlement-address", self.settlement_address),
            ],
        )
        on_start("webhook")
        webhook = await self._start("webhook", ["payment", "webhook"], data="payment")
        on_start("sandbox")
        self.provider_url = "http://" + await self._start(
            "sandbox",
            [
                *("payment", "sandbox"),
                *("--webhook-url", f"http://{webhook}/v1/callbacks/sandbox"),
                *("--knobs", json.dumps(self._knobs()), "--seed", str(self._file.run.seed)),
            ],
            data=None,
        )
        on_start("payment")
        self.payment_address = await self._start("payment", self._payment_command())
        on_start("order")
        self.order_address = await self._start("order", self._order_command())

    def child(self, name: str, command: list[str]) -> Child:
        """Makes a further child that is stopped together with the services, before them."""
        child = Child(name, command, log_directory=self.log_directory)
        self._children.append(child)
        return child

    def kill_ledger(self, number: signal.Signals) -> None:
        """Ends the ledger server without letting it tidy up."""
        assert self._ledger is not None
        self._ledger.send(number)

    async def restart_ledger(self) -> None:
        """Starts the ledger again on the same ports and the same data.

        Raises:
            ChildError: It did not become ready.
        """
        assert self._ledger is not None
        await self._ledger.wait()
        await self._start_ledger()

    def cpu_seconds(self) -> dict[str, float]:
        """Tells how much processor time each running child has used so far."""
        return {child.name: child.cpu_seconds() for child in self._children if child.is_running}

    def dead(self) -> Child | None:
        """Finds a child that has ended although nobody stopped it."""
        for child in self._children:
            if not child.is_running and not child.is_stopping:
                return child
        return None

    async def stop(self) -> None:
        """Stops every child, the last started first."""
        await stop_all(list(reversed(self._children)))

    # Command lines

    async def _start(self, name: str, words: list[str], *, data: str | None = "") -> str:
        command = [sys.executable, "-m", "lastunit.cli", *words, "--address", _ANY_PORT]
        if data is not None:
            command += ["--data-directory", str(self.directory / (data or name))]
        command += ["--log-level", "WARNING"]
        child = Child(name, command, log_directory=self.log_directory, secrets=self._secrets)
        self._children.append(child)
        ready = await child.start()
        self.metrics_addresses[name] = str(ready.get("metrics", ""))
        return str(ready["address"])

    async def _start_ledger(self) -> None:
        command = [
            *(sys.executable, "-m", "lastunit_server", "serve"),
            *("--data-directory", str(self.directory / "ledger")),
            *("--data-address", self.ledger_address),
            *("--settlement-address", self.settlement_address),
            *("--set", f"metrics.address={self._metrics_address}"),
            # Nobody here calls the native listeners, whose default ports lie beside these two.
            *("--set", "native.data_address=", "--set", "native.settlement_address="),
            *("--admission-file", str(self.directory / "admission.toml")),
            *("--log-level", "warning"),
            *(word for pair in self._ledger_settings for word in ("--set", pair)),
        ]
        if self._ledger is None:
            self._ledger = Child("ledger", command, log_directory=self.log_directory)
            self._children.append(self._ledger)
        self._ledger.command = command
        ready = await self._ledger.start()
        # The same ports after a restart: nobody has to be told.
        self.ledger_address = str(ready["data"])
        self.settlement_address = str(ready["settlement"])
        self._metrics_address = str(ready["metrics"])

    def _payment_command(self) -> list[str]:
        return [
            *("payment", "serve"),
            *("--ledger-address", self.ledger_address),
            *("--settlement-address", self.settlement_address),
            *("--provider-url", self.provider_url),
            *("--time-scale", str(self._file.run.time_scale)),
            # At a tenth of the time, more questions would be most of what the provider does.
            *("--ask-offsets", _ASK_OFFSETS),
            *("--deadline-seconds", str(CALL_SECONDS_MAX)),
            *("--seed", str(self._file.run.seed)),
        ]

    def _order_command(self) -> list[str]:
        sale, run = self._file.sale, self._file.run
        rate = run.order_transactions_per_second / run.time_scale
        return [
            *("order", "serve"),
            *("--ledger-address", self.ledger_address),
            *("--settlement-address", self.settlement_address),
            *("--account-address", self.account_address),
            *("--payment-address", self.payment_address),
            *("--price", f"{sale.sku}={sale.unit_amount_minor}", "--currency", sale.currency),
            *("--transactions-per-second", f"{rate:.3f}"),
            *("--deadline-seconds", str(CALL_SECONDS_MAX)),
        ]

    def _knobs(self) -> dict[str, object]:
        file, provider = self._file, self._file.provider
        return {
            "callback_delay_ms": round(file.seconds(provider.callback_delay_seconds) * 1_000),
            "loss_probability": provider.callback_loss,
            "duplicate_probability": provider.callback_duplicate,
            "duplicate_delay_ms": round(file.seconds(15.0) * 1_000),
        }
