"""A node in a directory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lastunit_server import _native

from . import kit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def node(tmp_path: Path) -> Iterator[_native.Node]:
    """A node with a manual clock and a sale of 1,000 units."""
    node = _native.Node(kit.settings(tmp_path))
    kit.put_sale(node, 1000)
    yield node
    node.close()
