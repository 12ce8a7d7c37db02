"""The command ``lastunit replay``.

Owns flags, progress and where results go. Must not compute them. Next: ``designs.py``.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lastunit.replay.designs import (
    BUYERS_DEFAULT,
    BUYERS_MAX,
    DESIGNS,
    UNITS_DEFAULT,
    UNITS_MAX,
    Design,
    Engine,
    Setting,
    design_names,
)
from lastunit.replay.gate import gate_table
from lastunit.replay.model import run_model
from lastunit.replay.report import replay_page
from lastunit.replay.table import rich_table
from lastunit.service.children import ChildError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit.replay.result import RunResult, Sample

__all__ = ["app"]

app = typer.Typer(
    help="Replays the incident: 2,000 units that became 5,000 sold orders.",
    no_args_is_help=True,
)

_BROKEN = 3
"""Exit status when a child process could not be started or died."""

_PLAIN_WIDTH = 120
"""Columns of output that goes to a file or a pipe."""

_SHOWN_SECONDS = 3_600
"""Simulated seconds that fill the progress bar; a longer run stays at the end of it."""


@app.callback()
def _group() -> None:
    """Replays the incident: 2,000 units that became 5,000 sold orders."""


@app.command()
def designs() -> None:
    """Lists the designs and provider faults that can be replayed."""
    console = Console()
    for design in DESIGNS.values():
        console.print(f"[bold]{design.name:<4}[/bold] {design.title} ({design.engine.value})")


@app.command()
def gate(
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
) -> None:
    """Shows what the gate's longest queue does to callback waits and late payments."""
    Console().print(gate_table(Setting(seed=seed)))


@app.command()
def incident(  # noqa: PLR0917 - each is an option of the command
    design: Annotated[
        str,
        typer.Option(
            "--design",
            help="A0 to B7, several parted by commas, or: naive-vs-ours, naive, ours, all.",
        ),
    ] = "naive-vs-ours",
    seed: Annotated[int, typer.Option(help="Random seed of buyers, provider and faults.")] = 1,
    buyers: Annotated[int, typer.Option(min=1, max=BUYERS_MAX)] = BUYERS_DEFAULT,
    units: Annotated[int, typer.Option(min=1, max=UNITS_MAX)] = UNITS_DEFAULT,
    transactions_per_second: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=100_000.0,
            help="Rate of the order database. Without it the incident's 32.13 a second is "
            "scaled with the number of buyers.",
        ),
    ] = None,
    is_json: Annotated[  # noqa: FBT002 - an option of the command
        bool, typer.Option("--json", help="Put one JSON object on the last line.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the curves to this file.")
    ] = None,
    is_live: Annotated[  # noqa: FBT002 - an option of the command
        bool,
        typer.Option(
            "--live", help="Run our design in real time, at 1:10, against running servers."
        ),
    ] = False,
) -> None:
    """Replays the incident on a simulated clock, in the old designs and in ours.

    The old designs run as a model. Ours runs as the ledger server and the order and payment
    code themselves, driven by the same simulated clock.
    """
    if is_live:
        _become_live_run(buyers=buyers, units=units, seed=seed, is_json=is_json, html=html)
    setting = Setting(
        buyers=buyers, units=units, seed=seed, transactions_per_second=transactions_per_second
    )
    console = _console(is_json=is_json)
    try:
        chosen = [DESIGNS[name] for name in design_names(design)]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--design") from error
    try:
        results = [_run(each, setting, console) for each in chosen]
    except ChildError as error:
        sys.stderr.write(f"lastunit replay: {error}\n")
        raise typer.Exit(_BROKEN) from error
    console.print(rich_table(results))
    _tell_failed_checks(results, console)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(replay_page(results, ttl_seconds=setting.ttl_seconds), encoding="utf-8")
        console.print(f"The curves are in {html}")
    if is_json:
        sys.stdout.write(json.dumps(_as_json(results)) + "\n")
    if any(not all(each.checks.values()) for each in results):
        raise typer.Exit(1)


def _become_live_run(
    *, buyers: int, units: int, seed: int, is_json: bool, html: Path | None
) -> NoReturn:
    """Replaces this process by ``lastunit run`` with the sale of the incident."""
    words = ["run", "--incident", "--exit", f"--buyers={buyers}", f"--units={units}"]
    words += [f"--seed={seed}", *(["--json"] if is_json else [])]
    words += [f"--html={html}"] if html is not None else []
    program = [sys.executable, "-m", "lastunit.cli", *words]
    os.execv(sys.executable, program)  # noqa: S606 - our own command, no shell


def _console(*, is_json: bool) -> Console:
    """Opens the terminal; what is no terminal gets a width at which no figure is cut."""
    console = Console(stderr=is_json)
    return console if console.is_terminal else Console(stderr=is_json, width=_PLAIN_WIDTH)


def _run(design: Design, setting: Setting, console: Console) -> RunResult:
    """Runs one design and shows how far it is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(f"{design.name} {design.title}", total=_SHOWN_SECONDS, note="")

        def on_second(second: int, sample: Sample) -> None:
            if second % 10 == 0:
                note = f"{second // 60:3d}:{second % 60:02d}  sold {sample.honoured:,}"
                progress.update(task, completed=min(second, _SHOWN_SECONDS), note=note)

        return _runner(design)(design, setting, on_second)


def _runner(
    design: Design,
) -> Callable[[Design, Setting, Callable[[int, Sample], None]], RunResult]:
    if design.engine is Engine.MODEL:
        return lambda what, setting, on_second: run_model(what, setting, on_second=on_second)
    from lastunit.replay.ours import run_ours

    return lambda what, setting, on_second: run_ours(what, setting, on_second=on_second)


def _tell_failed_checks(results: list[RunResult], console: Console) -> None:
    for result in results:
        for name, holds in result.checks.items():
            if not holds:
                console.print(f"[bold red]{result.design}: {name} does not hold[/bold red]")


def _as_json(results: list[RunResult]) -> dict[str, object]:
    """Gives the figures of the last run at the top and those of every run under ``runs``.

    The last run is ours whenever ours is among them, so that the top level is what we answer for.
    """
    runs = [each.to_json() for each in results]
    real = [each for each in runs if each["engine"] == Engine.REAL]
    top: dict[str, object] = dict((real or runs)[-1])
    top["runs"] = runs
    return top
