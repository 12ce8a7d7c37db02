"""Fronts over a fake node, on free loopback ports."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from lastunit_server.admission_service import AdmissionService
from lastunit_server.data_front import DataFront
from lastunit_server.loading import load_settings
from lastunit_server.settlement_front import SettlementFront

from .fake_node import FakeNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lastunit_server._native import Node
    from lastunit_server.advisor import Advisor
    from lastunit_server.settings import Settings


@pytest.fixture
def settings() -> Settings:
    """Free ports, and few enough streams that a test can open one too many."""
    flags = {
        "data.address": "127.0.0.1:0",
        "settlement.address": "127.0.0.1:0",
        "data.streams_max": "3",
    }
    return load_settings(flags=flags, environment={})


@pytest.fixture
def node() -> FakeNode:
    """A node that answers each request with itself."""
    return FakeNode()


@pytest.fixture
async def data_front(node: FakeNode, settings: Settings) -> AsyncIterator[DataFront]:
    """A running data front over the node."""
    front = DataFront(cast("Node", node), settings, asyncio.get_running_loop())
    front.settlement_address = "settlement.example:1"
    front.bind()
    await front.start()
    yield front
    await front.stop(1)


@pytest.fixture
def data_address(data_front: DataFront) -> str:
    """The address of a running data front over the node."""
    return data_front.address


@pytest.fixture
def settlement_front(node: FakeNode, settings: Settings) -> Iterator[SettlementFront]:
    """A running settlement front over the node."""
    native = cast("Node", node)
    admission = AdmissionService(native, cast("Advisor", None))
    front = SettlementFront(native, settings, admission=admission)
    front.data_address = "data.example:1"
    front.bind()
    front.start()
    yield front
    front.stop(1)
