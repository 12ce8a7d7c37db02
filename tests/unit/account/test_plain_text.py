"""The search for personal data finds what is planted, so that its silence means something."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests import plain_text

from lastunit.account import _tables
from lastunit.account.process import open_database

PLANTED = "anna.planted" + "@" + "example.org"
MARKED = "+49" + "30" + "5550123"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"it is {PLANTED}, he said", [PLANTED]),
        (f'{{"phone":"{MARKED}"}}', [MARKED]),
        ("L01X00T47", ["L01X00T47"]),
        ("a*****@e*****.org +49*****456", []),
        ("2026-11-23T10:00:00+00:00 +1700 1+23", []),
    ],
)
def test_plain_text_is_told_from_masks(text: str, expected: list[str]) -> None:
    """Addresses, numbers and what the tests call an identity number; masks are none of these."""
    found = list(plain_text.findings_in(text.encode(), plain_text.secrets_of_the_tests()))

    assert expected == found


def test_it_is_found_across_the_end_of_a_chunk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """However large the file and wherever in it."""
    folder = tmp_path_factory.mktemp("planted")
    size = plain_text._CHUNK_BYTES
    (folder / "large").write_bytes(b"x" * (size - 5) + b" " + PLANTED.encode() + b" " * 10)

    assert plain_text.findings(folder) == [f"large: {PLANTED}"]


async def test_an_identifier_in_a_table_is_found(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A column that holds one in the open is seen in the file of the database or its log."""
    folder = tmp_path_factory.mktemp("planted")
    with open_database(folder / "account.db") as database:
        row = {"name": "planted", "value": PLANTED, "version": 1}
        await database.run(lambda connection: connection.execute(sa.insert(_tables.settings), row))
        found = plain_text.findings(folder)

    assert found
    assert all(PLANTED in each for each in found)


@pytest.mark.parametrize("where", ["file", "log", "nowhere"])
def test_a_test_that_leaves_one_fails(tmp_path_factory: pytest.TempPathFactory, where: str) -> None:
    """The fixture that the folders of the services import does what it says."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "conftest.py").write_text(
        "from tests.plain_text import nothing_personal\n__all__ = ['nothing_personal']\n"
    )
    body = {
        "file": f"(tmp_path / 'x').write_text({PLANTED!r})",
        "log": f"logging.getLogger('lastunit').warning('to %s', {PLANTED!r})",
        "nowhere": "logging.getLogger('lastunit').warning('to a*****@e*****.org')",
    }[where]
    (folder / "test_it.py").write_text(
        f"import logging\ndef test_it(tmp_path):\n    {body}\n", encoding="utf-8"
    )
    root = Path(plain_text.ROOT).parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"),
            *("-p", "no:hypothesispytest", "--rootdir", str(folder), "--import-mode=importlib"),
            *("--basetemp", str(folder / "base"), str(folder / "test_it.py")),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root)},
    )

    assert (done.returncode != 0) == (where != "nowhere"), done.stdout + done.stderr
    assert ("personal data in plain text" in done.stdout) == (where != "nowhere")


def test_loggers_of_the_service_are_searched(caplog: pytest.LogCaptureFixture) -> None:
    """What the fixture looks at is what was logged."""
    logging.getLogger("lastunit.account").warning("hello")

    assert [record.getMessage() for record in caplog.get_records("call")] == ["hello"]
