"""Rooms stay small: lengths of files, functions and lines.

Each bound is a ratchet: it may be lowered, never raised without a commit of its own that says why.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from . import sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
LINE_LENGTH_MAX = 100
README_LINES_MAX = 80
RUST_FUNCTION = re.compile(
    r"^(\s*)(pub(\([a-z]+\))? )?(const |async |unsafe |extern \"C\" )*fn (\w+)"
)


def test_files_are_short() -> None:
    """No hand-written Rust or Python file is longer than the bound."""
    long = {
        str(path): lines
        for ending in (".rs", ".py")
        for path in sources.of_kind(ending)
        if (lines := sources.text_of(path).count("\n")) > FILE_LINES_MAX
    }

    assert long == {}


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yields name and length in lines of each function of a Python file, its docstring left out."""
    for node in ast.walk(ast.parse(sources.text_of(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            first = body[0].lineno if body else node.lineno
            yield node.name, (node.end_lineno or first) - first + 1


def rust_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yields name and length in lines of each function of a formatted Rust file.

    Relies on rustfmt, which puts the closing brace at the indentation of `fn`.
    """
    lines = sources.text_of(path).splitlines()
    for index, line in enumerate(lines):
        found = RUST_FUNCTION.match(line)
        if found is None:
            continue
        closing = found[1] + "}"
        for offset, later in enumerate(lines[index:]):
            if later in (closing, closing + ",") or (offset == 0 and later.endswith((";", "}"))):
                yield found[5], offset + 1
                break
            if later.endswith(";") and later.startswith(found[1] + ")"):
                break


def test_functions_fit_a_screen() -> None:
    """No function is longer than the bound."""
    long = [
        f"{path}: {name} has {lines} lines"
        for ending, functions in ((".py", python_functions), (".rs", rust_functions))
        for path in sources.of_kind(ending)
        for name, lines in functions(path)
        if lines > FUNCTION_LINES_MAX
    ]

    assert long == []


def test_lines_fit() -> None:
    """No line of ours in Rust, Python or a proto is longer than the bound."""
    long = [
        f"{path}:{number}"
        for ending in (".rs", ".py", ".proto")
        for path in sources.of_kind(ending)
        if path.parts[:2] != ("proto", "buf")
        for number, line in enumerate(sources.text_of(path).splitlines(), start=1)
        if len(line) > LINE_LENGTH_MAX
    ]

    assert long == []


def test_each_top_folder_has_a_short_readme() -> None:
    """Each top-level folder tells in at most a page what it holds."""
    for folder in ("proto", "core_rs", "server", "clients", "tests", "bench", "tools"):
        readme = sources.ROOT / folder / "README.md"

        assert readme.is_file(), f"{folder} has no README.md"
        assert readme.read_text().count("\n") <= README_LINES_MAX
