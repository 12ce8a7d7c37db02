"""Puts a live run on one HTML page: the old design, modelled at the same scale, beside ours.

Owns which figures and curves are shown. Must not compute results of the run.
Next: ``lastunit.replay.report`` for the shared charts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastunit.replay.chart import Chart, Series, render_chart
from lastunit.replay.designs import DESIGNS, Engine, Setting
from lastunit.replay.model import run_model
from lastunit.replay.page import Cell, pair, render_page, section, table
from lastunit.replay.report import end_of, framed, money_chart, result_card, units_chart
from lastunit.replay.result import RunResult, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lastunit.run.checks import Outcome
    from lastunit.run.sale import SaleFile
    from lastunit.run.watch import LiveSample

__all__ = ["live_page", "live_result"]

_LEAD = (
    "{buyers:,} buyers pressed “buy” on {units:,} units, over gRPC, on real servers on one "
    "machine; a minute of the sale took {minute:g} seconds. Beside it: the old design as a model, "
    "with as many buyers and units and the same slow order database."
)
_FOOT = "Live run of lastunit. The time axis shows the time of the sale. Random seed {seed}."
_REASONS_SHOWN = 6


def live_result(
    file: SaleFile, outcome: Outcome, samples: Sequence[LiveSample], *, seconds: float
) -> RunResult:
    """Gives a live run in the words of a replay.

    Args:
        file: What was sold.
        outcome: What it came to.
        samples: How it went.
        seconds: Seconds of this machine that the sale took.
    """
    scale = file.run.time_scale
    result = RunResult(
        design="A7",
        title=f"ours, live at {scale:g} of the time",
        engine=Engine.REAL.value,
        seed=file.run.seed,
        buyers=file.buyers.count,
        units=file.units,
        charged=outcome.charged,
        honoured=outcome.honoured,
        oversold=outcome.oversold,
        refunded=outcome.refunded,
        unsettled=outcome.paid_without_unit_or_refund,
        callback_wait_p99=outcome.callback_wait_p99,
        callback_wait_max=outcome.callback_wait_max,
        turnover=outcome.turnover_minor // 100,
        presses=samples[-1].calls if samples else 0,
        queue_peak=max((each.in_flight for each in samples), default=0),
        seconds=seconds,
        checks=dict(outcome.checks),
    )
    last_second, last_sold = -1, 0
    for each in samples:
        second = int(each.seconds / scale)
        if each.sold > last_sold:
            last_sold, result.last_sale_seconds = each.sold, each.seconds / scale
        if second > last_second:
            last_second = second
            result.curves.add(second, _sample(each))
    return result


def _sample(each: LiveSample) -> Sample:
    return Sample(
        queue=each.in_flight,
        available=each.available,
        held=each.held,
        paying=each.paying,
        overdue=each.overdue,
        sold=each.sold,
        charged=each.charged,
        honoured=each.paid,
        refunded=each.refunded,
    )


def live_page(
    file: SaleFile, outcome: Outcome, samples: Sequence[LiveSample], *, seconds: float
) -> str:
    """Renders the page; runs the old design as a model at the same scale for it."""
    naive = run_model(
        DESIGNS["A0"],
        Setting(
            buyers=file.buyers.count,
            units=file.units,
            seed=file.run.seed,
            ttl_seconds=file.sale.reservation_ttl_seconds,
            pay_mean_seconds=file.buyers.pay_mean_seconds,
            transactions_per_second=file.run.order_transactions_per_second,
            price=max(1, file.sale.unit_amount_minor // 100),
        ),
    )
    ours = live_result(file, outcome, samples, seconds=seconds)
    runs = [naive, ours]
    seconds_max = max(end_of(each) for each in runs)
    rows = []
    for chart in (units_chart, money_chart):
        charts = [chart(each) for each in runs]
        top = max(each.top() for each in charts)
        rows.append(pair(*(render_chart(framed(each, seconds_max, top)) for each in charts)))
    checks = [
        [Cell(text=name), Cell(text="holds" if ok else "fails", tone="good" if ok else "bad")]
        for name, ok in outcome.checks.items()
    ]
    body = "".join(
        (
            pair(result_card(naive), result_card(ours, queue_label="most presses open at once")),
            section("The checks of the live run", table(["check", "result"], checks)),
            section("What happened, second by second", *rows),
            section(
                "The load of the live run", pair(_calls(samples, file), _refusals(samples, file))
            ),
        )
    )
    return render_page(
        "A flash sale, live",
        lead=_LEAD.format(
            buyers=file.buyers.count, units=file.units, minute=60 * file.run.time_scale
        ),
        body=body,
        foot=_FOOT.format(seed=file.run.seed),
    )


def _calls(samples: Sequence[LiveSample], file: SaleFile) -> str:
    """Draws calls a second of this machine, over the time of the sale."""
    rates: list[float | None] = []
    for index, each in enumerate(samples):
        earlier = samples[max(index - 4, 0)]
        passed = each.seconds - earlier.seconds
        rates.append(round((each.calls - earlier.calls) / passed) if passed > 0 else None)
    return render_chart(
        Chart(
            title="Buyers' calls answered",
            unit="calls a second of this machine",
            seconds=[each.seconds / file.run.time_scale for each in samples],
            series=[Series(label="calls a second", color="calls", values=rates)],
        )
    )


def _refusals(samples: Sequence[LiveSample], file: SaleFile) -> str:
    """Draws the refusals so far, by reason."""
    last = sorted(samples[-1].refusals.items(), key=lambda each: -each[1])
    colors = ("refusals", "calls", "overdue", "sold", "queue", "oversold")
    series = [
        Series(
            label=name,
            color=colors[index],
            values=[each.refusals.get(name, 0) for each in samples],
        )
        for index, (name, _) in enumerate(last[:_REASONS_SHOWN])
    ]
    if not series:
        return ""
    return render_chart(
        Chart(
            title="Presses refused so far, by reason",
            unit="presses",
            seconds=[each.seconds / file.run.time_scale for each in samples],
            series=series,
        )
    )
