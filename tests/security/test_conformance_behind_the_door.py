"""The conformance suite against a secured server that has been used before."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.conformance.kit import ROOT

if TYPE_CHECKING:
    from .kit import Door

TABLE = """
[[permissions]]
callers = ["tester"]
methods = ["admin", "reserve", "settle", "read", "journal"]

[[permissions]]
callers = ["tester"]
methods = ["admission", "policy", "pressure", "gate", "introspection"]
"""


@pytest.mark.slow
def test_the_suite_passes_through_mutual_tls_token_and_table_twice(mutual_door: Door) -> None:
    """With --target and keys every test passes or is skipped with its reason, and again."""
    door = mutual_door
    door.give_token("tester")
    door.write(TABLE)
    ready = door.start().ready
    shown = door.authority.sign("tester")
    token = door.directory / "tester.token"
    token.write_text(door.tokens["tester"])
    command = [
        *(
            sys.executable,
            "-m",
            "pytest",
            "tests/conformance",
            "-q",
            "-rs",
            "-p",
            "no:cacheprovider",
        ),
        *("--target", ready[f"{door.prefix}data"]),
        *("--settlement-target", ready[f"{door.prefix}settlement"]),
        *("--authorities", str(door.authority.certificate), "--token-file", str(token)),
        *("--certificate", str(shown.certificate), "--private-key", str(shown.key)),
        *("--server-name", "localhost"),
    ]

    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stdout[-4000:]
        assert "drives the clock" in done.stdout
