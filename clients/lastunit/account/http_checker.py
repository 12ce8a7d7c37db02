"""Asks a checker of real names over HTTP.

Owns the requests and what answers mean. Must not keep or log a name or a number.
Next: docs/operating/accounts.md says what the checker must answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx

from lastunit.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CheckerSettings", "HttpChecker"]

ENVIRONMENT_PREFIX: Final = "LASTUNIT_ACCOUNT_CHECKER_"

# A human waits for the answer; a checker that takes longer is as good as down.
TIMEOUT_SECONDS: Final = 5.0

CONNECTIONS_MAX: Final = 16

_LOCAL: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class CheckerSettings:
    """Says which checker to ask.

    Attributes:
        url: Where to post to; https, or http on this machine.
        token_file: Holds the bearer token in one line; None for none.
    """

    url: str
    token_file: Path | None = None

    def __post_init__(self) -> None:
        """Refuses what would send names in the open.

        Raises:
            ValueError: Which setting is wrong.
        """
        parts = urlsplit(self.url)
        is_local = parts.scheme == "http" and parts.hostname in _LOCAL
        if not parts.hostname or not (is_local or parts.scheme == "https"):
            raise ValueError(
                f"{ENVIRONMENT_PREFIX}URL must be https, or http on this machine: real names would"
                " be sent in the open"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> CheckerSettings:
        """Reads LASTUNIT_ACCOUNT_CHECKER_URL and LASTUNIT_ACCOUNT_CHECKER_TOKEN_FILE.

        Raises:
            ValueError: As for the class.
        """
        token_file = environment.get(f"{ENVIRONMENT_PREFIX}TOKEN_FILE", "")
        return cls(
            environment.get(f"{ENVIRONMENT_PREFIX}URL", ""),
            Path(token_file) if token_file else None,
        )


class HttpChecker:
    """Posts each question as JSON: `{"name", "number", "is_strong", "evidence"}`.

    The answer is status 200 and `{"is_real": true}` or `{"is_real": false}`; everything else counts
    as no answer, so that nobody is refused because a checker is ill.

    Args:
        settings: Which checker.
        timeout_seconds: Until a call counts as lost, more than 0.

    Raises:
        OSError: The token's file cannot be read.
    """

    def __init__(
        self, settings: CheckerSettings, *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        headers = {}
        if settings.token_file is not None:
            token = settings.token_file.read_text(encoding="ascii").strip()
            headers["authorization"] = f"Bearer {token}"
        self._url = settings.url
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=timeout_seconds,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            # A redirect would send names to somebody who was not named.
            follow_redirects=False,
            trust_env=False,
        )

    async def check(self, name: str, number: str) -> bool:
        """Tells whether a document has this name and this number."""
        return await self._ask({"name": name, "number": number, "is_strong": False})

    async def check_strongly(self, name: str, number: str, evidence: str) -> bool:
        """Tells whether the human in front is the one of the document."""
        return await self._ask(
            {"name": name, "number": number, "is_strong": True, "evidence": evidence}
        )

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _ask(self, question: Mapping[str, Any]) -> bool:
        try:
            response = await self._client.post(self._url, json=question)
        except httpx.HTTPError as error:
            # Only the kind: the text of some errors shows what was sent.
            raise _ill(type(error).__name__) from None
        if response.status_code != httpx.codes.OK:
            raise _ill(f"status {response.status_code}")
        try:
            answer = response.json()["is_real"]
        except (ValueError, KeyError, TypeError):
            answer = None
        if not isinstance(answer, bool):
            raise _ill("an answer without is_real")
        return answer


def _ill(why: str) -> UnavailableError:
    return UnavailableError(
        f"the checker of real names did not answer ({why}); repeat the call with the same id",
        reason="CHECKER_UNAVAILABLE",
    )
