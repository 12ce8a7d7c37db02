"""Secured servers of our own, stopped after the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from .kit import Door, new_door

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["", "native_"], ids=["grpcio", "native"])
def door(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Door]:
    """A door with TLS, called through each front, whose server is stopped after the test."""
    made = new_door(tmp_path)
    made.prefix = request.param
    yield made
    if made.server is not None:
        made.server.stop()


@pytest.fixture(scope="module", params=["", "native_"], ids=["grpcio", "native"])
def open_door(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Door]:
    """A running door with TLS and one caller, shared by the tests that change no file."""
    made = new_door(tmp_path_factory.mktemp("door"))
    made.prefix = request.param
    made.give_token("orders")
    made.give_token("late", expires=datetime.now(tz=UTC) - timedelta(seconds=1))
    made.write()
    server = made.start("--log-level", "debug")
    yield made
    server.stop()


@pytest.fixture(params=["", "native_"], ids=["grpcio", "native"])
def mutual_door(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Door]:
    """A door with mutual TLS, called through each front, whose server is stopped after the test."""
    made = new_door(tmp_path, is_mutual=True)
    made.prefix = request.param
    yield made
    if made.server is not None:
        made.server.stop()
