"""Draws one chart as inline SVG, with the same numbers as a table under it.

Owns: scales, paths, ticks and the table of a chart. Must not know what the curves mean or refer to
anything outside the page. Next: ``page.py`` puts charts on a page.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Chart", "Mark", "Series", "render_chart"]

POINTS_MAX = 360
"""Points per curve on the page; more would not be seen and would weigh."""
TABLE_ROWS_MAX = 16

_WIDTH, _HEIGHT = 420.0, 236.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 12.0, 34.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series:
    """One curve.

    Attributes:
        label: Word for the legend and the table.
        color: Name of a colour variable of the style sheet, without the dashes.
        values: One value per second of the chart; ``None`` leaves a gap.
        dash: Dash pattern of a line, so that colour is not the only difference.
        is_dotted: Whether each value is a dot of its own instead of a point of a line.
    """

    label: str
    color: str
    values: Sequence[float | None]
    dash: str = ""
    is_dotted: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A horizontal line with a word, such as the supply."""

    value: float
    label: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart.

    Attributes:
        title: What it shows.
        unit: Unit of the vertical axis.
        seconds: Seconds since the start, one per value, rising.
        series: The curves.
        is_stacked: Whether the curves are areas on top of each other.
        marks: Horizontal lines.
        seconds_max: Right end of the time axis; charts shown beside each other share it.
        value_max: Top of the value axis; charts shown beside each other share it.
    """

    title: str
    unit: str
    seconds: Sequence[float]
    series: Sequence[Series]
    is_stacked: bool = False
    marks: Sequence[Mark] = ()
    seconds_max: float | None = None
    value_max: float | None = None

    def top(self) -> float:
        """Finds the highest value that the chart has to show."""
        highest = max((mark.value for mark in self.marks), default=0.0)
        columns = zip(*(each.values for each in self.series), strict=True)
        for column in columns:
            known = [value for value in column if value is not None]
            highest = max(highest, sum(known) if self.is_stacked else max(known, default=0.0))
        return highest


def clock_label(seconds: float) -> str:
    """Writes seconds as minutes and seconds: 605 is ``10:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def render_chart(chart: Chart) -> str:
    """Renders a chart as an HTML figure.

    Args:
        chart: At least one second and one series.

    Returns:
        A ``figure`` element with legend, SVG, read-out and table.
    """
    shown = _thin(chart)
    scale = _Scale(shown)
    drawn = _areas(shown, scale) if shown.is_stacked else _lines(shown, scale)
    title = html.escape(chart.title)
    read_out = {
        "x": [round(each, 1) for each in shown.seconds],
        "max": scale.seconds_max,
        "series": [
            {"label": each.label, "values": [_short(value) for value in each.values]}
            for each in shown.series
        ],
        "unit": chart.unit,
    }
    return (
        f'<figure class="chart"><figcaption>{title}</figcaption>{_legend(shown)}'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="{title}: '
        f'{html.escape(_in_words(chart))}">{_axes(shown, scale)}{drawn}'
        f"{_marks(shown, scale)}"
        f'<line class="cursor" x1="0" x2="0" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/></svg>'
        f'<output aria-live="off">&nbsp;</output>'
        f'<script type="application/json">{_json(read_out)}</script>'
        f"{_table(chart, scale)}</figure>"
    )


class _Scale:
    """Maps seconds and values to the drawing."""

    def __init__(self, chart: Chart) -> None:
        self.seconds_max = max(chart.seconds_max or chart.seconds[-1], 1.0)
        self.step = _nice_step(max(chart.value_max or chart.top(), 1e-9))
        top = chart.value_max or chart.top()
        self.value_max = max(math.ceil(top / self.step - 1e-9), 1) * self.step

    def x(self, seconds: float) -> float:
        share = min(seconds / self.seconds_max, 1.0)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.value_max * (_HEIGHT - _TOP - _BOTTOM)


def _nice_step(top: float) -> float:
    """Finds a round step that gives three to five lines below ``top``."""
    rough = top / 4
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough)


def _time_step(seconds_max: float) -> float:
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200)
    return next((step for step in steps if seconds_max / step <= 6), 14_400)  # noqa: PLR2004


def _thin(chart: Chart) -> Chart:
    """Keeps at most ``POINTS_MAX`` points; each stands for its group's highest value."""
    end = chart.seconds_max or chart.seconds[-1]
    count = max(sum(1 for each in chart.seconds if each <= end), 1)
    stride = math.ceil(count / POINTS_MAX)

    def pick(values: Sequence[float | None]) -> list[float | None]:
        groups = (values[start : start + stride] for start in range(0, count, stride))
        if chart.is_stacked:
            return [group[-1] for group in groups]
        return [max((v for v in group if v is not None), default=None) for group in groups]

    seconds = [chart.seconds[min(start + stride, count) - 1] for start in range(0, count, stride)]
    series = [dataclasses.replace(each, values=pick(each.values)) for each in chart.series]
    return dataclasses.replace(chart, seconds=seconds, series=series)


