"""Fixtures of the payment tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.storage import pytest_generate_tests, storage

from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pytest_generate_tests", "storage", "world"]


@pytest.fixture
def world() -> Iterator[World]:
    """A payment service whose provider behaves."""
    created = World()
    yield created
    created.close()
