"""The command `lastunit payment`.

Owns flags and their texts. Must not put anything together: `serve` does.
Next: `lastunit.payment.serve`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lastunit.payment import bill_cli, desk_cli
from lastunit.service.database_cli import DATABASE_HELP, database_app, told

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    import sqlalchemy as sa

    from lastunit.payment.adapters import ProviderSpec
    from lastunit.service.database import Place

__all__ = ["app"]

app = typer.Typer(
    help="Runs attempts to pay: the service, the webhook and a sandbox provider.",
    no_args_is_help=True,
)

app.command()(desk_cli.incidents)
app.command()(desk_cli.resolve)
app.command()(desk_cli.refund)
app.command()(desk_cli.reprocess)
app.command()(bill_cli.import_bill)

# Secrets come by the environment: flags can be read by everybody on the machine.
KEYS_VARIABLE: Final = "LASTUNIT_WEBHOOK_KEYS"

_Address = Annotated[str, typer.Option(help="host:port to listen on; port 0 takes a free one.")]
_Level = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]
_DataDirectory = Annotated[
    Path | None,
    typer.Option(
        help="Directory of payment.sqlite and inbox.sqlite; the same for service and webhook.",
        envvar="LASTUNIT_PAYMENT_DATA_DIRECTORY",
    ),
]
_Database = Annotated[
    str | None,
    typer.Option(
        help=DATABASE_HELP + " The same for service and webhook.",
        envvar="LASTUNIT_PAYMENT_DATABASE",
    ),
]
_Provider = Annotated[str, typer.Option(help="Name of the provider.")]


def _databases(url: str | None, data_directory: Path | None) -> Sequence[tuple[Place, sa.MetaData]]:
    from lastunit.payment.schema import INBOX_METADATA, PAYMENT_METADATA
    from lastunit.payment.serve import DATABASE_FILE, INBOX_FILE
    from lastunit.service.database import place_of

    return [
        (place_of(url, data_directory, DATABASE_FILE), PAYMENT_METADATA),
        (place_of(url, data_directory, INBOX_FILE), INBOX_METADATA),
    ]


app.add_typer(database_app("payment", _databases), name="database")


@app.callback()
def _group() -> None:
    """Runs attempts to pay: the service, the webhook and a sandbox provider."""


@app.command()
def serve(
    *,
    ledger_address: Annotated[
        str, typer.Option(help="The ledger's data listener.", envvar="LASTUNIT_LEDGER_ADDRESS")
    ],
    settlement_address: Annotated[
        str,
        typer.Option(
            help="The ledger's settlement listener.", envvar="LASTUNIT_SETTLEMENT_ADDRESS"
        ),
    ],
    provider_url: Annotated[
        str,
        typer.Option(
            help="The provider: http://host:port, or KIND+https://host such as"
            " stripe+https://api.stripe.com.",
            envvar="LASTUNIT_PROVIDER_URL",
        ),
    ],
    data_directory: _DataDirectory = None,
    database: _Database = None,
    address: _Address = "127.0.0.1:0",
    provider: _Provider = "sandbox",
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=URL: takes new attempts while those before it are down; may be repeated."
        ),
    ] = None,
    ask_offsets: Annotated[
        str, typer.Option(help="Seconds after its start at which an attempt is asked for.")
    ] = "60,90,120,180,300,450",
    ask_again_seconds: Annotated[
        float, typer.Option(min=1, help="Pause between asks after settle_by.")
    ] = 30.0,
    asks_per_second: Annotated[
        float, typer.Option(min=0.01, help="Most asks and closes a second.")
    ] = 50.0,
    time_scale: Annotated[
        float,
        typer.Option(min=0.001, max=100, help="All spans are multiplied by it; 0.1 for 1:10."),
    ] = 1.0,
    deadline_seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="For each call to the ledger, with retries.")
    ] = 5.0,
    seed: Annotated[int | None, typer.Option(help="Of the jitter of asks.")] = None,
    log_level: _Level = "INFO",
) -> None:
    """Serves PaymentService until SIGTERM.

    A provider's key comes from LASTUNIT_PROVIDER_KEY_ and its name in capitals, or from the file
    that LASTUNIT_PROVIDER_KEY_FILE_ and its name points to.
    Prints {"event": "ready", "service": "payment", "address": …} once it can be called.
    """
    # Here, so that --help is quick.
    import asyncio

    from lastunit.payment.serve import PaymentProcess, serve_payments
    from lastunit.payment.settings import PaymentSettings
    from lastunit.service.log import configure_logging

    configure_logging("payment", level=log_level)
    try:
        providers = _specs(provider, provider_url, fallback or [])
        settings = PaymentSettings(
            ask_offsets_seconds=tuple(float(each) for each in ask_offsets.split(",") if each),
            ask_again_seconds=ask_again_seconds,
            asks_per_second=asks_per_second,
            time_scale=time_scale,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with told("payment"):
        (place, _), (inbox, _) = _databases(database, data_directory)
    process = PaymentProcess(
        listen=address,
        database=place,
        inbox=inbox,
        ledger_address=ledger_address,
        settlement_address=settlement_address,
        providers=providers,
        deadline_seconds=deadline_seconds,
        seed=seed,
    )
    with told("payment"):
        asyncio.run(serve_payments(process, settings))


@app.command()
def webhook(
    *,
    data_directory: _DataDirectory = None,
    database: _Database = None,
    address: _Address = "127.0.0.1:0",
    provider: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME of a provider, or NAME=KIND such as other=stripe; may be repeated. [sandbox]"
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of a proxy that tells by X-Forwarded-For whose request it passes on;"
            " may be repeated."
        ),
    ] = None,
    log_level: _Level = "INFO",
) -> None:
    """Serves POST /v1/callbacks/{provider} until SIGTERM; stores before it answers.

    Its keys come from LASTUNIT_WEBHOOK_KEYS: 1 to 8 of 16 bytes or more, separated by commas; all
    are valid, so that a key can be replaced. Of several providers each has its own, from
    LASTUNIT_WEBHOOK_KEYS_ and its name in capitals, with _ for what is no letter or digit.
    LASTUNIT_WEBHOOK_METRICS_ADDRESS serves metrics.
    """
    # Here, so that --help is quick.
    from lastunit.payment.serve import serve_webhook
    from lastunit.service.log import configure_logging

    configure_logging("webhook", level=log_level)
    kinds = {
        name: kind or "http"
        for name, _, kind in (text.partition("=") for text in provider or ["sandbox"])
    }
    # One provider's secret must not sign for another.
    keys = {name: _keys(name if len(kinds) > 1 else "") for name in kinds}
    try:
        with told("webhook"):
            _, (inbox, _) = _databases(database, data_directory)
            serving = serve_webhook(
                listen=address,
                inbox_place=inbox,
                keys=keys,
                kinds=kinds,
                proxies=frozenset(proxy or ()),
                metrics_address=os.environ.get("LASTUNIT_WEBHOOK_METRICS_ADDRESS", ""),
            )
            _run_fast(serving)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def sandbox(
    *,
    callback_url: Annotated[
        str,
        typer.Option(
            "--callback-url",
            "--webhook-url",
            help="Where callbacks go: http://host:port/v1/callbacks/sandbox.",
            envvar="LASTUNIT_CALLBACK_URL",
        ),
    ],
    address: _Address = "127.0.0.1:0",
    knobs: Annotated[
        str,
        typer.Option(help='Faults as JSON: {"loss_probability": 0.05}; also PUT /v1/knobs.'),
    ] = "{}",
    seed: Annotated[int, typer.Option(help="Of every fault.")] = 1,
    log_level: _Level = "INFO",
) -> None:
    """Serves a provider with pretended money and chosen faults until SIGTERM.

    Signs with the first key of LASTUNIT_WEBHOOK_KEYS. What it knows is gone when it stops.
    With LASTUNIT_SANDBOX_API_KEY merchants have to show that key.
    """
    # Here, so that --help is quick.
    import asyncio
    import json

    from lastunit.payment.sandbox.knobs import SandboxKnobs
    from lastunit.payment.serve import SandboxProcess, serve_sandbox
    from lastunit.service.log import configure_logging

    configure_logging("sandbox", level=log_level)
    try:
        chosen = SandboxKnobs().changed(json.loads(knobs))
        process = SandboxProcess(
            listen=address,
            callback_url=callback_url,
            key=_keys()[0],
            seed=seed,
            api_key=os.environ.get("LASTUNIT_SANDBOX_API_KEY", ""),
        )
        asyncio.run(serve_sandbox(process, chosen))
    except (AttributeError, TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _run_fast(serving: Coroutine[None, None, None]) -> None:
    """Runs until it ends; with uvloop if it is installed, which takes a fifth off a callback."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _specs(name: str, url: str, fallback: Sequence[str]) -> dict[str, ProviderSpec]:
    """Returns the providers by name, the preferred one first."""
    from lastunit.payment.adapters import parse_spec
    from lastunit.payment.providers import PROVIDERS_MAX

    providers = {name: parse_spec(url)}
    for text in fallback:
        other, _, other_url = text.partition("=")
        if not other or other in providers:
            raise ValueError(
                f"--fallback {text!r} is not NAME=URL with a new name, such as other=https://host"
            )
        try:
            providers[other] = parse_spec(other_url)
        except ValueError as error:
            raise ValueError(f"--fallback {text!r} is not NAME=URL: {error}") from error
    if len(providers) > PROVIDERS_MAX:
        raise ValueError(f"there are {len(providers)} providers; {PROVIDERS_MAX} at most")
    return providers


def _keys(provider: str = "") -> list[bytes]:
    variable = KEYS_VARIABLE + (provider and "_" + re.sub(r"[^A-Z0-9]", "_", provider.upper()))
    keys = [key.encode() for key in os.environ.get(variable, "").split(",") if key]
    if not keys:
        raise typer.BadParameter(
            f"{variable} is not set; give it the secret shared with the provider, 16 bytes or more"
        )
    return keys


if __name__ == "__main__":
    app()
