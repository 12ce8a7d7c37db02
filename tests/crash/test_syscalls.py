"""System calls on the journal's files fail, one after the other."""

from __future__ import annotations

import pytest
from tests.crash.shim import NoCompilerError, build
from tests.crash.syscalls import main


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        build()
    except NoCompilerError as error:
        pytest.skip(str(error))


@pytest.mark.timeout(300)
def test_some_failed_calls_stop_the_server_and_lose_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every 71st call gets EIO: refused at the start or stopped, and all acknowledged is there."""
    status = main(["--seed", "5", "--step", "71", "--kind", "eio", "--json"])

    assert status == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_failed_calls_of_every_kind_stop_the_server_and_lose_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """EIO, a full disk, short writes and a kill at each 37th call."""
    status = main(["--seed", "6", "--step", "37", "--json"])

    assert status == 0, capsys.readouterr().out
