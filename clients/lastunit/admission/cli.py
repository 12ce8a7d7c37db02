"""The command `lastunit admission`: what is let in, watched from a terminal.

Owns the list of its words. Must not do their work. Next: `top`.
"""

from __future__ import annotations

import typer

from lastunit.admission.top import top

__all__ = ["app"]

app = typer.Typer(help="Shows how work is let into a ledger.", no_args_is_help=True)
app.command()(top)


@app.callback()
def _admission() -> None:
    """Shows how work is let into a ledger."""
