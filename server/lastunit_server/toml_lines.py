"""Finds the line of a key in a TOML text, so that a wrong value can be pointed at.

Owns the search only: the text has been parsed by `tomllib` before, so what stands here is valid
and a line by line look is enough. A key that it can't find (an inline table's, say) gets the line
of the table that holds it.
"""

import re
import tomllib

__all__ = ["line_of"]

_HEADER = re.compile(r"^\s*\[(\[)?\s*(.+?)\s*\]\]?\s*(#.*)?$")
_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"^\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Returns the line, from 1, of the deepest part of a key that the text holds.

    Args:
        text: Valid TOML.
        path: The key's parts; a row of an array of tables is a number from 0.

    Returns:
        The line; None if not even the first part stands there.
    """
    best: tuple[int, int] | None = None
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        key = None if header else _KEY.match(line)
        if header:
            table = _row(_parts(header[2]), counts, is_array=bool(header[1]))
            found = table
        elif key:
            found = (*table, *_parts(key[1]))
        else:
            continue
        depth = _shared(found, path)
        if depth == len(found) and (best is None or depth > best[0]):
            best = (depth, number)
    return best[1] if best else None


def _row(
    name: tuple[str, ...], counts: dict[tuple[str, ...], int], *, is_array: bool
) -> tuple[str, ...]:
    """Adds the row's number to the name of an array of tables, and to those below it."""
    if is_array:
        counts[name] = counts.get(name, -1) + 1
        return (*name, str(counts[name]))
    for length in range(len(name), 0, -1):
        if name[:length] in counts:
            return (*name[:length], str(counts[name[:length]]), *name[length:])
    return name


def _parts(dotted: str) -> tuple[str, ...]:
    """Splits a dotted key as TOML does, quotes included."""
    try:
        held = tomllib.loads(f"{dotted} = 1")
    except tomllib.TOMLDecodeError:
        return ()
    parts: list[str] = []
    while isinstance(held, dict):
        [(part, held)] = held.items()
        parts.append(part)
    return tuple(parts)


def _shared(found: tuple[str, ...], path: tuple[str, ...]) -> int:
    depth = 0
    for ours, asked in zip(found, path, strict=False):
        if ours != asked:
            break
        depth += 1
    return depth
