"""Starts a program that cannot outlive its parent.

Owns the one call to the kernel that ties a child to its parent. Must not do anything else: it
replaces itself by the program. Next: ``children.py``.

Run as ``python -m lastunit.service.leash PARENT_PID PROGRAM ARGUMENT...``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
"""Linux: sends a signal to this process when its parent dies. Source: prctl(2)."""


def main() -> NoReturn:
    """Ties this process to its parent and becomes the program."""
    parent_pid, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call above; then nobody would ever stop us.
    if os.getppid() != parent_pid:
        raise SystemExit(1)
    os.execvp(program[0], program)  # noqa: S606 - the words come from our own parent, no shell


if __name__ == "__main__":
    main()
