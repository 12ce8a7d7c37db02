"""The page of a replay stands alone and says what the run found."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from lastunit.replay.chart import POINTS_MAX, Chart, Series, render_chart
from lastunit.replay.cli import app
from lastunit.replay.designs import DESIGNS, Setting
from lastunit.replay.model import run_model
from lastunit.replay.report import replay_page

SETTING = Setting(buyers=400, units=40)


class _Outside(HTMLParser):
    """Collects what a page loads, and whether its elements are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_loads_nothing_and_is_well_formed() -> None:
    """No address, no link, no source: the page is read without a network."""
    results = [run_model(DESIGNS[name], SETTING) for name in ("A0", "A2", "A6")]

    page = replay_page(results, ttl_seconds=600)

    parser = _Outside()
    parser.feed(page)
    assert parser.loaded == []
    assert parser.open == []
    assert not re.search(r"https?://|url\(|@import", page)
    assert page.count("<figure") == page.count("The same as a table")
    assert f"<dd>{results[0].honoured:,}</dd>" in page


def test_a_chart_cannot_break_out_of_the_page() -> None:
    """A label with markup in it is shown as text, in the picture and in the data."""
    chart = Chart(
        title="<script>alert(1)</script>",
        unit="units",
        seconds=[0, 1],
        series=[Series(label="</script><b>", color="sold", values=[1, None])],
    )

    drawn = render_chart(chart)

    assert "<script>alert" not in drawn
    assert "</script><b>" not in drawn


@pytest.mark.parametrize("count", [1, 2, POINTS_MAX, POINTS_MAX + 1, 5 * POINTS_MAX])
def test_a_chart_thins_long_curves_and_keeps_their_peak(count: int) -> None:
    """However long a run is, the page has few points, and the highest one is among them."""
    values: list[float | None] = [0.0] * count
    values[count // 2] = 99.0
    chart = Chart(
        title="t",
        unit="u",
        seconds=list(range(count)),
        series=[Series(label="x", color="sold", values=values)],
    )

    drawn = render_chart(chart)

    data = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', drawn)[0])
    shown = data["series"][0]["values"]
    assert len(shown) <= POINTS_MAX
    assert max(shown) == 99


def test_the_command_puts_one_json_object_on_the_last_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With --json the last line of standard output carries the figures that were asked for."""
    arguments = ["incident", "--design", "A0", "--buyers", "400", "--units", "40", "--json"]

    app(args=arguments, standalone_mode=False)

    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    wanted = {"charged", "honoured", "oversold", "refunded", "callback_wait_p99", "turnover"}
    assert wanted <= last.keys()
    assert last["honoured"] > 40
