"""`lastunit admission simulate`: what another policy would have done with recorded arrivals.

Owns nothing: the replay is the server's own code, so the command hands its arguments over to
`lastunit-server simulate` of the same installation, which checks and explains them.

Exit status: 0 done, 1 the server is not installed, 2 a wrong argument, recording or policy.
"""

from __future__ import annotations

import importlib.util
import runpy
import sys

import typer

__all__ = ["HANDED_OVER", "simulate"]

_MISSING_EXIT = 1
# Nothing is read here, `--help` included.
HANDED_OVER = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def simulate(context: typer.Context) -> None:
    """Replay recorded arrivals against another policy, beside what the live one did."""
    if importlib.util.find_spec("lastunit_server") is None:
        typer.echo("a replay needs the server's code: pip install lastunit-server", err=True)
        raise typer.Exit(_MISSING_EXIT)
    sys.argv = ["lastunit-server", "simulate", *context.args]
    runpy.run_module("lastunit_server", run_name="__main__")
