"""Finds or builds promtool, the checker of Prometheus' rules, and runs it.

Owns: the one version, pinned in tools/monitoring/go.mod. Must not: know a rule.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "tools" / "monitoring"
BUILT = ROOT / ".tools" / "bin" / "promtool"
PACKAGE = "github.com/prometheus/prometheus/cmd/promtool"
# promtool also knows every cloud's service discovery, which checking a rule needs none of.
TAGS = "remove_all_sd,netgo"
RUN_SECONDS_MAX = 120


def found() -> str | None:
    """Returns the path of a promtool that is there: PROMTOOL, ours, or one on the PATH."""
    named = os.environ.get("PROMTOOL")
    if named:
        return named
    return str(BUILT) if BUILT.exists() else shutil.which("promtool")


def binary() -> str:
    """Returns the path of promtool; builds the pinned version with Go when there is none.

    Raises:
        SystemExit: Neither promtool nor Go is there; says what to install.
    """
    there = found()
    if there is not None:
        return there
    go = shutil.which("go")
    if go is None:
        sys.exit("promtool: install Go or Debian's package prometheus, or set PROMTOOL to its path")
    print("promtool: building it (some minutes, once)", file=sys.stderr)
    command = [go, "build", "-trimpath", "-tags", TAGS, "-o", str(BUILT), PACKAGE]
    environment = os.environ | {"CGO_ENABLED": "0"}
    subprocess.run(command, check=True, cwd=MODULE, env=environment)
    return str(BUILT)


def run(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs promtool and returns what it said; does not judge.

    Args:
        words: Its arguments.
        text: Standard input.
    """
    return subprocess.run(
        [binary(), *words],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS_MAX,
    )


def main() -> None:
    """Runs promtool with our own arguments, or only makes sure that it is there."""
    outcome = run(*(sys.argv[1:] or ["--version"]))
    print(outcome.stdout + outcome.stderr, end="")
    sys.exit(outcome.returncode)


if __name__ == "__main__":
    main()
