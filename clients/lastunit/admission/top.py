"""`lastunit admission top`: what is let in and what is refused, now.

Owns asking the server and drawing. Must not reckon: `sample` does. It asks the settlement listener,
which answers while reservations storm.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lastunit.admission.sample import Sample, lane_name, rank, rates_between
from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit.admission.way import TARGET_DEFAULT, USAGE_EXIT, TargetOption, open_peer, pages
from lastunit.errors import LastunitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from lastunit.admission.sample import Rates
    from lastunit.client.peer import PeerClient

__all__ = ["top"]

_PAGE_SIZE: Final = 1_000
_DEADLINE_SECONDS: Final = 5.0
_UNREACHED_EXIT: Final = 1
_UNKNOWN: Final = "-"


def top(
    *,
    target: TargetOption = TARGET_DEFAULT,
    interval: Annotated[
        float, typer.Option(min=0.1, max=60.0, help="Seconds between two looks.")
    ] = 1.0,
    callers: Annotated[
        int, typer.Option(min=0, max=1_000, help="How many callers are listed.")
    ] = 15,
    once: Annotated[bool, typer.Option("--once", help="Look twice, print, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a look.")] = False,
) -> None:
    """Show lanes and callers live: offered, admitted and refused a second, and in flight.

    Ends with Ctrl-C, or with --once after one interval. Exit status 1: the server was not reached.
    """
    shown = _Shown(target, interval, callers, once=once, as_json=as_json)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(shown.run())
    if shown.is_lost:
        raise typer.Exit(_UNREACHED_EXIT)


class _Shown:
    """One run of the command."""

    def __init__(
        self, target: str, interval: float, callers: int, *, once: bool, as_json: bool
    ) -> None:
        self._target = target
        self._interval = interval
        self._callers = callers
        self._is_once = once
        self._is_json = as_json
        self.is_lost = False

    async def run(self) -> None:
        """Looks until told to end."""
        try:
            peer = open_peer(self._target, _DEADLINE_SECONDS)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"lastunit admission top: {error}\n")
            raise typer.Exit(USAGE_EXIT) from error
        try:
            if self._is_json or self._is_once:
                await self._print(peer)
            else:
                await self._draw(peer)
        finally:
            await peer.close()

    async def _print(self, peer: PeerClient) -> None:
        console = Console(soft_wrap=True)
        async for found in self._looks(peer):
            if isinstance(found, str):
                self._tell_lost(found)
                if self._is_once:
                    return
                continue
            self.is_lost = False
            lanes, callers = found
            if self._is_json:
                line = {
                    "target": self._target,
                    "lanes": [row.as_json() for row in lanes],
                    "callers": [row.as_json() for row in callers],
                }
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
            else:
                console.print(_page(self._target, lanes, callers))
            if self._is_once:
                return

    async def _draw(self, peer: PeerClient) -> None:
        with Live(Text(f"asking {self._target} …"), auto_refresh=False) as live:
            async for found in self._looks(peer):
                if isinstance(found, str):
                    note = Text(f"{self._target} is not reached: {found}; trying again", "bold red")
                    live.update(note, refresh=True)
                else:
                    live.update(_page(self._target, *found), refresh=True)

    async def _looks(
        self, peer: PeerClient
    ) -> AsyncIterator[tuple[list[Rates], list[Rates]] | str]:
        """Yields rates once an interval, or why there are none."""
        before: Sample | None = None
        while True:
            try:
                after = await _ask(peer)
            except LastunitError as error:
                before = None
                yield str(error)
            else:
                if before is not None:
                    yield self._rates(before, after)
                before = after
            await asyncio.sleep(self._interval)

    def _rates(self, before: Sample, after: Sample) -> tuple[list[Rates], list[Rates]]:
        seconds = after.seconds - before.seconds
        lanes = rates_between(before.lanes, after.lanes, seconds)
        callers = rates_between(before.callers, after.callers, seconds)
        return lanes, rank(callers, self._callers)

    def _tell_lost(self, why: str) -> None:
        self.is_lost = True
        sys.stderr.write(f"lastunit admission top: {self._target}: {why}\n")


async def _ask(peer: PeerClient) -> Sample:
    """Asks for all counts; callers come in pages."""
    lanes: dict[str, messages.AdmissionCounts] = {}
    callers: dict[str, messages.AdmissionCounts] = {}
    request = messages.GetAdmissionStatsRequest(page_size=_PAGE_SIZE)
    response_type = messages.GetAdmissionStatsResponse
    async for page in pages(peer, "GetAdmissionStats", request, response_type):
        lanes = {lane_name(counts.lane): counts for counts in page.lanes}
        callers |= {counts.caller: counts for counts in page.callers}
    return Sample(time.monotonic(), lanes, callers)


def _page(target: str, lanes: Sequence[Rates], callers: Sequence[Rates]) -> Group:
    title = Text(f"{target}  {time.strftime('%H:%M:%S')}  refused: since its start")
    return Group(title, _table("lane", lanes), _table("caller", callers))


def _table(kind: str, rows: Sequence[Rates]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(kind, min_width=14)
    columns = ["offered/s", "admitted/s", "refused/s", "refused %", "refused"]
    if kind == "lane":
        columns += ["in flight", "waiting"]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        cells: list[Any] = [
            row.name,
            _rate(row.offered),
            _rate(row.admitted),
            _rate(row.refused),
            _share(row.refused_share),
            f"{row.counts.refused_count:,}",
        ]
        if kind == "lane":
            cells += [f"{row.counts.in_flight_count:,}", f"{row.counts.waiting_count:,}"]
        table.add_row(*cells, style="bold red" if row.refused else None)
    return table


def _rate(rate: float | None) -> str:
    return _UNKNOWN if rate is None else f"{rate:,.1f}"


def _share(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{share:.1%}"
