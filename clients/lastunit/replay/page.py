"""Puts text, figures, tables and charts on one self-contained HTML page.

Owns: the frame of the page, its style and its script, which are shipped in the package and copied
into the page, so that it shows without any network. Must not know what a replay is.
Next: ``report.py`` says what stands on the page of a replay.
"""

from __future__ import annotations

import dataclasses
import html
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cell", "Fact", "card", "pair", "render_page", "section", "table"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fact:
    """One figure in large type; ``tone`` is ``good``, ``bad`` or empty."""

    label: str
    value: str
    tone: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table; ``tone`` is ``good``, ``bad``, ``words`` or empty."""

    text: str
    tone: str = ""


def card(title: str, facts: Sequence[Fact], *, tone: str = "") -> str:
    """Renders a box of figures."""
    entries = "".join(
        f'<div class="{each.tone}"><dt>{html.escape(each.label)}</dt>'
        f"<dd>{html.escape(each.value)}</dd></div>"
        for each in facts
    )
    return (
        f'<section class="card {tone}"><h3>{html.escape(title)}</h3>'
        f'<dl class="facts">{entries}</dl></section>'
    )


def pair(*parts: str) -> str:
    """Renders parts beside each other where there is room for two, else below each other."""
    return f'<div class="pair">{"".join(parts)}</div>'


def section(title: str, *parts: str) -> str:
    """Renders a heading with what belongs to it."""
    return f"<h2>{html.escape(title)}</h2>{''.join(parts)}"


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Renders a table whose first column names the row."""
    top = "".join(f'<th scope="col">{html.escape(each)}</th>' for each in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(row[0].text)}</th>'
        + "".join(f'<td class="{each.tone}">{html.escape(each.text)}</td>' for each in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def render_page(title: str, *, lead: str, body: str, foot: str) -> str:
    """Renders the whole page.

    Args:
        title: Heading of the page, plain text.
        lead: First paragraph, plain text.
        body: HTML made by the other functions of this module.
        foot: Last line, plain text.

    Returns:
        An HTML document that refers to nothing outside itself; its policy forbids it to.
    """
    files = resources.files("lastunit.replay")
    style = files.joinpath("page.css").read_text(encoding="utf-8")
    script = files.joinpath("page.js").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>\n<style>\n{style}</style></head>\n"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>\n{body}\n"
        f"<footer>{html.escape(foot)}</footer>\n<script>\n{script}</script></body></html>\n"
    )
