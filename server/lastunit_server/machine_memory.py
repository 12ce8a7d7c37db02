"""How much memory this process may use, as far as the system says.

Owns the default of memory.ledger_bytes_max; must not limit anything itself (the node does).
"""

from pathlib import Path
from typing import Final

__all__ = ["default_ledger_bytes", "memory_bytes"]

# While a snapshot is written, each part of the ledger that changes is kept twice, so that it may
# hold four fifths for that time at worst; the rest is for calls, the journal and Python.
_PARTS: Final = 5
_PARTS_OF_LEDGER: Final = 2

# A container's limit, by version 2 and version 1 of control groups.
_GROUP_LIMITS: Final = ("memory.max", "memory/memory.limit_in_bytes")


def memory_bytes(root: Path = Path("/")) -> int | None:
    """Reads how much memory there is for this process: the machine's, or its container's if less.

    Args:
        root: Where `proc` and `sys` are; a test brings its own.

    Returns:
        Bytes, or None if the system does not say.
    """
    found = [_machine_bytes(root / "proc/meminfo")]
    found += [_limit_bytes(root / "sys/fs/cgroup" / name) for name in _GROUP_LIMITS]
    return min((amount for amount in found if amount), default=None)


def default_ledger_bytes(root: Path = Path("/")) -> int:
    """Returns two fifths of the memory there is, 0 if the system does not say.

    Args:
        root: As in `memory_bytes`.
    """
    return (memory_bytes(root) or 0) * _PARTS_OF_LEDGER // _PARTS


def _machine_bytes(path: Path) -> int | None:
    for line in _text(path).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _limit_bytes(path: Path) -> int | None:
    text = _text(path).strip()
    # Version 2 writes `max` where there is no limit; version 1 a number larger than any machine.
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
