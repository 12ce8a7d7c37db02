"""Tells the story of a replay on one HTML page: the naive design beside ours.

Owns: which figures and curves are shown and in which words. Must not compute results.
Next: ``page.py`` for the frame, ``chart.py`` for the drawing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lastunit.replay.chart import Chart, Mark, Series, render_chart
from lastunit.replay.designs import Engine
from lastunit.replay.page import Cell, Fact, card, pair, render_page, section, table
from lastunit.replay.table import COLUMNS, figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.replay.result import RunResult

__all__ = ["end_of", "framed", "money_chart", "replay_page", "result_card", "units_chart"]

_MARGIN = 1.05
"""Time shown, as a multiple of the time until the last thing happened."""

_LEAD = (
    "A sale offers {units:,} units and {buyers:,} buyers press “buy” within ten seconds. One slow "
    "order database serves them all. Where payment callbacks queue behind new orders for longer "
    "than a reservation lives, a clock gives paid units back and they are sold again."
)
_FOOT = (
    "Designs marked “model” are a discrete-event model of the old way of selling. Designs marked "
    "“real” are the ledger server and the order and payment services of lastunit, driven by the "
    "same simulated clock, buyers, provider and slow order database. Random seed {seed}."
)


def replay_page(results: Sequence[RunResult], *, ttl_seconds: float) -> str:
    """Renders the page.

    Args:
        results: At least one run. The first model and the first real run stand beside each other.
        ttl_seconds: Seconds that an unpaid reservation lives; drawn beside the callback wait.

    Returns:
        A self-contained HTML document.
    """
    first = results[0]
    model = next((each for each in results if each.engine == Engine.MODEL), None)
    real = next((each for each in results if each.engine == Engine.REAL), None)
    shown = [each for each in (model, real) if each is not None]
    others = [each for each in results if each not in shown]
    parts = [
        pair(*(result_card(each) for each in shown)),
        section("What happened, second by second", *_rows(shown, ttl_seconds)),
        section(
            "Every run" if others else "The figures",
            table(COLUMNS, [[Cell(text=t, tone=tone) for t, tone in figures(r)] for r in results]),
        ),
    ]
    if others:
        parts.append(section("The other designs", *(_folded(r, ttl_seconds) for r in others)))
    return render_page(
        "The incident, replayed",
        lead=_LEAD.format(units=first.units, buyers=first.buyers),
        body="".join(parts),
        foot=_FOOT.format(seed=first.seed),
    )


def _name(result: RunResult) -> str:
    return f"{result.design}: {result.title}"


def result_card(result: RunResult, *, queue_label: str = "longest queue") -> str:
    """Renders the figures of a run in large type; ``queue_label`` says what queues in it."""
    is_bad = bool(result.oversold or result.refunded or result.unsettled)
    wait = result.callback_wait_max
    facts = [
        Fact(label="sold", value=f"{result.honoured:,}"),
        _judged("oversold", result.oversold),
        _judged("paid but refunded", result.refunded),
        Fact(label="longest callback wait", value="-" if wait is None else f"{wait:,.1f} s"),
        Fact(label="last sale after", value=f"{result.last_sale_seconds:,.0f} s"),
        Fact(label=queue_label, value=f"{result.queue_peak:,}"),
    ]
    return card(_name(result), facts, tone="bad" if is_bad else "good")


def _judged(label: str, count: int) -> Fact:
    return Fact(label=label, value=f"{count:,}", tone="bad" if count else "good")


def end_of(result: RunResult) -> float:
    """Finds the second after which neither units nor money moved."""
    curves = result.curves
    end = 60.0
    for index in range(1, len(curves.seconds)):
        if any(
            curves.values[name][index] != curves.values[name][index - 1]
            for name in ("held", "paying", "overdue", "sold", "charged", "honoured", "refunded")
        ):
            end = max(end, curves.seconds[index] * _MARGIN)
    return end


def _rows(results: Sequence[RunResult], ttl_seconds: float) -> list[str]:
    """Renders a row of charts per kind of curve; charts of a row share their axes."""
    seconds_max = max(end_of(each) for each in results)
    kinds = (
        [_queue(each) for each in results],
        [_wait(each, ttl_seconds) for each in results],
        [units_chart(each) for each in results],
        [money_chart(each) for each in results],
    )
    rows = []
    for charts in kinds:
        value_max = max(chart.top() for chart in charts)
        rows.append(
            pair(*(render_chart(framed(chart, seconds_max, value_max)) for chart in charts))
        )
    return [f'<div class="rows">{"".join(rows)}</div>']


def _folded(result: RunResult, ttl_seconds: float) -> str:
    charts = (_queue(result), _wait(result, ttl_seconds), units_chart(result), money_chart(result))
    end = end_of(result)
    drawn = [render_chart(framed(chart, end, chart.top())) for chart in charts]
    return (
        f'<details class="design"><summary>{_name(result)}</summary>'
        f"{pair(*drawn[:2])}{pair(*drawn[2:])}</details>"
    )


def framed(chart: Chart, seconds_max: float, value_max: float) -> Chart:
    """Sets the axes and lets curves that ended early go on as they ended."""
    last = chart.seconds[-1]
    more = range(int(last) + 1, int(seconds_max) + 1)
    series = [
        dataclasses.replace(
            each,
            values=[*each.values, *((None if each.is_dotted else each.values[-1]) for _ in more)],
        )
        for each in chart.series
    ]
    return dataclasses.replace(
        chart,
        seconds=[*chart.seconds, *more],
        series=series,
        seconds_max=seconds_max,
        value_max=max(value_max, 1.0),
    )


def _queue(result: RunResult) -> Chart:
    values = result.curves.values["queue"]
    return Chart(
        title=f"{result.design}: queue before the order database",
        unit="transactions",
        seconds=result.curves.seconds,
        series=[Series(label="waiting", color="queue", values=values)],
    )


def _wait(result: RunResult, ttl_seconds: float) -> Chart:
    values = result.curves.values["callback_wait"]
    return Chart(
        title=f"{result.design}: how long payment callbacks waited",
        unit="seconds",
        seconds=result.curves.seconds,
        series=[Series(label="longest wait", color="wait", values=values, is_dotted=True)],
        marks=[Mark(value=ttl_seconds, label="a reservation's life")],
    )


def units_chart(result: RunResult) -> Chart:
    """Charts where the units stand; what is above the supply was sold twice."""
    values = result.curves.values
    names = ("sold", "paying", "overdue", "held", "available")
    totals = [sum(values[name][i] or 0 for name in names) for i in range(len(values["sold"]))]
    oversold = [max(0.0, total - result.units) for total in totals]
    sold = [(each or 0) - over for each, over in zip(values["sold"], oversold, strict=True)]
    series = [Series(label="sold", color="sold", values=sold)]
    series += [
        Series(label=name, color=name, values=values[name])
        for name in names[1:]
        if any(values[name])
    ]
    if any(oversold):
        series.append(Series(label="sold twice", color="oversold", values=oversold))
    return Chart(
        title=f"{result.design}: where the units stand",
        unit="units",
        seconds=result.curves.seconds,
        series=series,
        is_stacked=True,
        marks=[Mark(value=result.units, label="units that exist")],
    )


def money_chart(result: RunResult) -> Chart:
    """Charts payments taken, honoured and refunded."""
    values = result.curves.values
    return Chart(
        title=f"{result.design}: payments taken, honoured and refunded",
        unit="payments",
        seconds=result.curves.seconds,
        series=[
            Series(label="charged", color="charged", values=values["charged"]),
            Series(label="honoured", color="honoured", values=values["honoured"], dash="7 3"),
            Series(label="refunded", color="refunded", values=values["refunded"], dash="2 3"),
        ],
        marks=[Mark(value=result.units, label="units that exist")],
    )