def _lines(chart: Chart, scale: _Scale) -> str:
    parts = []
    for each in chart.series:
        commands, is_down = [], False
        for seconds, value in zip(chart.seconds, each.values, strict=True):
            if value is not None:
                verb = "L" if is_down and not each.is_dotted else "M"
                dot = "h0" if each.is_dotted else ""
                commands.append(f"{verb}{scale.x(seconds):.1f} {scale.y(value):.1f}{dot}")
            is_down = value is not None
        dash = f' stroke-dasharray="{each.dash}"' if each.dash else ""
        kind = "line dots" if each.is_dotted else "line"
        path = "".join(commands)
        parts.append(f'<path class="{kind}" d="{path}" stroke="var(--{each.color})"{dash}/>')
    return "".join(parts)


def _areas(chart: Chart, scale: _Scale) -> str:
    parts = []
    floor = [0.0] * len(chart.seconds)
    for each in chart.series:
        top = [low + (value or 0.0) for low, value in zip(floor, each.values, strict=True)]
        if any(value for value in each.values):
            pairs = [(scale.x(s), scale.y(v)) for s, v in zip(chart.seconds, top, strict=True)]
            back = [(scale.x(s), scale.y(v)) for s, v in zip(chart.seconds, floor, strict=True)]
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*pairs, *reversed(back)])
            parts.append(f'<polygon points="{points}" fill="var(--{each.color})"/>')
        floor = top
    return "".join(parts)


def _axes(chart: Chart, scale: _Scale) -> str:
    parts = []
    count = round(scale.value_max / scale.step)
    for index in range(count + 1):
        value = index * scale.step
        y = scale.y(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value):,}</text>'
        )
    step = _time_step(scale.seconds_max)
    for index in range(int(scale.seconds_max / step) + 1):
        x = scale.x(index * step)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 15:.1f}" text-anchor="middle">'
            f"{clock_label(index * step)}</text>"
        )
    parts.append(
        f'<text class="unit" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 4}" text-anchor="end">'
        f"minutes since the sale opened · {html.escape(chart.unit)}</text>"
    )
    return "".join(parts)


def _marks(chart: Chart, scale: _Scale) -> str:
    return "".join(
        f'<line class="mark" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{scale.y(mark.value):.1f}" '
        f'y2="{scale.y(mark.value):.1f}"/><text class="mark" x="{_WIDTH - _RIGHT - 2}" '
        f'y="{scale.y(mark.value) - 4:.1f}" text-anchor="end">{html.escape(mark.label)}</text>'
        for mark in chart.marks
    )


def _legend(chart: Chart) -> str:
    entries = "".join(
        f'<li><i style="background:var(--{each.color})"></i>{html.escape(each.label)}</li>'
        for each in chart.series
    )
    return f'<ul class="legend">{entries}</ul>'


def _in_words(chart: Chart) -> str:
    """Says in a sentence what a reader without the picture needs: the peak of each curve."""
    peaks = []
    for each in chart.series:
        known = [value for value in each.values if value is not None]
        peak = max(known, default=0.0)
        peaks.append(f"{each.label} peaks at {_short(peak):,}")
    return "; ".join(peaks)


def _table(chart: Chart, scale: _Scale) -> str:
    step = max(_time_step(scale.seconds_max) / 2, scale.seconds_max / TABLE_ROWS_MAX)
    head = "".join(f'<th scope="col">{html.escape(each.label)}</th>' for each in chart.series)
    rows, due = [], 0.0
    for index, seconds in enumerate(chart.seconds):
        if seconds < due or seconds > scale.seconds_max:
            continue
        due += step
        cells = "".join(f"<td>{_cell(each.values[index])}</td>" for each in chart.series)
        rows.append(f'<tr><th scope="row">{clock_label(seconds)}</th>{cells}</tr>')
    return (
        "<details><summary>The same as a table</summary>"
        '<div class="scroll"><table><thead><tr><th scope="col">time</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{_short(value):,}"


def _short(value: float | None) -> float | int | None:
    if value is None:
        return None
    return round(value) if abs(value - round(value)) < 1e-9 else round(value, 2)  # noqa: PLR2004


def _json(value: object) -> str:
    """Writes JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
