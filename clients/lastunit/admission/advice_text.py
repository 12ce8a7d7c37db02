"""Advice as people read it, and as lines for the file that it is for.

Owns the words around the numbers. Must not reckon (the server does) or know a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lastunit.admission.v1 import admission_service_pb2 as messages

__all__ = ["advice_lines"]

# The file, and which sections go there.
_FILES: Final = {
    "the admission policy (lastunit admission dry-run FILE)": (
        *("gate", "window", "lanes.reservation"),
    ),
}


def advice_lines(answer: messages.GetAdviceResponse) -> Iterator[str]:
    """Yields the lines of a whole answer: each number with its arithmetic, then what to set.

    Args:
        answer: What the server said.
    """
    for advice in answer.advices:
        of = f" of sale {advice.sale_id}" if advice.sale_id else ""
        now = f" (now {advice.present:g})" if advice.HasField("present") else ""
        yield f"{advice.key}{of}: {advice.value:g} {advice.unit}{now}"
        yield f"    {advice.arithmetic}"
        yield f"    {advice.basis}"
    for missing in answer.missing:
        yield f"{missing.key}: not advised"
        yield f"    {missing.why}"
    for file, sections in _FILES.items():
        lines = [line for section in sections for line in _section(answer, section)]
        if lines:
            yield ""
            yield f"# {file}"
            yield from lines


def _section(answer: messages.GetAdviceResponse, section: str) -> Iterator[str]:
    rows = [row for row in answer.advices if row.key.rpartition(".")[0] == section]
    if rows:
        yield f"[{section}]"
    for row in rows:
        yield f"{row.key.rpartition('.')[2]} = {_toml(row.value)}"


def _toml(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
