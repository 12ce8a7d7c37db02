"""The ledger under test: one that the caller names, or a server of our own in a temporary place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .kit import Ledger, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --target and --settlement."""
    group = parser.getgroup("conformance")
    group.addoption("--target", help="data listener of a running ledger, host:port")
    group.addoption("--settlement", help="its settlement listener; default: the same address")


def _addresses(config: pytest.Config) -> tuple[str, str] | None:
    # When the whole test tree runs, this file is read too late to add options.
    target = config.getoption("--target", os.environ.get("LASTUNIT_CONFORMANCE_TARGET"))
    settlement = config.getoption("--settlement", os.environ.get("LASTUNIT_CONFORMANCE_SETTLEMENT"))
    return (target, settlement or target) if target else None


@pytest.fixture(scope="session")
def ledger(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """The ledger under test, on the system's clock if it is ours."""
    addresses = _addresses(pytestconfig)
    if addresses:
        opened = Ledger(*addresses)
        yield opened
        opened.close()
        return
    server = start_server(tmp_path_factory.mktemp("ledger"))
    opened = Ledger(server.ready["data"], server.ready["settlement"])
    yield opened
    opened.close()
    assert server.stop() == 0, server.log.read_text()


@pytest.fixture(scope="session")
def rehearsal(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A ledger whose clock the test drives; only where the server is ours."""
    if _addresses(pytestconfig):
        pytest.skip("drives the clock of a server of its own")
    server = start_server(
        tmp_path_factory.mktemp("rehearsal"),
        "--clock",
        "manual",
        "--manual-start-ms",
        "1000000",
        "--durability",
        "memory",
    )
    opened = Ledger(server.ready["data"], server.ready["settlement"])
    yield opened
    opened.close()
    assert server.stop() == 0, server.log.read_text()
