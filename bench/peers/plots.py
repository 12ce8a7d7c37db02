"""The plots of the comparison: one idea each, drawn from the raw file.

Owns: `python -m bench.peers.plots RAW_FILE`, which draws them anew without measuring.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

Row = dict[str, Any]
SIZE_INCHES = (9, 5)
COLOURS = {"lastunit": "#c2410c", "Redis": "#1d4ed8", "Postgre": "#15803d", "TigerBe": "#7c3aed"}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One idea.

    Attributes:
        across: Which part of a load's shape lies on the horizontal axis.
        figure: Which figure lies on the vertical one.
        title: What it shows.
        label: Of the horizontal axis.
        unit: Of the vertical one.
    """

    across: str
    figure: str
    title: str
    label: str
    unit: str


IN_FLIGHT, SHARED = "calls in flight", "operations a message, pipeline or transaction"
RATE, CPU = "pairs a second", "microseconds of CPU a pair"
PLOTS = {
    "throughput": Plot(
        across="workers",
        figure="pairs_per_second",
        title="One operation a call: pairs a second by calls in flight",
        label=IN_FLIGHT,
        unit=RATE,
    ),
    "cpu-of-calls": Plot(
        across="workers",
        figure="server_cpu_us",
        title="One operation a call: the server's CPU for a pair",
        label=IN_FLIGHT,
        unit=CPU,
    ),
    "batches": Plot(
        across="batch",
        figure="pairs_per_second",
        title="Shared messages: pairs a second by operations of a message",
        label=SHARED,
        unit=RATE,
    ),
    "cpu-of-batches": Plot(
        across="batch",
        figure="server_cpu_us",
        title="Shared messages: the server's CPU for a pair",
        label=SHARED,
        unit=CPU,
    ),
    "latency": Plot(
        across="rate",
        figure="pair_p99_ms",
        title="Open loop: p99 of a pair, counted from when it was due",
        label="pairs a second offered",
        unit="milliseconds",
    ),
}


def _style(way: str) -> dict[str, Any]:
    """One colour a peer; its ways differ by line and mark."""
    colour = next((it for name, it in COLOURS.items() if way.startswith(name)), "#525252")
    if "grpcio" in way:
        return {"color": colour, "linestyle": "--", "marker": "s"}
    if "Exchange" in way or "Python" in way:
        return {"color": colour, "linestyle": ":", "marker": "^"}
    return {"color": colour, "linestyle": "-", "marker": "o"}


def _ways(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["shape"]["way"] for row in rows))


def _draw(axes: Axes, rows: Sequence[Row], across: str, figure: str) -> None:
    """Draws a line for each way: medians, with min and max as bars."""
    for way in _ways(rows):
        of_way = [row for row in rows if row["shape"]["way"] == way]
        seen = [(row["shape"][across], row["summary"].get(figure)) for row in of_way]
        points = sorted((it for it in seen if it[1]), key=lambda point: point[0])
        if points:
            middle = [it["median"] for _, it in points]
            below = [it["median"] - it["min"] for _, it in points]
            above = [it["max"] - it["median"] for _, it in points]
            places = [place for place, _ in points]
            axes.errorbar(places, middle, yerr=[below, above], label=way, capsize=3, **_style(way))


def _finished(axes: Axes, plot: Plot, path: Path) -> Path:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(plot.title, loc="left")
    axes.set_xlabel(plot.label)
    axes.set_ylabel(plot.unit)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    plt.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close("all")
    return path


def draw(record: dict[str, Any], stem: Path) -> list[Path]:
    """Draws all plots of a run beside its raw file.

    Args:
        record: As the raw file holds it.
        stem: The raw file without its suffix.
    """
    mpl.use("svg")
    # Text as text: smaller files, and they can be searched.
    mpl.rcParams["svg.fonttype"] = "none"
    rows = record["rows"]
    closed = [row for row in rows if row["shape"]["rate"] is None]
    opened = [row for row in rows if row["shape"]["rate"] is not None]
    singles = [row for row in closed if row["shape"]["batch"] == 1]
    kinds = {
        "throughput": singles,
        "cpu-of-calls": singles,
        "batches": closed,
        "cpu-of-batches": closed,
        "latency": opened,
    }
    paths = []
    for name, chosen in kinds.items():
        plot = PLOTS[name]
        _, axes = plt.subplots(figsize=SIZE_INCHES)
        _draw(axes, chosen, plot.across, plot.figure)
        paths.append(_finished(axes, plot, stem.with_name(f"{stem.name}-{name}.svg")))
    return paths


def main() -> None:
    """Draws the plots of a raw file."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and one file
        sys.exit("usage: python -m bench.peers.plots bench/results/peers.json")
    path = Path(sys.argv[1])
    for drawn in draw(json.loads(path.read_text()), path.with_suffix("")):
        print(drawn)


if __name__ == "__main__":
    main()
