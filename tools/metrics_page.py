"""Writes docs/reference/metrics.md from the tables of metrics in the code.

Owns: the form of the page. Must not: hold a word about a metric; they stand in the tables. A test
compares the page with what this prints, and what a server serves with the tables.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lastunit.account import metrics as account_metrics
from lastunit.order import metrics as order_metrics
from lastunit.payment import metrics as payment_metrics
from lastunit.service import metrics as service_metrics
from lastunit_server.metric_names import LABELS, METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lastunit.service.metrics import Family as ServiceFamily
    from lastunit_server.metric_names import Family

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"

_MORE = {
    "service": "`order`, `payment` or `account`.",
    "database": "`order`, `payment`, `inbox` or `account`.",
    "kind": "A kind of incident, as `ListIncidents` names it.",
    "provider": "The name of a payment provider; 8 at most.",
    "source": "`memory`, or who was asked: `database`, `account service`.",
    "state": "Of a gate `open`, `queueing`, `closed`; of a breaker `CLOSED`, `OPEN`, `HALF_OPEN`.",
}

_HEAD = """# Metrics

Made by `python tools/metrics_page.py` from the tables in the code; do not edit.
How to scrape and which alarms there are: [monitoring](../operating/monitoring.md).
Every listener also serves `process_*`, `python_info` and `python_gc_*` of the Prometheus client.
Label values are bounded: no metric carries a person, reservation, order or attempt.
"""


def page() -> str:
    """Returns the whole page."""
    return "\n".join(
        [
            _HEAD,
            "## Ledger server",
            "",
            "`http://127.0.0.1:7404/metrics`, setting `metrics.address`, flag `--metrics-address`.",
            "",
            *_table(METRICS),
            "",
            "## Order, payment and account service",
            "",
            "`LASTUNIT_SERVICE_METRICS_ADDRESS`, by default a free port of loopback that the ready",
            "line tells as `metrics`; empty for none.",
            "",
            *_table(service_metrics.METRICS),
            "",
            "## Payment service",
            "",
            "Beside those above, at the same listener.",
            "",
            *_table(payment_metrics.METRICS),
            "",
            "## Webhook",
            "",
            "`LASTUNIT_WEBHOOK_METRICS_ADDRESS`; none unless it is set. Databases as above.",
            "",
            *_table(payment_metrics.WEBHOOK_METRICS),
            "",
            "## Order service",
            "",
            "Beside those of every service, at the same listener.",
            "",
            *_table(order_metrics.METRICS),
            "",
            "## Account service",
            "",
            "Beside those of every service, at the same listener.",
            "",
            *_table(account_metrics.METRICS),
            "",
            "## Labels",
            "",
            "| label | values |",
            "|---|---|",
            *(f"| `{name}` | {text} |" for name, text in sorted((LABELS | _MORE).items())),
            "",
        ]
    )


def _table(families: Iterable[Family | ServiceFamily]) -> list[str]:
    rows = ["| metric | type | labels | what it says |", "|---|---|---|---|"]
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        rows.append(f"| `{family.name}` | {family.kind} | {labels} | {family.help} |")
    return rows


def main() -> None:
    """Writes the page, or with `--check` fails if it differs."""
    if "--check" in sys.argv:
        if PAGE.read_text() != page():
            sys.exit(f"{PAGE.name} is not what the code says; run python tools/metrics_page.py")
        return
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
