"""Shows why the gate's longest queue is a formula.

Owns the table of queue limits against callback waits. Must not run a real service.
Next: ``model.py``.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rich.table import Table

from lastunit.replay.designs import DESIGNS, Setting
from lastunit.replay.model import run_model

if TYPE_CHECKING:
    from lastunit.replay.result import RunResult

__all__ = ["GATE_SHARES", "gate_runs", "gate_table"]

GATE_SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Longest queue, as a share of what the database serves in one reservation's life."""


def gate_runs(setting: Setting) -> dict[float, RunResult]:
    """Runs design A4 once per share of ``GATE_SHARES``."""
    return {
        share: run_model(dataclasses.replace(DESIGNS["A4"], gate_share=share), setting)
        for share in GATE_SHARES
    }


def gate_table(setting: Setting) -> Table:
    """Renders the runs; the longest wait is the longest queue divided by the rate."""
    table = Table(
        title="Longest queue = share x rate x reservation's life; longest wait = queue / rate",
        title_justify="left",
    )
    for name in ("share", "longest queue", "callback wait max s", "late callbacks"):
        table.add_column(name, justify="right")
    for share, result in gate_runs(setting).items():
        table.add_row(
            f"{share:.1f}",
            f"{setting.gate_limit(share):,}",
            f"{result.callback_wait_max:,.0f}",
            f"{result.late_callbacks:,}",
        )
    return table
