"""CPU that a server used, with all processes it is made of."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name: parent; user and system time of itself, then of the
# children that it has waited for.
_PARENT = 1
_TIMES = slice(11, 15)


def _fields(pid: str) -> list[str]:
    text = (Path("/proc") / pid / "stat").read_text()
    return text[text.rindex(")") + 2 :].split()


def tree_cpu_seconds(pid: int) -> float:
    """Returns user and system seconds of a process and its children, ended ones included.

    In ticks of 10 ms: a load must run for a second or more.
    """
    ticks = sum(int(field) for field in _fields(str(pid))[_TIMES])
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = _fields(entry.name)
            except OSError:
                continue  # It has ended meanwhile.
            if fields[_PARENT] == str(pid):
                ticks += sum(int(field) for field in fields[_TIMES])
    return ticks / _TICKS_PER_SECOND
