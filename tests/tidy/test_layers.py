"""Arrows point one way: which part may import which.

The table is the whole rule; a new part needs a row, or its imports fail the test.
"""

from __future__ import annotations

import ast
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from . import sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Crate -> the crates of ours that it may depend on.
RUST_ARROWS = {
    "engine": set[str](),
    "admission": set[str](),
    "arrivals": {"admission"},
    "journal": set[str](),
    "wire": {"engine"},
    "policy": {"admission"},
    "node": {"admission", "arrivals", "engine", "journal", "policy", "wire"},
    "front": {"node", "wire"},
    "python": {"front", "journal", "node", "wire"},
    # The simulator: never shipped, nobody depends on it.
    "sim": {"engine", "journal", "node", "wire"},
}

# Python part -> the parts that it may import. A service reaches another only over gRPC, so no
# service imports another one; stubs (lastunit.<domain>.v1) are open to all and not listed.
PYTHON_ARROWS = {
    "lastunit.errors": set[str](),
    "lastunit.reflection": set[str](),
    "lastunit.tls": set[str](),
    "lastunit.tracing": set[str](),
    "lastunit.client": {"lastunit.errors", "lastunit.tracing"},
    "lastunit.reference": {"lastunit.reflection"},
    "lastunit.service": {
        "lastunit.errors",
        "lastunit.reflection",
        "lastunit.tls",
        "lastunit.tracing",
    },
    "lastunit.account": {"lastunit.client", "lastunit.errors", "lastunit.service"},
    "lastunit.admission": {"lastunit.client", "lastunit.errors"},
    "lastunit.prices": set[str](),
    "lastunit.order": {
        "lastunit.errors",
        "lastunit.client",
        "lastunit.prices",
        "lastunit.service",
    },
    "lastunit.payment": {"lastunit.errors", "lastunit.client", "lastunit.service"},
    "lastunit.load": {"lastunit.errors", "lastunit.client", "lastunit.service"},
    "lastunit.replay": {
        "lastunit.errors",
        "lastunit.client",
        "lastunit.load",
        "lastunit.order",
        "lastunit.payment",
        "lastunit.prices",
        "lastunit.service",
    },
    "lastunit.run": {
        "lastunit.errors",
        "lastunit.client",
        "lastunit.load",
        "lastunit.replay",
        "lastunit.service",
    },
    "lastunit.cli": {
        "lastunit.account",
        "lastunit.admission",
        "lastunit.errors",
        "lastunit.order",
        "lastunit.payment",
        "lastunit.replay",
        "lastunit.run",
    },
    # Its command line is a client of a live server too, and proves itself as clients do.
    "lastunit_server": {
        "lastunit.admission",
        "lastunit.client",
        "lastunit.errors",
        "lastunit.reflection",
        "lastunit.tls",
        "lastunit.tracing",
    },
}
STUBS = re.compile(r"lastunit\.[a-z]+\.v1(\.|$)")


def test_crates_depend_only_downwards() -> None:
    """A crate's manifest names no crate of ours that the table does not allow."""
    for name, allowed in RUST_ARROWS.items():
        manifest = tomllib.loads((sources.ROOT / "core_rs" / name / "Cargo.toml").read_text())
        named = {
            dependency.removeprefix("lastunit-")
            for dependency in manifest.get("dependencies", {})
            if dependency.startswith("lastunit-")
        }

        assert named <= allowed, f"crate {name} depends on {sorted(named - allowed)}"


@pytest.mark.parametrize("name", ["engine", "admission"])
def test_pure_crates_refuse_the_standard_library(name: str) -> None:
    """Engine and admission are no_std without unsafe code: a clock or a file cannot compile."""
    text = (sources.ROOT / "core_rs" / name / "src" / "lib.rs").read_text()

    assert "no_std" in text
    assert "#![forbid(unsafe_code)]" in text


def imports_of(path: Path) -> Iterator[str]:
    """Yields the dotted name of every module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(sources.text_of(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str | None:
    """Returns the part of the house that a module belongs to; None for others' code and stubs."""
    if STUBS.match(module):
        return None
    pieces = module.split(".")
    if pieces[0] == "lastunit_server":
        return "lastunit_server"
    if pieces[0] != "lastunit" or len(pieces) == 1:
        return None
    return ".".join(pieces[:2])


def module_of(path: Path) -> str:
    """Returns the dotted name of a file below `clients/` or `server/`."""
    return ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")


def test_python_imports_point_down() -> None:
    """No file imports a part that the table does not allow."""
    wrong = []
    for path in sources.of_kind(".py"):
        if path.parts[0] not in ("clients", "server"):
            continue
        own = part_of(module_of(path))
        for module in imports_of(path):
            target = part_of(module)
            is_part = target in PYTHON_ARROWS or (target or "").count(".") == 1
            if not is_part or target is None or target == own:
                continue
            if own is None or target not in PYTHON_ARROWS.get(own, set()):
                wrong.append(f"{path}: {own} imports {target}")

    assert wrong == []
