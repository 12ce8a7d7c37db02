"""A small sale that is over in seconds, and a look at what is left running."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

SALE = """
[sale]
sale_id = "e2e"
sku = "unit"
unit_amount_minor = 100

[[pool]]
pool = "left"
units = 12

[[pool]]
pool = "right"
units = 8

[buyers]
count = 100
arrival_seconds = 20
think_seconds = 60
pay_mean_seconds = 20
views_per_buyer = 50

[provider]
callback_duplicate = 0.5

[run]
time_scale = 0.05
order_transactions_per_second = 10
"""


def write_sale(directory: Path) -> Path:
    """Writes a sale of 20 units to 100 buyers, run at a twentieth of its time."""
    path = directory / "sale.toml"
    path.write_text(SALE, encoding="utf-8")
    return path


def command(sale: Path, directory: Path, *more: str) -> list[str]:
    """Gives the words that run a sale with its data in ``directory``."""
    words = ["run", "--sale", str(sale), "--data-directory", str(directory), *more]
    return [sys.executable, "-m", "lastunit.cli", *words]


def run_to_end(words: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Runs a sale with --exit --json; gives status and the JSON of the last line."""
    done = subprocess.run(
        [*words, "--exit", "--json"], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.stdout.strip(), done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def left_running(directory: Path) -> list[str]:
    """Names the processes that still have the run's directory on their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in words:
            found.append(words)
    return found
