"""Shows results of the replay in the terminal.

Owns: the columns and which figures are good or bad. Must not compute results.
Next: ``report.py`` shows the same on a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.replay.result import RunResult

__all__ = ["COLUMNS", "figures", "rich_table"]

COLUMNS = (
    "run",
    "design",
    "charged",
    "honoured",
    "oversold",
    "refunded",
    "wait p99/max s",
    "last sale s",
    "turnover",
)


def figures(result: RunResult) -> tuple[tuple[str, str], ...]:
    """Gives the text and the tone (``good``, ``bad`` or empty) of each column."""
    waits = (result.callback_wait_p99, result.callback_wait_max)
    wait = " / ".join("-" if each is None else f"{each:,.2f}" for each in waits)
    honoured_tone = "bad" if result.oversold else ""
    return (
        (result.design, ""),
        (f"{result.title} ({result.engine})", "words"),
        (f"{result.charged:,}", ""),
        (f"{result.honoured:,}", honoured_tone),
        (f"{result.oversold:,}", "bad" if result.oversold else "good"),
        (f"{result.refunded:,}", "bad" if result.refunded else "good"),
        (wait, ""),
        (f"{result.last_sale_seconds:,.0f}", ""),
        (f"{result.turnover:,}", ""),
    )


def rich_table(results: Sequence[RunResult]) -> Table:
    """Renders the results as a table for the terminal."""
    first = results[0]
    table = Table(
        title=f"{first.buyers:,} buyers, {first.units:,} units, random seed {first.seed}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    styles = {"good": "green", "bad": "bold red", "words": "", "": ""}
    for index, name in enumerate(COLUMNS):
        is_words = index <= COLUMNS.index("design")
        table.add_column(name, justify="left" if is_words else "right", no_wrap=not is_words)
    for result in results:
        table.add_row(*(Text(text, style=styles[tone]) for text, tone in figures(result)))
    return table
