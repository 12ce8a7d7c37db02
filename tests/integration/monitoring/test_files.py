"""The shipped alerts and dashboard: well formed, about metrics that exist, with a runbook each."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tools import promtool

from lastunit.payment import metrics as payment_metrics
from lastunit_server.metric_names import METRICS

if TYPE_CHECKING:
    from pathlib import Path

MONITORING = promtool.ROOT / "docs" / "operating" / "monitoring"
ALERTS = MONITORING / "alerts.yml"
ALERT_TESTS = MONITORING / "alerts_test.yml"
RUNBOOKS = promtool.ROOT / "docs" / "operating" / "runbooks.md"
DASHBOARDS = sorted(MONITORING.glob("grafana-*.json"))
# Served by Prometheus itself, or by its client library in every process.
FOREIGN = {"up", "ALERTS", "process_resident_memory_bytes", "process_cpu_seconds_total"}
HISTOGRAM_ENDS = ("_bucket", "_sum", "_count")
METRIC_WORD = re.compile(r"\b(?:lastunit|grpc|process)_[a-z0-9_]+|\bup\b|\bALERTS\b")
# Words of labels look like metrics in a selector.
LABEL_WORDS = {"grpc_service", "grpc_method", "grpc_code"}

needs_promtool = pytest.mark.skipif(
    promtool.found() is None,
    reason="no promtool; `make monitoring-check` builds it and runs these",
)


def alerts() -> list[dict[str, str]]:
    """Reads name, expression and runbook of each alert without a YAML library: our own form."""
    text = ALERTS.read_text()
    found = []
    for block in text.split("      - alert: ")[1:]:
        expression = re.search(r"expr: (?:>-\n)?(.*?)\n        (?:for|labels):", block, re.DOTALL)
        runbook = re.search(r"runbook_url: (\S+)", block)
        assert expression, block
        assert runbook, block
        found.append(
            {
                "name": block.split("\n")[0].strip(),
                "expr": expression[1],
                "runbook": runbook[1],
                "text": block,
            }
        )
    return found


def dashboards() -> list[dict[str, Any]]:
    """Reads every dashboard."""
    return [json.loads(path.read_text()) for path in DASHBOARDS]


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the panels that show something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def unknown_metrics(expression: str) -> set[str]:
    """Returns the metrics of an expression that nobody serves."""
    known = FOREIGN | {family.name for family in (*METRICS, *payment_metrics.METRICS)}
    known |= {
        family.name + end
        for family in METRICS
        if family.kind == "histogram"
        for end in HISTOGRAM_ENDS
    }
    return set(METRIC_WORD.findall(expression)) - LABEL_WORDS - known


@needs_promtool
def test_promtool_accepts_the_rules_with_its_lints() -> None:
    """`promtool check rules` with every lint on, and lints as errors."""
    checked = promtool.run("check", "rules", "--lint=all", "--lint-fatal", str(ALERTS))

    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_each_alert_fires_and_keeps_quiet_beside() -> None:
    """`promtool test rules` over two cases an alert."""
    tested = promtool.run("test", "rules", str(ALERT_TESTS))

    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
def test_a_wrong_bound_is_noticed(tmp_path: Path) -> None:
    """The cases can fail: with one bound moved, promtool says which alert no longer fires."""
    text = ALERTS.read_text()
    assert "lastunit_oldest_overdue_age_seconds > 300" in text
    (tmp_path / ALERTS.name).write_text(text.replace("_age_seconds > 300", "_age_seconds > 9000"))
    shutil.copy(ALERT_TESTS, tmp_path)

    tested = promtool.run("test", "rules", str(tmp_path / ALERT_TESTS.name))

    assert tested.returncode != 0
    assert "PaymentOverdue" in tested.stdout + tested.stderr


def test_every_alert_has_both_cases() -> None:
    """No alert without one case in which it fires and one in which it does not."""
    cases = ALERT_TESTS.read_text()
    names = [alert["name"] for alert in alerts()]

    assert len(names) == len(set(names)) >= 20
    for name in names:
        assert f'"{name} fires"' in cases
        assert f'"{name} keeps quiet"' in cases


def test_every_alert_says_what_to_do() -> None:
    """A severity, a summary, a description, and a section of the runbooks that is there."""
    sections = {
        re.sub(r"[^a-z0-9 -]", "", line[3:].lower()).replace(" ", "-")
        for line in RUNBOOKS.read_text().splitlines()
        if line.startswith("## ")
    }
    used = set()
    for alert in alerts():
        page, _, section = alert["runbook"].partition("#")
        used.add(section)

        assert (promtool.ROOT / page) == RUNBOOKS
        assert section in sections, alert["name"]
        assert re.search(r"severity: (page|ticket)\}", alert["text"]), alert["name"]
        for word in ("summary:", "description:"):
            assert word in alert["text"], alert["name"]
    assert used == sections, "a runbook nobody is sent to"


def test_alerts_are_about_metrics_that_exist() -> None:
    """Each name in an expression is served: an alert on nothing never fires."""
    for alert in alerts():
        assert METRIC_WORD.search(alert["expr"]), alert["name"]
        assert unknown_metrics(alert["expr"]) == set(), alert["name"]
    assert unknown_metrics("rate(lastunit_no_such_total[5m])") == {"lastunit_no_such_total"}


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_every_panel_is_explained_and_about_what_is_served(dashboard: dict[str, Any]) -> None:
    """A title, a description, a unit, the chosen data source, a known metric; no panel covered."""
    shown = panels(dashboard)
    places: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert max(x for x, _y in cells) < 24
        assert not cells & places, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in shown:
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert 'instance=~"$instance"' in target["expr"], panel["title"]
            assert unknown_metrics(target["expr"]) == set(), panel["title"]


@needs_promtool
@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard["uid"])
def test_every_query_of_the_dashboard_is_promql(dashboard: dict[str, Any], tmp_path: Path) -> None:
    """Prometheus' own parser accepts each, with Grafana's variables filled in."""
    rules = ["groups:", "  - name: panels", "    rules:"]
    for number, panel in enumerate(panels(dashboard)):
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            rules.append(f"      - record: panel_{number}_{target['refId']}")
            rules.append(f"        expr: {json.dumps(expression)}")
    file = tmp_path / "panels.yml"
    file.write_text("\n".join(rules))
    checked = promtool.run("check", "rules", str(file))

    assert checked.returncode == 0, checked.stdout + checked.stderr
