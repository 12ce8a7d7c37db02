"""Fixtures of the order tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def world() -> Iterator[World]:
    """An order service with ten units to sell."""
    created = World()
    yield created
    created.close()
