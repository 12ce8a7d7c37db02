"""What holds for every test: whatever happens in it, it leaves no server behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.conformance.kit import STARTED
from tests.storage import postgres_server, postgres_url

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["postgres_server", "postgres_url", "pytest_runtest_call"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Ends what a test started itself and did not stop; a fixture's server is the fixture's."""
    before = len(STARTED)
    try:
        return (yield)
    finally:
        for server in STARTED[before:]:
            if server.process.poll() is None:
                server.kill()
        del STARTED[before:]
