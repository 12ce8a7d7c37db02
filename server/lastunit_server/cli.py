"""The command line of the ledger server: serve, audit, events, check-config.

Owns arguments, what is printed and the exit status; must not know how anything is done.

Exit status: 0 done, 1 a check failed, 2 a wrong argument or setting, 3 could not start, 4 the
journal failed while serving, 5 stopped before all work was finished, 6 the target can't be read.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from lastunit_server.errors import ServerError, SettingsError, StartError
from lastunit_server.exit_codes import ExitCode

__all__ = ["app", "main"]

app = typer.Typer(
    name="lastunit-server",
    help="Runs and inspects the stock ledger.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

# In the order of a unit's life.
COUNTERS = (
    "supplied",
    "withdrawn",
    "written_off",
    "available",
    "buffer",
    "held",
    "paying",
    "overdue",
    "sold",
    "quarantine",
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="A TOML file of settings.", metavar="FILE")
]
AdmissionOption = Annotated[
    Path | None,
    typer.Option(help="A TOML file of the admission policy; setting admission_file."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any setting, for example journal.segment_bytes=1048576.", metavar="KEY=VALUE"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DirectoryOption = Annotated[
    Path | None,
    typer.Option("--data-directory", help="A data directory; nothing is written."),
]
FromOption = Annotated[
    int, typer.Option("--from", min=1, max=2**63 - 1, help="The first sequence to print.")
]
LimitOption = Annotated[
    int | None, typer.Option(min=1, help="Stop after this many events.", show_default="no limit")
]


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
        str | None, typer.Option(help="Prometheus /metrics, host:port.", show_default="off")
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
        "admission_file": admission_file,
        "grace_seconds": grace_seconds,
        "log_level": log_level,
        "allow_insecure": True if allow_insecure else None,
    }
    _serve(config, flags, settings or [])


def _serve(config: Path | None, flags: dict[str, Any], pairs: list[str]) -> NoReturn:
    from lastunit_server import logs
    from lastunit_server.loading import load_policy, load_settings
    from lastunit_server.serve import run

    try:
        checked = load_settings(config, flags=_as_flags(flags, pairs))
        policy = load_policy(checked.admission_file)
        logs.configure(checked.log_level)
        code = run(checked, policy)
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
    """Check settings and admission policy as serve would, and print what would hold."""
    from lastunit_server.loading import load_policy, load_settings

    flags = _as_flags({"admission_file": admission_file}, settings or [])
    try:
        checked = load_settings(config, flags=flags)
        policy = load_policy(checked.admission_file)
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
        "admission": {**policy.model_dump(mode="json"), "costs": policy.all_costs()},
    }
    if as_json:
        _print_json({"holds": True, "problems": [], **facts})
        return
    for line in _flat(facts):
        typer.echo(line)
    typer.echo("settings and admission policy are valid")


@app.command()
def audit(
    *,
    target: Annotated[
        str | None, typer.Option(help="A live server's settlement listener, host:port.")
    ] = None,
    data_directory: DirectoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every invariant of a ledger; exit status 1 if one does not hold."""
    from lastunit_server import inspection

    live, directory = _one_of(target, data_directory)
    try:
        if live:
            facts = inspection.live_audit(live)
        else:
            assert directory is not None
            facts = inspection.directory_audit(directory)
    except ServerError as error:
        _fail(error, ExitCode.NOT_REACHED)
    if as_json:
        _print_json(facts)
    else:
        _print_audit(facts)
    raise typer.Exit(ExitCode.OK if facts["holds"] else ExitCode.CHECK_FAILED)


@app.command()
def events(
    *,
    target: Annotated[
        str | None, typer.Option(help="A live server's data listener, host:port.")
    ] = None,
    data_directory: DirectoryOption = None,
    first: FromOption = 1,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with events to come; live server only.")
    ] = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the events of a ledger in their order, gap-free."""
    from lastunit_server import inspection

    live, directory = _one_of(target, data_directory)
    if directory and follow:
        raise typer.BadParameter("--follow needs --target: a directory at rest gets no events")
    after = first - 1
    try:
        if live:
            rows = inspection.live_events(live, after_sequence=after, is_following=follow)
        else:
            assert directory is not None
            rows = inspection.directory_events(directory, after_sequence=after)
        _print_events(islice(rows, limit), as_json=as_json)
    except ServerError as error:
        _fail(error, ExitCode.NOT_REACHED)
    except KeyboardInterrupt:
        # The way to end a follow.
        raise typer.Exit(ExitCode.OK) from None


def _one_of(target: str | None, directory: Path | None) -> tuple[str | None, Path | None]:
    if (target is None) == (directory is None):
        raise typer.BadParameter("pass either --target host:port or --data-directory DIRECTORY")
    return target, directory


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


def _print_audit(facts: dict[str, Any]) -> None:
    for pool in facts["pools"]:
        name = f"{pool['sale_id']}/{pool['sku']}/{pool['pool']}"
        counted = " ".join(f"{key}={pool[key]}" for key in COUNTERS if pool[key])
        typer.echo(f"{name}: {counted or 'no units'}")
    for state, count in facts["reservations"].items():
        typer.echo(f"reservations {state}: {count}")
    for found in facts["findings"]:
        typer.echo(f"BROKEN {found['invariant']} at {found['subject']}: {found['message']}")
    verdict = "every invariant holds" if facts["holds"] else "NOT every invariant holds"
    typer.echo(f"{verdict} as of sequence {facts['sequence']}, epoch {facts['epoch']}")


def _print_events(rows: Iterator[dict[str, Any]], *, as_json: bool) -> None:
    common = {"sequence", "time", "request_id", "caller", "sale_id", "reservation_id"}
    for row in rows:
        if as_json:
            _print_json(row)
            continue
        body = " ".join(
            f"{key} {json.dumps(value)}" for key, value in row.items() if key not in common
        )
        subject = row.get("reservation_id") or row.get("sale_id") or "-"
        typer.echo(f"{row['sequence']:>10} {row.get('time', '-')} {subject} {body}")


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


def main() -> None:
    """Runs the command line; the console script `lastunit-server`."""
    app()


if __name__ == "__main__":
    main()
