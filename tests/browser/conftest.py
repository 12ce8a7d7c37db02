"""A browser, and a server whose pages it opens."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

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
