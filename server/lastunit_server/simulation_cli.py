"""`lastunit-server simulate`: what another policy would have done with recorded arrivals.

Owns arguments and what is printed; must not count anything. Next: `simulation`.

Exit status: 0 done, 2 a wrong argument, recording or policy.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from lastunit_server.exit_codes import ExitCode
from lastunit_server.simulation import RecordingError, ReplayOptions, replay, reproduced_share

__all__ = ["register", "report_text"]

_CALLERS_SHOWN: Final = 20
_NAME_WIDTH: Final = 24
# Below this something else than the policy decided: docs/operating/simulate.md says what it can be.
_REPRODUCED_MIN: Final = 0.99
_COLUMNS: Final = ("offered", "served", "refused", "gone", "->", "served", "refused", "change")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("simulate")(simulate)


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
    options = ReplayOptions(service_ms, persisted_per_second)
    try:
        result = replay(recording, policy, options)
        checked = replay(recording, against, options) if against else None
    except RecordingError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(ExitCode.USAGE) from error
    if checked is not None:
        result["reproduced_share"] = reproduced_share(checked)
    typer.echo(json.dumps(result) if as_json else report_text(result))


def report_text(result: dict[str, Any]) -> str:
    """Draws the result for people: lanes, then callers, each recorded and as forecast."""
    lanes = [(name, lane) for name, lane in result["lanes"].items() if _offered(lane)]
    offered = sum(_offered(lane) for _name, lane in lanes)
    start = datetime.fromtimestamp(result["first_time_us"] / 1e6, tz=UTC)
    title = (
        f"{offered:,} arrivals in {result['span_seconds']:.1f} s from"
        f" {start.isoformat(timespec='seconds')}, {result['run_count']} start(s) of the server"
    )
    lines = [
        title,
        *_warnings(result),
        "",
        _row("lane", *_COLUMNS),
    ]
    for name, lane in lanes:
        lines.append(_counts(name, lane))
        lines += _reasons(lane)
        lines += _waits(lane)
    callers = result["callers"][:_CALLERS_SHOWN]
    lines += ["", _row("caller", *_COLUMNS)]
    lines += [_counts(row["caller"], row) for row in callers]
    if result["caller_count"] > len(callers):
        lines.append(f"and {result['caller_count'] - len(callers):,} more; --json lists 1,000")
    return "\n".join(lines)


def _warnings(result: dict[str, Any]) -> list[str]:
    lines = []
    if "reproduced_share" in result:
        share = result["reproduced_share"]
        lines.append(f"the live policy, replayed, decides {share:.2%} of them as was recorded")
        if share < _REPRODUCED_MIN:
            lines.append("do not trust this forecast: it was another policy, or one that changed")
    if result["dropped_count"]:
        lines.append(f"{result['dropped_count']:,} arrivals came too fast to be recorded")
    if result["damaged_bytes"]:
        lines.append(f"{result['damaged_bytes']:,} bytes are damaged; what was in them is missing")
    return lines


def _offered(row: dict[str, Any]) -> int:
    return int(row["live"]["offered_count"])


def _counts(name: str, row: dict[str, Any]) -> str:
    live, forecast = row["live"], row["forecast"]
    change = forecast["served_count"] - live["served_count"]
    return _row(
        name,
        f"{live['offered_count']:,}",
        f"{live['served_count']:,}",
        f"{live['refused_count']:,}",
        f"{live['hopeless_count']:,}",
        "",
        f"{forecast['served_count']:,}",
        f"{forecast['refused_count']:,}",
        f"{change:+,}",
    )


def _reasons(lane: dict[str, Any]) -> list[str]:
    live, forecast = lane["live"]["refused"], lane["forecast"]["refused"]
    return [
        _row(
            f"  {name}", "", "", f"{live.get(name, 0):,}", "", "", "", f"{forecast.get(name, 0):,}"
        )
        for name in sorted(live.keys() | forecast.keys())
    ]


def _waits(lane: dict[str, Any]) -> list[str]:
    live, forecast = lane["live"], lane["forecast"]
    if not live["waited_count"] + forecast["waited_count"]:
        return []
    return [
        _beside("  waited for their lane", live, forecast, "waited_count", ",.0f"),
        _beside("  mean wait, ms", live, forecast, "wait_ms_mean", ".1f"),
        _beside("  longest wait, ms", live, forecast, "wait_ms_max", ".1f"),
    ]


def _beside(name: str, live: dict[str, Any], forecast: dict[str, Any], key: str, form: str) -> str:
    return _row(name, "", format(live[key], form), "", "", "", format(forecast[key], form))


def _row(name: str, *cells: str) -> str:
    name = name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
    return (f"{name:<{_NAME_WIDTH}}" + "".join(f"{cell:>11}" for cell in cells)).rstrip()
