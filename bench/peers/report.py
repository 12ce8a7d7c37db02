"""What a run of the comparison is written down as: raw JSON, a table in Markdown, the claims.

Owns: the words and the order of the table. Where next: `plots.py`.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from bench.peers import ratios

if TYPE_CHECKING:
    from collections.abc import Sequence

# One load of one peer: its shape, and its runs.
Row = dict[str, Any]
HEAD = (
    "| who | in flight | operations a message | pairs a second (min to max) | p50 ms | p99 ms"
    " | server CPU a pair, us (min to max) |\n|---|--:|--:|--:|--:|--:|--:|"
)

OPEN_HEAD = (
    "| who | pairs a second offered | served | call p50 ms | pair p50 ms | pair p99 ms | given up |"
    "\n|---|--:|--:|--:|--:|--:|--:|"
)


def spread(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns min, median and max of each figure that all runs have."""
    keys = [key for key, value in runs[0].items() if value is not None]
    return {
        key: {
            "min": min(run[key] for run in runs),
            "median": median(run[key] for run in runs),
            "max": max(run[key] for run in runs),
        }
        for key in keys
    }


def _line(row: Row) -> str:
    figures = row["summary"]
    rate, cpu = figures["pairs_per_second"], figures["server_cpu_us"]
    shape = row["shape"]
    cells = [
        shape["way"],
        f"{shape['workers']:,}",
        f"{shape['batch']:,}",
        f"**{rate['median']:,.0f}** ({rate['min']:,.0f} to {rate['max']:,.0f})",
        f"{figures['pair_p50_ms']['median']:.2f}",
        f"{figures['pair_p99_ms']['median']:.2f}",
        f"**{cpu['median']:.1f}** ({cpu['min']:.1f} to {cpu['max']:.1f})",
    ]
    return f"| {' | '.join(cells)} |"


def _open_line(row: Row) -> str:
    shape, figures = row["shape"], row["summary"]
    call = figures.get("call_p50_ms")
    cells = [
        shape["way"],
        f"{shape['rate']:,.0f}",
        f"{figures['pairs_per_second']['median']:,.0f}",
        f"{call['median']:.2f}" if call else "",
        f"{figures['pair_p50_ms']['median']:.2f}",
        f"{figures['pair_p99_ms']['median']:.2f}",
        f"{figures['unserved']['max']:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _conditions(record: dict[str, Any]) -> list[str]:
    """Says where, when and how a run was made."""
    machine, flush = record["machine"], record["flush_ms"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    load = machine["load_average"][0]
    runs = f"{record['runs']} runs of {record['seconds']:g} s each"
    return [
        f"`{record['command']}`, commit {machine['commit']}, {machine['time']}: {runs}.",
        f"{machine['cores']} processors ({machine['processor']}), load average {load:.1f} before.",
        f"A flush of the disk (4 KiB): p50 {flush['p50']:.3f} ms, p99 {flush['p99']:.3f} ms.",
        f"{versions}: everybody answers only what is durable.",
        "Latencies are of a pair; in batches, of a whole batch of pairs.",
    ]


def markdown(record: dict[str, Any]) -> str:
    """Returns the tables of a run, with where and when it was made."""
    rows: list[Row] = record["rows"]
    closed = [row for row in rows if row["shape"]["rate"] is None]
    opened = [row for row in rows if row["shape"]["rate"] is not None]
    lines = [
        "# Pairs of reserve and confirm, beside what else one could use",
        "",
        *_conditions(record),
        "",
        *(f"- {sentence}." for sentence in record["absent"]),
        "",
        "## Beside each other (medians of this run)",
        "",
        *(f"- {sentence}." for sentence in ratios.lines(closed)),
        "",
        "## As fast as the answers come (closed loop; median)",
        "",
        HEAD,
        *(_line(row) for row in closed if not row["shape"]["is_python"]),
        "",
        "## From one Python process",
        "",
        HEAD,
        *(_line(row) for row in closed if row["shape"]["is_python"]),
        "",
        "## At a given load (open loop; latency counts from when a pair was due)",
        "",
        OPEN_HEAD,
        *(_open_line(row) for row in opened),
        "",
    ]
    return "\n".join(lines)
