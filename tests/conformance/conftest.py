"""The ledger under test: one that the caller names, or a server of our own in a temporary place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .kit import Access, Ledger, Server, start_server

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


# The fronts of a server of our own: each test runs on both.
_FRONTS = ("grpcio", "native")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what asks for a ledger on every front that there is."""
    fronts = ("named",) if _option(metafunc.config, "target") else _FRONTS
    for name in ("ledger", "rehearsal"):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, fronts, indirect=True, scope="session")


def behind(server: Server, front: str) -> Ledger:
    """Connects to one front of a server."""
    prefix = "native_" if front == "native" else ""
    return Ledger(server.ready[f"{prefix}data"], server.ready[f"{prefix}settlement"])


@pytest.fixture(scope="session")
def server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of our own, on the system's clock."""
    if _option(pytestconfig, "target"):
        pytest.skip("looks at both fronts of a server of its own: not with --target")
    started = start_server(tmp_path_factory.mktemp("ledger"))
    yield started
    assert started.stop() == 0, started.log.read_text()


@pytest.fixture(scope="session")
def ledger(request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """The ledger under test: the one that the caller names, or a front of our own server."""
    named = _named_ledger(request.config)
    opened = named or behind(request.getfixturevalue("server"), request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def manual_server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of our own whose clock the test drives."""
    if _option(pytestconfig, "target"):
        pytest.skip("drives the clock, which takes a server of its own: not with --target")
    started = start_server(
        tmp_path_factory.mktemp("rehearsal"),
        "--clock",
        "manual",
        "--manual-start-ms",
        "1000000",
        "--durability",
        "memory",
    )
    yield started
    assert started.stop() == 0, started.log.read_text()


@pytest.fixture(scope="session")
def rehearsal(manual_server: Server, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A ledger whose clock the test drives; only where the server is ours."""
    opened = behind(manual_server, request.param)
    yield opened
    opened.close()
