"""Opening the server's pages in a browser, and keeping pictures of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 30_000
# Set to a folder to keep the pictures that docs/operating/console.md shows.
PICTURES = os.environ.get("LASTUNIT_PICTURES", "")
FLAGS = (
    "--set",
    "console.address=127.0.0.1:0",
    "--set",
    "gate.address=127.0.0.1:0",
    "--set",
    "gate.settled_per_second=1",
    "--durability",
    "memory",
)


def opened(browser: Browser, address: str, **fields: str | int) -> Page:
    """Opens a page that must not fail in itself nor ask any other host."""
    width = int(fields.pop("width", 1280))
    viewport = {"width": width, "height": 900}
    page = browser.new_page(viewport=viewport, **fields)  # type: ignore[arg-type]
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
    page.on("request", lambda request: _must_be_ours(request.url))
    page.goto(f"http://{address}")
    return page


def _must_be_ours(url: str) -> None:
    assert url.startswith(("http://127.0.0.1:", "data:")), url


def picture(page: Page, name: str, part: str = "") -> None:
    """Keeps a picture of what is on the screen, or of a part, if somebody wants them."""
    if not PICTURES:
        return
    path = Path(PICTURES) / f"{name}.png"
    if part:
        page.locator(part).screenshot(path=path)
        return
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path)
