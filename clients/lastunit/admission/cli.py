"""The command `lastunit admission`: what is let in, watched and steered from a terminal.

Owns the list of its words. Must not do their work. Next: `top`, `gate_cli`, …
"""

from __future__ import annotations

import typer

from lastunit.admission import gate_cli, policy_cli
from lastunit.admission.advise_cli import advise
from lastunit.admission.simulate_cli import HANDED_OVER, simulate
from lastunit.admission.top import top

__all__ = ["app"]

app = typer.Typer(help="Shows and steers how work is let into a ledger.", no_args_is_help=True)
app.command()(top)
app.command()(advise)
app.command(context_settings=HANDED_OVER)(simulate)
app.add_typer(gate_cli.app, name="gate")
policy_cli.register(app)


@app.callback()
def _admission() -> None:
    """Shows and steers how work is let into a ledger."""
