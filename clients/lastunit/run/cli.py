"""The command ``lastunit run``.

Owns flags, signals and the exit status. Must not run the sale itself. Next: ``job.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lastunit.run.sale import (
    Buyers,
    Pool,
    Provider,
    Run,
    Sale,
    SaleFile,
    SaleFileError,
    load_sale,
    resized,
)

if TYPE_CHECKING:
    from lastunit.run.job import JobOptions

__all__ = ["app"]

app = typer.Typer(help="Runs a whole sale with real services on this machine.")

_OK, _CHECK_FAILED, _USAGE, _BROKEN, _INTERRUPTED = 0, 1, 2, 3, 130

SALE_FILE: Final = Path("examples/flash-sale.toml")


@app.command()
def run(  # noqa: PLR0917 - each is an option of the command
    sale: Annotated[Path, typer.Option(help="TOML file that describes the sale.")] = SALE_FILE,
    is_incident: Annotated[  # noqa: FBT002 - an option of the command
        bool, typer.Option("--incident", help="Run the sale of the incident instead of a file.")
    ] = False,
    is_exit: Annotated[  # noqa: FBT002 - an option of the command
        bool,
        typer.Option("--exit", help="Stop after the result; status 0 only if every check held."),
    ] = False,
    is_json: Annotated[  # noqa: FBT002 - an option of the command
        bool, typer.Option("--json", help="Put one JSON object on the last line.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Where the page with the curves goes.")] = None,
    data_directory: Annotated[
        Path | None,
        typer.Option(help="Where data and logs go; must be empty. A new one by default."),
    ] = None,
    buyers: Annotated[int | None, typer.Option(help="Buyers instead of the file's.")] = None,
    units: Annotated[int | None, typer.Option(help="Units instead of the file's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed instead of the file's.")] = None,
    buyer_processes: Annotated[
        int, typer.Option(min=1, max=64, help="Processes that the buyers share.")
    ] = 2,
    kill_ledger_after: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=3_600, help="kill -9 the ledger so many seconds after the buyers came."
        ),
    ] = None,
    ledger_set: Annotated[
        list[str] | None,
        typer.Option(
            help="A setting of the ledger server, such as console.address=127.0.0.1:7406.",
            metavar="KEY=VALUE",
        ),
    ] = None,
) -> None:
    """Starts every service, sells everything to thousands of buyers, and checks the result.

    Without --exit everything keeps running afterwards, for grpcurl and ghz, until Ctrl-C.
    """
    try:
        file = resized(_incident() if is_incident else load_sale(sale), buyers=buyers, units=units)
    except SaleFileError as error:
        sys.stderr.write(f"lastunit run: {error}\n")
        raise typer.Exit(_USAGE) from error
    if seed is not None:
        file = dataclasses.replace(file, run=dataclasses.replace(file.run, seed=seed))
    status = _start(
        file,
        is_exit=is_exit,
        is_json=is_json,
        html=html,
        directory=data_directory,
        buyer_processes=buyer_processes,
        kill_ledger_after=kill_ledger_after,
        ledger_settings=tuple(ledger_set or ()),
    )
    raise typer.Exit(status)


def _incident() -> SaleFile:
    """Gives the sale of the incident, which needs no file."""
    return SaleFile(
        sale=Sale(sale_id="incident", sku="unit", unit_amount_minor=84_000),
        pools=(Pool(pool="main", units=2_000),),
        buyers=Buyers(think_seconds=200.0),
        provider=Provider(),
        run=Run(),
    )


def _start(
    file: SaleFile,
    *,
    is_exit: bool,
    is_json: bool,
    html: Path | None,
    directory: Path | None = None,
    buyer_processes: int = 2,
    kill_ledger_after: float | None = None,
    ledger_settings: tuple[str, ...] = (),
) -> int:
    from lastunit.run.job import JobOptions

    if directory is None:
        directory = Path(tempfile.mkdtemp(prefix="lastunit-run-"))
    elif directory.exists() and any(directory.iterdir()):
        sys.stderr.write(f"lastunit run: {directory} is not empty; give an empty directory\n")
        return _USAGE
    else:
        directory.mkdir(parents=True, exist_ok=True)
    options = JobOptions(
        directory=directory,
        html=html or directory / "sale.html",
        buyer_processes=buyer_processes,
        kill_ledger_after=kill_ledger_after,
        ledger_settings=ledger_settings,
    )
    return asyncio.run(_until_stopped(file, options, is_exit=is_exit, is_json=is_json))


async def _until_stopped(
    file: SaleFile, options: JobOptions, *, is_exit: bool, is_json: bool
) -> int:
    """Runs the job; the first signal stops it in order, a second one at once."""
    from lastunit.run.job import Job
    from lastunit.run.opening import OpeningError
    from lastunit.run.view import View
    from lastunit.service.children import ChildError

    view = View(file, is_json=is_json)
    job = Job(file, options, view)
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        await job.run()
        _show(job, is_json=is_json, is_last=is_exit)
        if not is_exit:
            view.show_lines_to_type(job.services)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        view.say("stopping")
        # The outcome stands if there is one; Ctrl-C is how a reader ends the serving.
        if not job.outcome.checks:
            return _INTERRUPTED
    except (ChildError, OpeningError) as error:
        sys.stderr.write(f"lastunit run: {error}\n")
        return _BROKEN
    finally:
        await _stop(job)
    return _OK if job.outcome.holds else _CHECK_FAILED


def _show(job: object, *, is_json: bool, is_last: bool) -> None:
    """Prints the result; the JSON line comes last if the program ends now."""
    from lastunit.run.job import Job, as_json

    assert isinstance(job, Job)
    job.view.show_outcome(job.outcome)
    job.view.say(f"took {job.seconds:.1f} s; the curves are in {job.options.html}")
    if is_json:
        sys.stdout.write(json.dumps(as_json(job), separators=(",", ":")) + "\n")
        sys.stdout.flush()
    del is_last


async def _stop(job: object) -> None:
    """Stops all children even if a second signal comes meanwhile."""
    from lastunit.run.job import Job

    assert isinstance(job, Job)
    stopping = asyncio.ensure_future(job.stop())
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.shield(stopping)
    if not stopping.done():
        stopping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopping


if __name__ == "__main__":
    app()
