"""Resolves requirements/dev.in into requirements/dev.txt, with hashes and without any host.

Owns: the one lock file of the Python side. Needs the `uv` command, which is not part of the
everyday environment, because only a maintainer who changes a dependency runs this.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"


def main() -> None:
    """Writes requirements/dev.txt; ends with a sentence when uv is missing."""
    uv = shutil.which("uv")
    if uv is None:
        sys.exit("lock: install uv first (`pip install uv`), then run `make lock` again")
    flags = ["--universal", "--generate-hashes", "--no-emit-index-url", "--no-header"]
    flags += ["--no-annotate", "--python-version", "3.11", "--quiet"]
    target = REQUIREMENTS / "dev.txt"
    subprocess.run(
        [uv, "pip", "compile", *flags, str(REQUIREMENTS / "dev.in"), "-o", str(target)], check=True
    )


if __name__ == "__main__":
    main()
