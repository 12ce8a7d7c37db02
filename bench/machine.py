"""What machine and commit a figure is of, and how much CPU a process has used."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def facts() -> dict[str, object]:
    """Returns processor, cores, kernel, Python, commit and time of the run."""
    processor = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    head = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": head.stdout.strip(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def cpu_seconds(pid: int) -> float:
    """Returns user and system CPU seconds that process `pid` has used so far, all threads.

    From the kernel's clock of the process, to the nanosecond: /proc counts in ticks of 10 ms, in
    which thousands of calls fit.
    """
    # As clock_getcpuclockid(3) makes it; Python has that only for threads of its own.
    return time.clock_gettime((~pid << 3) | 2)
