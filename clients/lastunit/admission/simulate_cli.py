"""`lastunit admission simulate`: what another policy would have done with recorded arrivals.

Owns nothing: the replay is the server's own code, so the command hands over to `lastunit-server
simulate` of the same installation.

Exit status: 0 done, 1 the server is not installed, 2 a wrong argument, recording or policy.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Annotated

import typer

__all__ = ["simulate"]

_MISSING_EXIT = 1


def simulate(
    recording: Annotated[
        Path, typer.Argument(help="What was recorded: arrivals.directory, or one file of it.")
    ],
    *,
    policy: Annotated[Path, typer.Option(help="The TOML file of the other policy.")],
    against: Annotated[
        Path | None,
        typer.Option(help="The policy that was live: tells how well the replay reproduces it."),
    ] = None,
    service_ms: Annotated[
        float | None,
        typer.Option(
            min=0, max=3_600_000, help="How long a call is in flight.", show_default="as recorded"
        ),
    ] = None,
    persisted_per_second: Annotated[
        float | None,
        typer.Option(
            min=0.001,
            max=1_000_000,
            help="What the order database persists, for the credit window.",
            show_default="as reported",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay recorded arrivals against another policy, beside what the live one did."""
    if importlib.util.find_spec("lastunit_server") is None:
        typer.echo("a replay needs the server's code: pip install lastunit-server", err=True)
        raise typer.Exit(_MISSING_EXIT)
    command = ["lastunit-server", "simulate", str(recording), "--policy", str(policy)]
    if against is not None:
        command += ["--against", str(against)]
    if service_ms is not None:
        command += ["--service-ms", str(service_ms)]
    if persisted_per_second is not None:
        command += ["--persisted-per-second", str(persisted_per_second)]
    if as_json:
        command.append("--json")
    sys.argv = command
    runpy.run_module("lastunit_server", run_name="__main__")
