"""Finds the sources that the house rules speak of.

Owns: which files count. Generated stubs are left out everywhere; they have a drift check.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED_ENDINGS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


@cache
def tracked() -> tuple[Path, ...]:
    """Returns every file that git tracks, or would track, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    paths = (Path(line) for line in listing.stdout.splitlines())
    return tuple(sorted(path for path in paths if (ROOT / path).is_file()))


def of_kind(ending: str) -> list[Path]:
    """Returns hand-written files with this ending, for example `.py`."""
    return [
        path
        for path in tracked()
        if path.name.endswith(ending) and not path.name.endswith(GENERATED_ENDINGS)
    ]


def text_of(path: Path) -> str:
    """Returns the text of a file named relative to the root."""
    return (ROOT / path).read_text(encoding="utf-8")
