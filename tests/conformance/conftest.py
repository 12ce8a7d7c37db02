"""The ledger under test: one that the caller names, or a server of our own in a temporary place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .kit import Access, Ledger, start_server

if TYPE_CHECKING:
    from collections.abc import Iterator


# Each option, and what it is for; LASTUNIT_CONFORMANCE_<NAME> does the same, because this file is
# read too late to add options when the whole test tree runs.
OPTIONS = {
    "target": "data listener of a running ledger, host:port",
    "settlement-target": "its settlement listener; default: the same address",
    "authorities": "PEM file of whom to trust; turns TLS on",
    "certificate": "PEM file of our certificate, for mutual TLS",
    "private-key": "PEM file of its key",
    "token-file": "file with a bearer token of a caller that may do everything",
    "server-name": "name in the server's certificate, if not the address's host",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds what it takes to reach a ledger that runs already."""
    group = parser.getgroup("conformance")
    for name, text in OPTIONS.items():
        group.addoption(f"--{name}", help=text)


def _option(config: pytest.Config, name: str) -> str:
    variable = f"LASTUNIT_CONFORMANCE_{name.upper().replace('-', '_')}"
    return str(config.getoption(f"--{name}", None) or os.environ.get(variable, ""))


def _file(config: pytest.Config, name: str) -> bytes | None:
    file = _option(config, name)
    return Path(file).read_bytes() if file else None


def _named_ledger(config: pytest.Config) -> Ledger | None:
    """Connects to the ledger that the caller names; None if there is none."""
    target = _option(config, "target")
    if not target:
        return None
    token = _file(config, "token-file") or b""
    access = Access(
        authorities=_file(config, "authorities"),
        certificate=_file(config, "certificate"),
        private_key=_file(config, "private-key"),
        token=token.decode("ascii").strip(),
        server_name=_option(config, "server-name"),
    )
    return Ledger(target, _option(config, "settlement-target") or target, access)


@pytest.fixture(scope="session")
def ledger(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """The ledger under test, on the system's clock if it is ours."""
    named = _named_ledger(pytestconfig)
    if named is not None:
        yield named
        named.close()
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
    if _option(pytestconfig, "target"):
        pytest.skip("drives the clock, which takes a server of its own: not with --target")
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
