"""The checker of real names over HTTP: its answers, and that nothing else is taken for one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from lastunit.account.http_checker import CheckerSettings, HttpChecker
from lastunit.account.name_checker import NoChecker, normalized_number
from lastunit.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class CheckerServer:
    """Answers every question alike and keeps what it was asked.

    Attributes:
        status: What it answers with.
        body: Likewise.
        asked: Header `authorization` and body of each question.
    """

    def __init__(self) -> None:
        self.status = 200
        self.body = b'{"is_real": true}'
        self.asked: list[tuple[str | None, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                question = json.loads(self.rfile.read(size))
                outer.asked.append((self.headers.get("authorization"), question))
                self.send_response(outer.status)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server.server_port}/check"

    def close(self) -> None:
        """Stops it."""
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def checker_server() -> Iterator[CheckerServer]:
    """Gives a checker on this machine."""
    server = CheckerServer()
    yield server
    server.close()


async def test_the_checker_is_asked_and_believed(
    checker_server: CheckerServer, tmp_path: Path
) -> None:
    """Question, token and both answers are as the page says."""
    token_file = tmp_path / "token"
    token_file.write_text("sesame\n")
    checker = HttpChecker(CheckerSettings(checker_server.url, token_file))
    is_real = await checker.check("Anna", "AB1")
    checker_server.body = b'{"is_real": false}'
    is_strong = await checker.check_strongly("Anna", "AB1", "face-7")
    await checker.aclose()

    assert is_real
    assert not is_strong
    assert checker_server.asked == [
        ("Bearer sesame", {"name": "Anna", "number": "AB1", "is_strong": False}),
        (
            "Bearer sesame",
            {"name": "Anna", "number": "AB1", "is_strong": True, "evidence": "face-7"},
        ),
    ]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (302, b""),
        (200, b"no json"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"is_real": "yes"}'),
    ],
)
async def test_whatever_else_comes_is_no_answer(
    checker_server: CheckerServer, status: int, body: bytes
) -> None:
    """Nobody is refused because a checker is ill; the error shows no name and no number."""
    checker_server.status, checker_server.body = status, body
    checker = HttpChecker(CheckerSettings(checker_server.url))
    with pytest.raises(UnavailableError) as caught:
        await checker.check("Anna Secret", "SECRET1")
    await checker.aclose()

    assert caught.value.reason == "CHECKER_UNAVAILABLE"
    assert "secret" not in str(caught.value).lower()
    assert caught.value.__cause__ is None


async def test_a_checker_that_is_gone_is_no_answer() -> None:
    """A refused connection is told as such."""
    server = CheckerServer()
    checker = HttpChecker(CheckerSettings(server.url))
    server.close()
    with pytest.raises(UnavailableError, match="did not answer"):
        await checker.check("Anna", "AB1")
    await checker.aclose()


async def test_without_a_checker_nobody_is_judged() -> None:
    """What was not configured says so, and how to."""
    with pytest.raises(UnavailableError, match="--name-checker"):
        await NoChecker().check("Anna", "AB1")
    with pytest.raises(UnavailableError, match="--name-checker"):
        await NoChecker().check_strongly("Anna", "AB1", "")


@pytest.mark.parametrize("url", ["", "http://checker.example/check", "ftp://127.0.0.1/", "x"])
def test_names_are_never_sent_in_the_open(url: str) -> None:
    """Only https, or this machine."""
    with pytest.raises(ValueError, match="in the open"):
        CheckerSettings.from_environment({"LASTUNIT_ACCOUNT_CHECKER_URL": url})


@pytest.mark.parametrize(
    "spelled", ["AB123456", "ab 123-456", "\uff21\uff22123456", "AB\u2013123.456", " ab/123456\t"]
)
def test_a_number_has_one_form(spelled: str) -> None:
    """Case, width, spaces and strokes do not make another number."""
    assert normalized_number(spelled) == "AB123456"
