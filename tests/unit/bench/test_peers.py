"""What the comparison with peers counts and writes down."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.peers import plots, ratios, report
from bench.peers.cpu import tree_cpu_seconds
from bench.peers.shape import Figures, Shape

if TYPE_CHECKING:
    from pathlib import Path

BURN = "import time\nwhile time.process_time() < 0.3: pass"


def a_record() -> dict[str, Any]:
    """Returns what a run of two loads leaves."""
    closed = Shape(way="lastunit native", workers=64)
    rows = []
    for shape, call in ((closed, 1.5), (closed.at(1_000), None)):
        runs = [
            asdict(
                Figures(
                    pairs_per_second=pairs,
                    call_p50_ms=call,
                    call_p99_ms=call,
                    pair_p50_ms=3.0,
                    pair_p99_ms=9.0,
                    server_cpu_us=pairs / 100,
                )
            )
            for pairs in (3_000.0, 1_000.0, 2_000.0)
        ]
        rows.append({"shape": asdict(shape), "summary": report.spread(runs), "runs": runs})
    return {
        "machine": {
            "commit": "abc",
            "time": "now",
            "cores": 2,
            "processor": "p",
            "load_average": [0, 0, 0],
        },
        "command": "python -m bench.peers",
        "runs": 3,
        "seconds": 2.0,
        "flush_ms": {"p50": 0.1, "p99": 0.2},
        "versions": {"lastunit": "1"},
        "absent": ["Redis is left out: install it"],
        "rows": rows,
    }


def test_cpu_of_children_that_have_ended_counts() -> None:
    """PostgreSQL's work is done by processes that are gone when it is read."""
    before = tree_cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)

    # Less two ticks.
    assert tree_cpu_seconds(os.getpid()) - before >= 0.28


def test_tables_hold_medians_between_the_extremes_and_who_was_left_out() -> None:
    """A reader sees each load once, and why a peer has no row."""
    text = report.markdown(a_record())

    assert "| lastunit native | 64 | 1 | **2,000** (1,000 to 3,000) | 3.00 | 9.00 |" in text
    assert "**20.0** (10.0 to 30.0)" in text
    # pgbench does not tell the latency of one operation.
    assert "| lastunit native | 1,000 | 2,000 |  | 3.00 | 9.00 | 0 |" in text
    assert "Redis is left out: install it" in text


def test_a_comparison_takes_the_best_of_a_peer_and_needs_both_sides() -> None:
    """A peer is not compared by its worst load, nor one that was left out."""

    def row(way: str, workers: int, batch: int, rate: float, cpu: float) -> dict[str, Any]:
        figures = {"pairs_per_second": rate, "server_cpu_us": cpu}
        summary = {name: {"median": figure} for name, figure in figures.items()}
        return {"shape": asdict(Shape(way=way, workers=workers, batch=batch)), "summary": summary}

    rows = [
        row("lastunit native", 64, 1, 9_000, 30),
        row("Redis function", 64, 1, 8_000, 60),
        row("Redis function", 8, 256, 20_000, 40),
        row("lastunit native Exchange", 8, 256, 100_000, 5),
    ]

    calls, shared = ratios.lines(rows)
    assert calls.startswith("One operation a call, 64 in flight: ")
    assert calls.endswith(" is 0.50 times Redis's")
    assert shared == "Exchange at 256: 5.0 times the best of Redis function, pairs a second"


def test_each_plot_names_what_it_draws(tmp_path: Path) -> None:
    """All plots come from the raw file alone, as text that can be searched."""
    drawn = plots.draw(a_record(), tmp_path / "peers")

    assert [path.name for path in drawn] == [f"peers-{name}.svg" for name in plots.PLOTS]
    for path in drawn:
        assert "lastunit native" in path.read_text()
