"""Builds `shim.c` and makes the environment that puts it between the server and the C library.

Owns the names of the shim's variables. Must not: decide which call fails (`syscalls.py`) or how the
clock goes (`test_clock.py`).
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
COMPILERS = ("cc", "gcc", "clang")
# What changes files, and what only looks at them.
CHANGES = ("create", "pwrite", "fdatasync", "fsync", "rename", "unlink")
LOOKS = ("open", "pread")


class NoCompilerError(Exception):
    """There is no C compiler; the message says what is missing."""


@functools.cache
def build() -> Path:
    """Returns the shim, built once a process.

    Raises:
        NoCompilerError: There is none on the path; install one, for example the package gcc.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise NoCompilerError(f"none of {', '.join(COMPILERS)} is on the path; install gcc")
    target = Path(tempfile.mkdtemp(prefix="lastunit-shim-")) / "shim.so"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(target), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return target


@dataclass(frozen=True)
class Fault:
    """What fails: the call with this number among those that count, from 1."""

    kind: str
    at: int
    calls: tuple[str, ...] = CHANGES
    is_forever: bool = False


def environment(
    directory: Path, *, fault: Fault | None = None, log: Path | None = None
) -> dict[str, str]:
    """Returns the variables of a child whose calls on a directory are counted.

    Args:
        directory: The server's data directory.
        fault: Which call fails and how; without, none does.
        log: A file that gets one line a call.
    """
    found = {"LD_PRELOAD": str(build()), "SHIM_DIRECTORY": str(directory)}
    if log:
        found["SHIM_LOG"] = str(log)
    if fault:
        found |= {
            "SHIM_AT": str(fault.at),
            "SHIM_FAULT": fault.kind,
            "SHIM_CALLS": ",".join(fault.calls),
        }
    return found | ({"SHIM_FOREVER": "1"} if fault and fault.is_forever else {})


class FakeClock:
    """The machine's clock as a child sees it: the real one and an offset that a test sets."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0.0)

    def environment(self) -> dict[str, str]:
        """Returns the variables of the child."""
        return {"LD_PRELOAD": str(build()), "SHIM_CLOCK": str(self._file)}

    def set(self, seconds: float) -> None:
        """Sets the clock so far ahead of the real one, or behind it, at once."""
        # In place: the child has the file mapped.
        with self._file.open("r+b" if self._file.exists() else "w+b") as file:
            file.write(struct.pack("<q", int(seconds * 1e9)))
