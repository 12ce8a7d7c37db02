"""Writes docs/reference/settings.md from the server's settings in the code.

Owns: the form of the page. Must not: hold a word about a setting; descriptions, defaults and ranges
stand in `lastunit_server.settings`. A test compares the page with what this prints.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from lastunit_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "settings.md"

_HEAD = """# Settings of the ledger server

Made by `python tools/settings_page.py` from the code; do not edit.
Each comes from a TOML file (`--config`), the environment (`LASTUNIT_SERVER__DATA__ADDRESS`) or a
flag (`--set data.address=127.0.0.1:9000`), the later the stronger; each has a default.
`lastunit-server check-config` checks them as `serve` would and prints what would hold.
The policy of admission is a document of its own: [admission policy](admission-policy.md).
"""


def page() -> str:
    """Returns the whole page."""
    sections: list[str] = []
    top: list[str] = []
    for name, field in Settings.model_fields.items():
        section = _section_of(field)
        if section is None:
            top.append(_row(name, field))
            continue
        table = f"[[{name}]]" if get_origin(field.annotation) else f"[{name}]"
        sections += ["", f"## `{table}`", "", _told(section), "", *_header()]
        sections += [_row(key, row) for key, row in section.model_fields.items()]
    return "\n".join([_HEAD, *_header(), *top, *sections, ""])


def _header() -> list[str]:
    return ["| key | default | allowed | what it is |", "|---|---|---|---|"]


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """Returns the section that a field holds, one or a list of them."""
    for kind in _kinds(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _kinds(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _told(section: type[BaseModel]) -> str:
    """Returns what a section says of itself, a line for each paragraph, without its arguments."""
    paragraphs = inspect.cleandoc(section.__doc__ or "").split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_default(field)} | {_allowed(field)} | {field.description or ''} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "left out"
    return f"`{json.dumps(value, default=str)}`"


def _allowed(field: FieldInfo) -> str:
    choices = [
        choice
        for kind in _kinds(field.annotation)
        if get_origin(kind) is Literal
        for choice in get_args(kind)
    ]
    if choices:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in choices)
    low = next((it.ge for it in field.metadata if hasattr(it, "ge")), None)
    high = next((it.le for it in field.metadata if hasattr(it, "le")), None)
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    return "`true`, `false`" if field.annotation is bool else ""


def main() -> None:
    """Writes the page, or with `--check` fails if it differs."""
    if "--check" in sys.argv:
        if PAGE.read_text() != page():
            sys.exit(f"{PAGE.name} is not what the code says; run python tools/settings_page.py")
        return
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
