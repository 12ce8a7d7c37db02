"""Puts the processes together: payment service, webhook and sandbox.

Owns what is opened and closed, in which order. Must not parse flags: `cli` does.
Next: `lastunit.payment.core`, `lastunit.payment.webhook`, `lastunit.payment.sandbox.core`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lastunit.client.aio import ClientSecurity, StockClient
from lastunit.payment.adapters import open_dialect, open_provider
from lastunit.payment.core import PaymentCore
from lastunit.payment.grpc_service import OPERATOR_METHODS, SERVICE_NAME, PaymentServicer
from lastunit.payment.http_server import HttpServer, run_http
from lastunit.payment.loops import start_loops
from lastunit.payment.metrics import PaymentMetrics, WebhookMetrics
from lastunit.payment.sandbox.app import sandbox_app
from lastunit.payment.sandbox.core import SandboxCore
from lastunit.payment.sandbox.sender import CallbackSender
from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
from lastunit.payment.v1 import payment_service_pb2_grpc
from lastunit.payment.webhook import Webhook
from lastunit.payment.webhook_app import webhook_app
from lastunit.service.clock import SystemClock
from lastunit.service.database import Database
from lastunit.service.leadership import Leadership
from lastunit.service.metrics import MetricsListener, ServiceMetrics
from lastunit.service.server import ServiceServer, run_service
from lastunit.service.steps import Background, repeat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from lastunit.payment.adapters import ProviderSpec
    from lastunit.payment.sandbox.knobs import SandboxKnobs
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.database import Place

__all__ = [
    "DATABASE_FILE",
    "INBOX_FILE",
    "PaymentProcess",
    "SandboxProcess",
    "serve_payments",
    "serve_sandbox",
    "serve_webhook",
]

DATABASE_FILE: Final = "payment.sqlite"
INBOX_FILE: Final = "inbox.sqlite"

_SEND_PAUSE_SECONDS: Final = 0.01
_SEND_FULL_COUNT: Final = 64


@dataclass(frozen=True, slots=True)
class PaymentProcess:
    """Says where the payment service listens, and whom it calls.

    Attributes:
        listen: `host:port`; port 0 takes a free one.
        database: Holds the tables.
        inbox: Holds what the webhook writes.
        ledger_address: The ledger's data listener.
        settlement_address: The ledger's settlement listener.
        providers: Kind and address of each provider by its name, the preferred one first; 1 to 8.
        deadline_seconds: For calls to the ledger, with all retries.
        seed: Of the jitter of asks; None: unpredictable.
    """

    listen: str
    database: Place
    inbox: Place
    ledger_address: str
    settlement_address: str
    providers: Mapping[str, ProviderSpec]
    deadline_seconds: float
    seed: int | None


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """Says where the sandbox listens, and whom it tells.

    Attributes:
        listen: `host:port`; port 0 takes a free one.
        callback_url: Where callbacks are posted.
        key: Signs them.
        seed: Of every fault.
        api_key: What merchants have to show; empty for nothing.
    """

    listen: str
    callback_url: str
    key: bytes
    seed: int
    api_key: str = ""


async def serve_payments(process: PaymentProcess, settings: PaymentSettings) -> None:
    """Serves PaymentService until SIGTERM, then drains and closes everything.

    Raises:
        ValueError: A provider lacks its key or an address; says which variable to set.
    """
    providers = [open_provider(name, spec) for name, spec in process.providers.items()]
    database = Database(process.database, PAYMENT_METADATA)
    inbox = Database(process.inbox, INBOX_METADATA)
    security = ClientSecurity.from_environment()
    ledger = StockClient(
        process.ledger_address,
        settlement_address=process.settlement_address,
        caller="payment-service",
        # What comes while this service is down is kept for it.
        reader_id="payment-service",
        deadline_seconds=process.deadline_seconds,
        security=security,
    )
    clock = SystemClock()
    core = PaymentCore(
        database=database,
        inbox=inbox,
        ledger=ledger,
        providers=providers,
        clock=clock,
        settings=settings,
        random=random.Random(process.seed),  # noqa: S311 - spreads asks, keeps no secret
        dialects={name: open_dialect(spec.kind) for name, spec in process.providers.items()},
    )
    background = Background()
    leadership = Leadership(database, "work")

    async def close() -> None:
        await background.stop()
        await asyncio.to_thread(leadership.stop)
        await ledger.close()
        for provider in providers:
            await provider.aclose()
        database.close()
        inbox.close()

    server = ServiceServer(
        "payment",
        service_names=(SERVICE_NAME,),
        listen=process.listen,
        operator_methods=OPERATOR_METHODS,
    )
    server.metrics.watch("payment", database)
    server.metrics.watch("inbox", inbox)
    server.metrics.registry.register(
        PaymentMetrics(
            database=database, inbox=inbox, breakers=core.providers.breakers, clock=clock
        )
    )
    payment_service_pb2_grpc.add_PaymentServiceServicer_to_server(
        PaymentServicer(core), server.grpc
    )
    leadership.start()
    start_loops(
        background, core, ledger=ledger, clock=clock, settings=settings, leadership=leadership
    )
    await run_service(server, on_drained=close)


async def serve_webhook(
    *,
    listen: str,
    inbox_place: Place,
    keys: Mapping[str, Sequence[bytes]],
    kinds: Mapping[str, str] | None = None,
    proxies: AbstractSet[str] = frozenset(),
    metrics_address: str = "",
) -> None:
    """Serves the webhook until SIGTERM, then drains.

    Args:
        listen: `host:port`; port 0 takes a free one.
        inbox_place: Holds what is stored.
        keys: Secrets of each provider.
        kinds: Of each provider, by name; `http` for those that are not there.
        proxies: Addresses of proxies that are believed about whose request they pass on.
        metrics_address: Where metrics are served, `host:port`; empty for nowhere.
    """
    dialects = {name: open_dialect(kind) for name, kind in (kinds or {}).items()}
    inbox = Database(inbox_place, INBOX_METADATA)
    webhook = Webhook(inbox, keys, SystemClock(), dialects)

    listener = _listen(metrics_address, inbox, webhook) if metrics_address else None

    async def close() -> None:
        if listener is not None:
            await asyncio.to_thread(listener.close)
        inbox.close()

    server = HttpServer(webhook_app(webhook, proxies=proxies), listen=listen)
    await run_http(server, name="webhook", on_drained=close)


def _listen(address: str, inbox: Database, webhook: Webhook) -> MetricsListener:
    metrics = ServiceMetrics("webhook")
    metrics.watch("inbox", inbox)
    metrics.registry.register(WebhookMetrics(webhook))
    return MetricsListener(address, metrics)


async def serve_sandbox(process: SandboxProcess, knobs: SandboxKnobs) -> None:
    """Serves the sandbox provider and posts its callbacks until SIGTERM."""
    clock = SystemClock()
    core = SandboxCore(clock, key=process.key, seed=process.seed, knobs=knobs)
    server = HttpServer(sandbox_app(core, api_key=process.api_key), listen=process.listen)
    core.pay_url_prefix = f"http://{server.address}"
    sender = CallbackSender(core, url=process.callback_url, clock=clock)
    background = Background()
    background.start(
        repeat(
            sender.send_once,
            name="callbacks",
            pause_seconds=_SEND_PAUSE_SECONDS,
            full_count=_SEND_FULL_COUNT,
        )
    )

    async def close() -> None:
        await background.stop()
        await sender.aclose()

    await run_http(server, name="sandbox", on_drained=close)
