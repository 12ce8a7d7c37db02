"""Finds or builds the pinned ghz, and runs it.

Owns: the one version of the load tool; its newest tag is not what `@latest` gives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VERSION = "v0.120.0"
RUN_SECONDS_MAX = 300


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load shape.

    Attributes:
        call: Method as `package.Service.Method`.
        data: JSON message, or list of messages of a stream; ghz templates are filled per call.
        total: Calls to make.
        concurrency: Calls in flight.
        connections: HTTP/2 connections that carry them.
    """

    call: str
    data: object
    total: int
    concurrency: int
    connections: int = 4


def binary() -> str:
    """Returns the path of ghz; builds the pinned version with Go when there is none.

    Raises:
        SystemExit: Neither ghz nor Go is there; says what to install.
    """
    named = os.environ.get("GHZ") or shutil.which("ghz")
    built = ROOT / ".tools" / "bin" / "ghz"
    if named:
        return named
    if not built.exists():
        go = shutil.which("go")
        if go is None:
            sys.exit(f"bench: install Go, or set GHZ to a ghz {VERSION} binary")
        print(f"bench: building ghz {VERSION} (about two minutes, once)", file=sys.stderr)
        environment = os.environ | {"GOBIN": str(built.parent)}
        module = f"github.com/bojand/ghz/cmd/ghz@{VERSION}"
        subprocess.run([go, "install", module], check=True, env=environment)
    return str(built)


def run(load: Load, *, address: str, protoset: Path) -> dict[str, Any]:
    """Runs one closed-loop load and returns ghz's own report.

    Args:
        load: What to send.
        address: `host:port` of a server without TLS on loopback.
        protoset: Descriptor set of the contract, so that a server without reflection works too.
    """
    command = [binary(), "--insecure", "--format", "json", "--call", load.call]
    # Refusals are answers too, with a latency of their own.
    command += ["--count-errors", "--protoset", str(protoset)]
    command += ["-n", str(load.total), "-c", str(load.concurrency)]
    command += [
        "--connections",
        str(min(load.connections, load.concurrency)),
        "--timeout",
        "30s",
        address,
    ]
    # In a file: thousands of operations are more than a command line holds.
    with tempfile.NamedTemporaryFile("w", prefix="lastunit-ghz-", suffix=".json") as file:
        json.dump(load.data, file)
        file.flush()
        command[1:1] = ["--data-file", file.name]
        outcome = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=RUN_SECONDS_MAX
        )
    if outcome.returncode != 0:
        sys.exit(f"bench: ghz failed: {outcome.stderr.strip() or outcome.stdout.strip()}")
    report: dict[str, Any] = json.loads(outcome.stdout)
    return report


def percentile_ms(report: dict[str, Any], percent: int) -> float:
    """Returns a latency percentile of a report, in milliseconds."""
    for row in report["latencyDistribution"]:
        if row["percentage"] == percent:
            return float(row["latency"]) / 1e6
    raise KeyError(percent)
