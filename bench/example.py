"""Builds what drives or stands beside a server: the Rust examples of `lastunit-front`.

Owns: where a built one is. Must not run it.
"""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

from bench import machine


@cache
def example(name: str) -> str:
    """Builds an example; returns its path. Its name in capitals names one that is built already.

    Args:
        name: Of the example, such as `pairs`; then PAIRS is the variable.
    """
    if named := os.environ.get(name.upper()):
        return named
    command = ["cargo", "build", "--release", "--locked", "-p", "lastunit-front"]
    subprocess.run([*command, "--example", name], check=True, cwd=machine.ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", machine.ROOT / "target"))
    return str(target / "release" / "examples" / name)
