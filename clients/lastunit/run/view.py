"""Shows the sale in the terminal while it runs, and its result.

Owns what the reader sees. Must not count anything itself. Next: ``job.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from lastunit.run.checks import Outcome
    from lastunit.run.sale import SaleFile
    from lastunit.run.services import Services
    from lastunit.run.watch import LiveSample

__all__ = ["View"]

_BAR_WIDTH: Final = 44
_PLAIN_WIDTH: Final = 110
_PLAIN_SECONDS: Final = 5.0
_REASONS_SHOWN: Final = 6
_STOCK: Final = "lastunit.stock.v1.StockService"
_PLACES: Final = (
    ("sold", "green"),
    ("paying", "blue"),
    ("overdue", "magenta"),
    ("held", "yellow"),
    ("available", "bright_black"),
)


class View:
    """The terminal of one run.

    Args:
        file: What is sold.
        is_json: Whether standard output is kept for the one JSON line.
    """

    def __init__(self, file: SaleFile, *, is_json: bool) -> None:
        self._file = file
        self.console = Console(stderr=is_json)
        if not self.console.is_terminal:
            self.console = Console(stderr=is_json, width=_PLAIN_WIDTH)
        self._live: Live | None = None
        self._told_seconds = -_PLAIN_SECONDS

    def say(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, highlight=False)

    def __enter__(self) -> Self:
        """Begins the live part."""
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends the live part."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def show(self, samples: Sequence[LiveSample]) -> None:
        """Shows the newest sample."""
        sample = samples[-1]
        if self._live is not None:
            self._live.update(self._picture(samples))
        elif sample.seconds - self._told_seconds >= _PLAIN_SECONDS:
            self._told_seconds = sample.seconds
            self.say(
                f"{sample.seconds:6.1f} s  final answers {sample.ended:,} of "
                f"{self._file.buyers.count:,}  sold {sample.sold:,}  paying {sample.paying:,}  "
                f"held {sample.held:,}  available {sample.available:,}  "
                f"{calls_per_second(samples):,.0f} calls/s"
                + ("" if sample.is_ledger_up else "  (no answer from the ledger)")
            )

    def _picture(self, samples: Sequence[LiveSample]) -> Group:
        sample, buyers = samples[-1], self._file.buyers.count
        grid = Table.grid(padding=(0, 2))
        grid.add_row("buyers with a final answer", _bar(sample.ended, buyers, "cyan"))
        for place, style in _PLACES:
            grid.add_row(f"units {place}", _bar(getattr(sample, place), self._file.units, style))
        facts = (
            f"[bold]{sample.seconds:5.1f} s[/bold]   "
            f"{calls_per_second(samples):,.0f} calls/s, {sample.in_flight:,} in flight   "
            f"charged {sample.charged:,}, shown as paid {sample.paid:,}, "
            f"refunded {sample.refunded:,}"
        )
        if not sample.is_ledger_up:
            facts += "   [bold red]the ledger does not answer[/bold red]"
        reasons = sorted(sample.refusals.items(), key=lambda each: -each[1])[:_REASONS_SHOWN]
        told = "   ".join(f"{name} {count:,}" for name, count in reasons) or "none yet"
        return Group(grid, Text.from_markup(facts), Text(f"refusals: {told}"))

    def show_outcome(self, outcome: Outcome) -> None:
        """Prints the result, the pools and the checks."""
        table = Table(title="Pools", title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("pool")
        names = ("supplied", "available", "buffer", "held", "paying", "overdue", "sold")
        for name in names:
            table.add_column(name, justify="right")
        for pool, counters in outcome.pools.items():
            table.add_row(pool, *(f"{counters[name]:,}" for name in names))
        self.console.print(table)
        endings = ", ".join(f"{k} {v:,}" for k, v in sorted(outcome.endings.items()))
        self.say(f"buyers: {endings}")
        self.say(
            f"[bold]sold {outcome.sold:,}[/bold], oversold {outcome.oversold:,}, "
            f"unsold while a buyer waits {outcome.unsold_with_waiting_buyers:,}, "
            f"paid without unit or refund {outcome.paid_without_unit_or_refund:,}"
        )
        for name, holds in outcome.checks.items():
            self.say(
                f"  {'[green]holds[/green]' if holds else '[bold red]FAILS[/bold red]'}  {name}"
            )
        for note in outcome.notes[:20]:
            self.say(f"  [red]{note}[/red]")

    def show_lines_to_type(self, services: Services) -> None:
        """Prints how to call the servers that are still running."""
        sale = self._file.sale
        # One unit for a person of its own per call: ghz fills in the number of the request.
        reserve = (
            '{"reservation_id":"ghz-{{.RequestNumber}}-{{.WorkerID}}",'
            f'"sale_id":"{sale.sale_id}","person_id":"ghz-{{{{.RequestNumber}}}}",'
            f'"lines":[{{"sku":"{sale.sku}","units":"1"}}]}}'
        )
        self.console.rule()
        self.say("Everything keeps running until Ctrl-C. Lines to type in another terminal:")
        data, settlement = services.ledger_address, services.settlement_address
        availability = f'{{"sale_id":"{sale.sale_id}"}}'
        for line in (
            f"grpcurl -plaintext {data} list",
            f"grpcurl -plaintext -d '{availability}' {data} {_STOCK}/GetAvailability",
            f"grpcurl -plaintext {settlement} lastunit.stock.v1.StockAdminService/Audit",
            f"ghz --insecure --call {_STOCK}/Reserve -n 20000 -c 64 -d '{reserve}' {data}",
        ):
            self.console.print(line, style="bold", soft_wrap=True, highlight=False, markup=False)


def calls_per_second(samples: Sequence[LiveSample]) -> float:
    """Computes the rate of the buyers' calls over the last seconds."""
    newest = samples[-1]
    oldest = next(each for each in samples if newest.seconds - each.seconds <= 3.0)  # noqa: PLR2004
    passed = newest.seconds - oldest.seconds
    return (newest.calls - oldest.calls) / passed if passed > 0 else 0.0


def _bar(value: int, total: int, style: str) -> Table:
    row = Table.grid(padding=(0, 1))
    bar = ProgressBar(
        total=max(total, 1),
        completed=value,
        width=_BAR_WIDTH,
        complete_style=style,
        finished_style=style,
    )
    row.add_row(bar, f"{value:,}")
    return row
