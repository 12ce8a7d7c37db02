"""The command line of the ledger server: serve, check-config, make-token, and what inspects.

What looks into a ledger (audit, events, show, explain, verify) is in `inspection_cli`, what advises
limits in `advise_cli`, what replays arrivals in `simulation_cli`.

Owns arguments, what is printed and the exit status; must not know how anything is done.

Exit status: 0 done, 1 a check failed, 2 a wrong argument or setting, 3 could not start, 4 the
journal failed while serving, 5 stopped before all work was finished, 6 the target can't be read,
7 nothing could be saved of a damaged journal.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from lastunit_server import inspection_cli, simulation_cli
from lastunit_server.advise_cli import advise
from lastunit_server.errors import SettingsError, StartError
from lastunit_server.exit_codes import ExitCode

if TYPE_CHECKING:
    from lastunit_server.settings import Settings

__all__ = ["app", "main"]

app = typer.Typer(
    name="lastunit-server",
    help="Runs and inspects the stock ledger.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")
]
AdmissionOption = Annotated[
    Path | None,
    typer.Option(help="A TOML file of the admission policy; setting admission_file."),
]
PolicyOption = Annotated[
    Path | None,
    typer.Option("--policy", help="The same as --admission-file.", metavar="FILE"),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any setting, for example journal.segment_bytes=1048576.", metavar="KEY=VALUE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def serve(
    *,
    config: ConfigOption = None,
    data_directory: Annotated[
        Path | None, typer.Option(help="Where the journal lives.", show_default="lastunit-data")
    ] = None,
    data_address: Annotated[
        str | None,
        typer.Option(help="Reservations and reads, host:port.", show_default="127.0.0.1:7400"),
    ] = None,
    settlement_address: Annotated[
        str | None,
        typer.Option(help="Settlement and control, host:port.", show_default="127.0.0.1:7401"),
    ] = None,
    metrics_address: Annotated[
        str | None,
        typer.Option(
            help="Prometheus /metrics, host:port, or '' for none.", show_default="127.0.0.1:7404"
        ),
    ] = None,
    clock: Annotated[
        str | None, typer.Option(help="system or manual.", show_default="system")
    ] = None,
    manual_start_ms: Annotated[
        str | None, typer.Option(help="First time of a manual clock.", show_default="0")
    ] = None,
    durability: Annotated[
        str | None, typer.Option(help="flushed, written or memory.", show_default="flushed")
    ] = None,
    admission_file: AdmissionOption = None,
    policy: PolicyOption = None,
    grace_seconds: Annotated[
        str | None, typer.Option(help="How long a stop may take.", show_default="20")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error.", show_default="info")
    ] = None,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", help="Listen beyond loopback without encryption.")
    ] = False,
    settings: SetOption = None,
) -> None:
    """Serve the ledger until SIGTERM or SIGINT.

    Prints one JSON line when ready; logs JSON lines to standard error.
    """
    flags = {
        "data_directory": data_directory,
        "data.address": data_address,
        "settlement.address": settlement_address,
        "metrics.address": metrics_address,
        "clock": clock,
        "manual_start_ms": manual_start_ms,
        "journal.durability": durability,
        "admission_file": policy or admission_file,
        "grace_seconds": grace_seconds,
        "log_level": log_level,
        "allow_insecure": True if allow_insecure else None,
    }
    _serve(config, flags, settings or [])


def _serve(config: Path | None, flags: dict[str, Any], pairs: list[str]) -> NoReturn:
    from lastunit_server import logs
    from lastunit_server.loading import load_policy, load_settings
    from lastunit_server.reloading import load_security
    from lastunit_server.serve import run
    from lastunit_server.stamps import stamp

    texts = _as_flags(flags, pairs)

    def read_settings() -> "Settings":
        return load_settings(config, flags=texts)

    try:
        # Before it is read: what is written from now on is a change.
        config_stamp = stamp(config) if config else None
        checked = read_settings()
        policy = load_policy(checked.admission_file)
        security = load_security(checked)
        logs.configure(checked.log_level)
        code = run(
            checked,
            policy,
            security,
            read_settings=read_settings,
            config_file=config,
            config_stamp=config_stamp,
        )
    except SettingsError as error:
        _fail(error, ExitCode.USAGE)
    except StartError as error:
        _fail(error, ExitCode.NOT_STARTED)
    raise typer.Exit(code)


@app.command("check-config")
def check_config(
    *,
    config: ConfigOption = None,
    admission_file: AdmissionOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check settings, admission policy, certificates and tokens; print what would hold."""
    from lastunit_server.loading import load_policy, load_settings
    from lastunit_server.reloading import load_security

    flags = _as_flags({"admission_file": admission_file}, settings or [])
    try:
        checked = load_settings(config, flags=flags)
        policy = load_policy(checked.admission_file)
        load_security(checked)
    except SettingsError as error:
        if as_json:
            problems = [
                {"source": p.source, "key": p.key, "message": p.message, "advice": p.advice}
                for p in error.problems
            ]
            _print_json({"holds": False, "problems": problems})
            raise typer.Exit(ExitCode.USAGE) from error
        _fail(error, ExitCode.USAGE)
    facts = {
        "settings": checked.model_dump(mode="json"),
        "admission": policy.settings,
    }
    if as_json:
        _print_json({"holds": True, "problems": [], **facts})
        return
    for line in _flat(facts):
        typer.echo(line)
    typer.echo("settings and admission policy are valid")


@app.command("make-token")
def make_token(
    *,
    caller: Annotated[str, typer.Option(help="Whom the token names.")],
    identifier: Annotated[
        str | None, typer.Option("--id", help="The row's id; made up if left out.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="Days until it ends.", show_default="never")
    ] = None,
) -> None:
    """Make a bearer token: the token on standard output, its row for the tokens file beside it.

    The row goes to standard error, so that neither ends up in the other's file. The token is not
    kept anywhere.
    """
    from pydantic import ValidationError

    from lastunit_server.tokens import new_token

    expires = None
    if days is not None:
        expires = datetime.now(tz=UTC).replace(microsecond=0) + timedelta(days=days)
    try:
        token, row = new_token(caller, identifier=identifier, expires=expires)
    except ValidationError as error:
        raise typer.BadParameter("caller and id are 1 to 64 of [A-Za-z0-9_:-]") from error
    typer.echo(row, err=True)
    typer.echo(token)


def _as_flags(flags: dict[str, Any], pairs: list[str]) -> dict[str, str]:
    texts = {key: str(value) for key, value in flags.items() if value is not None}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set {pair!r} is not KEY=VALUE")
        texts[key] = value
    return texts


def _print_json(facts: dict[str, Any]) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=False))


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in facts.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{name}.")
        else:
            yield f"{name} = {json.dumps(value)}"


def _fail(error: Exception, code: ExitCode) -> NoReturn:
    typer.echo(str(error), err=True)
    raise typer.Exit(code) from error


inspection_cli.register(app)
app.command()(advise)
simulation_cli.register(app)


def main() -> None:
    """Runs the command line; the console script `lastunit-server`."""
    app()


if __name__ == "__main__":
    main()
