"""How much memory a process may use, from made-up systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit_server.machine_memory import default_ledger_bytes, memory_bytes

if TYPE_CHECKING:
    from pathlib import Path

GIBIBYTE = 1024**3


def system(root: Path, *, machine: int | None, groups: dict[str, str]) -> Path:
    """Writes the files that a system would show."""
    if machine is not None:
        (root / "proc").mkdir()
        text = f"MemFree: 1 kB\nMemTotal:  {machine // 1024} kB\n"
        (root / "proc/meminfo").write_text(text)
    for name, content in groups.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, 8 * GIBIBYTE),
        ({"memory.max": "max\n"}, 8 * GIBIBYTE),
        ({"memory.max": f"{2 * GIBIBYTE}\n"}, 2 * GIBIBYTE),
        ({"memory/memory.limit_in_bytes": f"{3 * GIBIBYTE}\n"}, 3 * GIBIBYTE),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIBIBYTE),
    ],
)
def test_containers_limit_counts_where_it_is_less(
    tmp_path: Path, groups: dict[str, str], expected: int
) -> None:
    """Both versions of control groups are read; no limit is no limit."""
    root = system(tmp_path, machine=8 * GIBIBYTE, groups=groups)

    assert memory_bytes(root) == expected
    assert default_ledger_bytes(root) == expected * 2 // 5


def test_system_that_does_not_say_leaves_it_to_the_node(tmp_path: Path) -> None:
    """0 is the setting's own word for the node's default."""
    assert memory_bytes(tmp_path) is None
    assert default_ledger_bytes(tmp_path) == 0
