"""A browser, and a server whose pages it opens."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright
from tests.conformance.kit import Ledger, Server, start_server

from .pages import FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

# As Debian calls it, and as others do.
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window; where CI runs it must be there."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        advice = "install Chromium (Debian: apt-get install chromium)"
        assert not os.environ.get("CI"), advice
        pytest.skip(advice)
    with sync_playwright() as playwright:
        # It opens our own pages only, and a sandbox wants an account that is not root.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that nobody must sign in to."""
    server = start_server(tmp_path, *FLAGS)
    yield server
    server.stop()


@pytest.fixture
def ledger(server: Server) -> Iterator[Ledger]:
    """A client of the server."""
    ledger = Ledger(server.ready["data"], server.ready["settlement"])
    yield ledger
    ledger.close()
