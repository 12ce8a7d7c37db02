"""Looks through all that services wrote in a test for identifiers and identity numbers.

Owns the search and the fixture `nothing_personal`: a folder whose conftest imports it has each
test's files and log lines searched when the test is over. Must not know a service.

Addresses and phone numbers are found by their form, whoever's they are. Identity numbers, and phone
numbers without their plus, have no form of their own: they are collected from the sources of the
tests that use them.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["findings", "findings_in", "nothing_personal", "secrets_of_the_tests"]

ROOT = Path(__file__).resolve().parent
# Whose constants are looked for.
FOLDERS = ("unit/account", "integration/account", "e2e")

# Long enough that ciphertexts and digests do not look so by chance: of 100 MB of random bytes, one
# in a hundred would.
_ADDRESS_END = re.compile(rb"@[A-Za-z0-9-]{4,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,12}")
_ADDRESS_START = re.compile(rb"[A-Za-z0-9._%-]{4,64}$")
_PHONE = re.compile(rb"\+[1-9][0-9]{7,14}(?![0-9])")
# Identity numbers in the one form that is compared; ids and names have small letters.
_NUMBER = re.compile(r"(?=.*[0-9])(?=.*[A-Z])[0-9A-Z]{8,32}")

_CHUNK_BYTES = 16 * 1024 * 1024
# What could be cut in two at the end of a chunk.
_OVERLAP_BYTES = 512

# Of the mail server that tests run, whose business addresses are.
_FOREIGN_LOGGERS = ("mail.",)


@functools.cache
def secrets_of_the_tests() -> tuple[bytes, ...]:
    """Returns the identity numbers and bare phone numbers that the tests use."""
    found: set[bytes] = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.update(_secrets(node.value))
    return tuple(sorted(found))


def _secrets(text: str) -> Iterator[bytes]:
    if re.fullmatch(r"\+[1-9][0-9]{8,14}", text):
        yield text[1:].encode()
    if _NUMBER.fullmatch(text):
        yield from (text.encode(), text.lower().encode())


def findings_in(data: bytes, secrets: Iterable[bytes] = ()) -> Iterator[str]:
    """Yields what is personal in some bytes.

    Args:
        data: Whatever was written.
        secrets: What is looked for besides.
    """
    for match in _ADDRESS_END.finditer(data):
        start = _ADDRESS_START.search(data, max(0, match.start() - 64), match.start())
        if start is not None:
            yield (start.group() + match.group()).decode()
    for match in _PHONE.finditer(data):
        yield match.group().decode()
    for secret in secrets:
        if secret in data:
            yield secret.decode()


def findings(folder: Path, secrets: Iterable[bytes] | None = None) -> list[str]:
    """Returns what is personal in the files below a folder, each with its file.

    Args:
        folder: What to search.
        secrets: What is looked for besides addresses and numbers; those of the tests if None.
    """
    looked_for = secrets_of_the_tests() if secrets is None else tuple(secrets)
    found: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found += {f"{path.relative_to(folder)}: {each}" for each in _in_file(path, looked_for)}
    return sorted(found)


def _in_file(path: Path, secrets: tuple[bytes, ...]) -> Iterator[str]:
    rest = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                # A journal keeps room back; a hundred megabytes of nothing need no search.
                if chunk.count(0) < len(chunk):
                    yield from findings_in(rest + chunk, secrets)
                rest = chunk[-_OVERLAP_BYTES:]
    except FileNotFoundError:
        # A server's temporary file, gone since it was listed.
        return


@pytest.fixture(autouse=True)
def nothing_personal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test that left an identifier or identity number in a file or a log line.

    It is set up before the fixtures of the test itself, so it searches when all have ended.
    """
    yield
    found = findings(tmp_path)
    for when in ("setup", "call", "teardown"):
        for record in caplog.get_records(when):
            if record.name.startswith(_FOREIGN_LOGGERS):
                continue
            line = f"{record.getMessage()} {vars(record)}".encode(errors="replace")
            found += [
                f"log of {record.name}: {each}"
                for each in findings_in(line, secrets_of_the_tests())
            ]
    assert found == [], "personal data in plain text"
