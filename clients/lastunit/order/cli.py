"""The command `lastunit order`.

Owns flags and their texts. Must not put anything together: `serve` does.
Next: `lastunit.order.serve`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastunit.service.database_cli import DATABASE_HELP, database_app, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from lastunit.service.database import Place

__all__ = ["app"]

app = typer.Typer(help="Places orders, starts payments and shows orders.", no_args_is_help=True)


def _databases(url: str | None, data_directory: Path | None) -> Sequence[tuple[Place, sa.MetaData]]:
    from lastunit.order.schema import ORDER_METADATA
    from lastunit.order.serve import DATABASE_FILE
    from lastunit.service.database import place_of

    return [(place_of(url, data_directory, DATABASE_FILE), ORDER_METADATA)]


app.add_typer(database_app("order", _databases), name="database")


@app.callback()
def _group() -> None:
    """Places orders, starts payments and shows orders."""


@app.command()
def serve(
    *,
    ledger_address: Annotated[
        str,
        typer.Option(help="The ledger's data listener.", envvar="LASTUNIT_LEDGER_ADDRESS"),
    ],
    settlement_address: Annotated[
        str,
        typer.Option(
            help="The ledger's settlement listener.", envvar="LASTUNIT_SETTLEMENT_ADDRESS"
        ),
    ],
    account_address: Annotated[
        str, typer.Option(help="The account service.", envvar="LASTUNIT_ACCOUNT_ADDRESS")
    ],
    payment_address: Annotated[
        str, typer.Option(help="The payment service.", envvar="LASTUNIT_PAYMENT_ADDRESS")
    ],
    data_directory: Annotated[
        Path | None,
        typer.Option(help="Directory of order.sqlite.", envvar="LASTUNIT_ORDER_DATA_DIRECTORY"),
    ] = None,
    database: Annotated[
        str | None, typer.Option(help=DATABASE_HELP, envvar="LASTUNIT_ORDER_DATABASE")
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            help="host:port to listen on; port 0 takes a free one.",
            envvar="LASTUNIT_ORDER_ADDRESS",
        ),
    ] = "127.0.0.1:0",
    price: Annotated[
        list[str] | None,
        typer.Option(help="SKU=MINOR: price of a unit in minor units; may be repeated."),
    ] = None,
    default_price: Annotated[
        int, typer.Option(min=0, help="Price of every other SKU; 0: it is not sold.")
    ] = 0,
    currency: Annotated[str, typer.Option(help="ISO 4217, three capitals.")] = "CNY",
    price_file: Annotated[
        Path | None,
        typer.Option(
            help="TOML with prices, reductions, gifts and coupons, instead of the three above.",
            envvar="LASTUNIT_ORDER_PRICE_FILE",
        ),
    ] = None,
    provider: Annotated[
        str,
        typer.Option(help="The only payment provider to use; empty: the payment service chooses."),
    ] = "",
    database_rate: Annotated[
        float | None,
        typer.Option(
            "--database-rate",
            "--transactions-per-second",
            min=0.1,
            help="Slows the order database to so many transactions a second, settlement first.",
        ),
    ] = None,
    place_calls_max: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="PlaceOrder calls under way at once.")
    ] = 30_000,
    deadline_seconds: Annotated[
        float,
        typer.Option(min=0.1, max=600, help="For each call to another service, with retries."),
    ] = 20.0,
    is_gated: Annotated[
        bool,
        typer.Option(
            "--gate/--no-gate",
            help="Turn newcomers away while the gate of their sale is queueing or closed.",
        ),
    ] = True,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
) -> None:
    """Serves OrderService until SIGTERM.

    Prints {"event": "ready", "service": "order", "address": …} once it can be called.
    """
    # Here, so that --help is quick.
    import asyncio

    from lastunit.order.rebuild import RebuildUnderWayError
    from lastunit.order.serve import DATABASE_FILE, OrderProcess, serve_orders
    from lastunit.order.settings import OrderSettings
    from lastunit.prices import catalogue
    from lastunit.prices.quote import Prices
    from lastunit.service.database import place_of
    from lastunit.service.leadership import InUseError
    from lastunit.service.log import configure_logging

    configure_logging("order", level=log_level)
    if price_file is not None and (price or default_price):
        raise typer.BadParameter("--price-file goes without --price and --default-price")
    try:
        rules = (
            catalogue.plain(
                currency=currency,
                default_minor=default_price,
                by_sku=dict(map(_price, price or [])),
            )
            if price_file is None
            else catalogue.load(price_file)
        )
        settings = OrderSettings(provider=provider, place_calls_max=place_calls_max)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with told("order"):
        place = place_of(database, data_directory, DATABASE_FILE)
    process = OrderProcess(
        listen=address,
        database=place,
        ledger_address=ledger_address,
        settlement_address=settlement_address,
        account_address=account_address,
        payment_address=payment_address,
        deadline_seconds=deadline_seconds,
        transactions_per_second=database_rate,
        is_gated=is_gated,
    )
    try:
        with told("order"):
            asyncio.run(serve_orders(process, prices=Prices(rules), settings=settings))
    except (InUseError, RebuildUnderWayError) as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def rebuild(
    *,
    ledger_address: Annotated[
        str,
        typer.Option(help="The ledger's data listener.", envvar="LASTUNIT_LEDGER_ADDRESS"),
    ],
    data_directory: Annotated[
        Path | None,
        typer.Option(help="Directory of order.sqlite.", envvar="LASTUNIT_ORDER_DATA_DIRECTORY"),
    ] = None,
    database: Annotated[
        str | None, typer.Option(help=DATABASE_HELP, envvar="LASTUNIT_ORDER_DATABASE")
    ] = None,
    deadline_seconds: Annotated[
        float,
        typer.Option(min=0.1, max=600, help="For each call to the ledger, with retries."),
    ] = 60.0,
) -> None:
    """Makes what the order database derives from the ledger anew; no order service may run.

    Goes on where it stopped if it is run again. Exit status 1: some orders are not known any more.
    """
    import asyncio

    from lastunit.errors import LastunitError
    from lastunit.order.rebuilding import (
        RebuildProcess,
        progress_text,
        rebuild_orders,
        result_text,
    )
    from lastunit.order.serve import DATABASE_FILE
    from lastunit.service.database import place_of
    from lastunit.service.leadership import InUseError

    with told("order"):
        place = place_of(database, data_directory, DATABASE_FILE)
    if isinstance(place, Path) and not place.exists():
        raise typer.BadParameter(f"there is no {place}")
    process = RebuildProcess(
        database=place, ledger_address=ledger_address, deadline_seconds=deadline_seconds
    )
    try:
        with told("order"):
            rebuilt = asyncio.run(
                rebuild_orders(process, lambda progress: typer.echo(progress_text(progress)))
            )
    except InUseError as error:
        raise typer.BadParameter(str(error)) from error
    except LastunitError as error:
        typer.echo(f"stopped: {error}; run it again, it goes on from there", err=True)
        raise typer.Exit(1) from error
    typer.echo(result_text(rebuilt))
    if rebuilt.unknown:
        raise typer.Exit(1)


@app.command()
def explain(
    order_id: Annotated[str, typer.Argument(help="The order.")],
    *,
    address: Annotated[
        str, typer.Option(help="The order service.", envvar="LASTUNIT_ORDER_ADDRESS")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer's message as JSON.")
    ] = False,
    deadline_seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="For the call, with retries.")
    ] = 20.0,
) -> None:
    """Tells what happened to an order: here, in the ledger and at the payment service, by time.

    Exit status 1: there is no such order, or nobody answers.
    """
    import asyncio

    from google.protobuf import json_format

    from lastunit.errors import LastunitError
    from lastunit.order.explain_text import explanation_text
    from lastunit.order.peers import explain_order

    try:
        explained = asyncio.run(explain_order(address, order_id, deadline_seconds))
    except LastunitError as error:
        typer.echo(f"{address} did not explain {order_id}: {error}", err=True)
        raise typer.Exit(1) from error
    if explained.refusal:
        typer.echo(f"there is no order {order_id} at {address}", err=True)
        raise typer.Exit(1)
    text = json_format.MessageToJson(explained) if as_json else explanation_text(explained)
    typer.echo(text)


def _price(text: str) -> tuple[str, int]:
    sku, _, minor = text.rpartition("=")
    if not sku or not minor.isdecimal():
        raise ValueError(f"--price {text!r} is not SKU=MINOR, such as phone=84000")
    return sku, int(minor)


if __name__ == "__main__":
    app()
