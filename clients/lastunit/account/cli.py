"""The command line of the account service.

Owns the flags. Must not hold rules. Next: `lastunit.account.process`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path  # noqa: TC003 - typer reads it when it runs
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastunit.account import desk_cli
from lastunit.account.keys_cli import app as keys_app
from lastunit.service.database_cli import DATABASE_HELP, database_app, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from lastunit.account.settings import AccountSettings
    from lastunit.service.database import Place

__all__ = ["app"]

app = typer.Typer(
    name="account",
    help="The account service: who stands behind a login.",
    no_args_is_help=True,
    add_completion=False,
)


def _databases(url: str | None, data_directory: Path | None) -> Sequence[tuple[Place, sa.MetaData]]:
    from lastunit.account import _tables, process
    from lastunit.service.database import place_of

    return [(place_of(url, data_directory, process.DATABASE_FILE), _tables.metadata)]


app.add_typer(database_app("account", _databases), name="database")
app.add_typer(keys_app, name="keys")
for command in (
    desk_cli.find,
    desk_cli.explain,
    desk_cli.claims,
    desk_cli.approve,
    desk_cli.reject,
    desk_cli.reverse,
):
    app.command()(command)


@app.callback()
def _group() -> None:
    """The account service: who stands behind a login."""


@app.command()
def serve(
    *,
    data_directory: Annotated[
        Path,
        typer.Option(
            "--data-directory",
            help="Directory of the database and the key; made if it is missing.",
            file_okay=False,
        ),
    ],
    database: Annotated[
        str | None,
        typer.Option("--database", help=DATABASE_HELP, envvar="LASTUNIT_ACCOUNT_DATABASE"),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", "--address", help="Address to serve on, host:port; port 0 takes a free one."
        ),
    ] = "127.0.0.1:7501",
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            help="Keys that personal data is hidden with, mode 0600; "
            "by default account.key in the data directory.",
            envvar="LASTUNIT_ACCOUNT_KEY_FILE",
            dir_okay=False,
        ),
    ] = None,
    settlement_address: Annotated[
        str | None,
        typer.Option(
            "--settlement-address",
            help="Settlement listener of the ledger that counts limits by persons; without it "
            "nothing that joins persons or parts them can be done.",
            envvar="LASTUNIT_SETTLEMENT_ADDRESS",
        ),
    ] = None,
    proofs: Annotated[
        str,
        typer.Option(
            "--proofs",
            help="code: who registers or logs in gives a code that was sent to them. "
            "none: nobody's word is checked; for simulations and measurements only.",
            envvar="LASTUNIT_ACCOUNT_PROOFS",
        ),
    ] = "code",
    sender: Annotated[
        str,
        typer.Option(
            "--sender",
            help="Who carries codes and notices. smtp: the mail server of LASTUNIT_ACCOUNT_SMTP_…. "
            "sandbox: messages.jsonl in the data directory, to try it out. none: nobody.",
            envvar="LASTUNIT_ACCOUNT_SENDER",
        ),
    ] = "none",
    name_checker: Annotated[
        str,
        typer.Option(
            "--name-checker",
            help="Who checks real names. http: the checker of LASTUNIT_ACCOUNT_CHECKER_URL. "
            "sandbox: by the number alone, to try it out. none: nobody, so none can be bound.",
            envvar="LASTUNIT_ACCOUNT_NAME_CHECKER",
        ),
    ] = "none",
    sign_ups_per_second: Annotated[
        float,
        typer.Option(
            help="Sign-ups let in in the long run, 0.1 to 100000; others are told when to come "
            "back.",
            envvar="LASTUNIT_ACCOUNT_SIGN_UPS_PER_SECOND",
        ),
    ] = 100.0,
    logins_per_second: Annotated[
        float,
        typer.Option(
            help="Logins let in in the long run, 0.1 to 100000, beside the sign-ups.",
            envvar="LASTUNIT_ACCOUNT_LOGINS_PER_SECOND",
        ),
    ] = 500.0,
    order_address: Annotated[
        str,
        typer.Option(
            help="The order service, host:port: it says whether an account may be closed. "
            "Empty: none can be.",
            envvar="LASTUNIT_ACCOUNT_ORDER_ADDRESS",
        ),
    ] = "",
    is_json: Annotated[
        bool,
        typer.Option("--json/--text", help="Print the ready line as JSON or as a sentence."),
    ] = True,
    log_level: Annotated[
        str, typer.Option("--log-level", help="DEBUG, INFO, WARNING or ERROR.")
    ] = "INFO",
) -> None:
    """Serve AccountService until SIGTERM or Ctrl-C."""
    from lastunit.account import process
    from lastunit.account.key_file import KeyFileError
    from lastunit.account.vault import KeyMismatchError
    from lastunit.service.log import configure_logging

    try:
        configure_logging("account", level=log_level)
    except ValueError:
        raise typer.BadParameter(
            f"{log_level} is no level; use DEBUG, INFO, WARNING or ERROR",
            param_hint="--log-level",
        ) from None
    try:
        settings = _settings(proofs, sender, name_checker, sign_ups_per_second, logins_per_second)
        carrier = process.open_sender(settings, data_directory, os.environ)
        checker = process.open_checker(settings, os.environ)
    except (ValueError, OSError) as error:
        typer.echo(f"account: {error}", err=True)
        raise typer.Exit(code=2) from error
    try:
        with told("account"):
            asyncio.run(
                process.serve(
                    listen=listen,
                    data_directory=data_directory,
                    database_url=database,
                    key_file=key_file,
                    is_json=is_json,
                    settings=settings,
                    sender=carrier,
                    order_address=order_address,
                    checker=checker,
                    settlement_address=settlement_address,
                )
            )
    except (KeyFileError, KeyMismatchError, OSError) as error:
        typer.echo(f"account: {error}", err=True)
        raise typer.Exit(code=2) from error


def _settings(
    proofs: str, sender: str, checker: str, sign_ups_per_second: float, logins_per_second: float
) -> AccountSettings:
    from dataclasses import replace

    from lastunit.account.settings import AccountSettings

    names: Any = {"proofs": proofs, "sender": sender, "checker": checker}
    # It checks the names itself.
    settings = AccountSettings(**names)
    return replace(
        settings,
        sign_up=replace(settings.sign_up, calls_per_second=sign_ups_per_second),
        login=replace(settings.login, calls_per_second=logins_per_second),
    )
