"""Bearer tokens: made once, kept as digests, compared in constant time.

Owns the form of a token and of the file of digests; must not know what a caller may do. A token is
`<id>.<secret>`: the id finds the row, so that exactly one digest is computed and compared whatever
is sent. The secret has 256 random bits, which is why one SHA-256 keeps it: a slow hash protects
passwords that people choose, and would let strangers burn our processor with guesses. The file::

    [[tokens]]
    id = "orders-2026-11"                  # said in logs; several tokens may name one caller
    caller = "order-service"
    sha256 = "9f86d081884c7d65…"           # of the whole token, 64 hexadecimal digits
    expires = 2027-11-01T00:00:00Z         # left out: never
"""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from pydantic.types import StringConstraints

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Token", "TokenFile", "Tokens", "new_token"]

TOKENS_MAX = 10_000
# Longer ones are refused before anything is computed of them.
TOKEN_LENGTH_MAX = 256
_SECRET_BYTES = 32
# Compared with when the id is unknown, so that an unknown id takes as long as a wrong secret.
_NOBODY = bytes(32)

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:-]{1,64}$")]
CallerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Token(BaseModel):
    """One row of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Identifier = Field(description="1 to 64 of [A-Za-z0-9_:-]")
    caller: CallerName = Field(description="1 to 64 of [A-Za-z0-9._:-]")
    sha256: Digest = Field(description="64 hexadecimal digits, lowercase")
    expires: AwareDatetime | None = Field(default=None, description="a time with its zone")


class TokenFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: list[Token] = Field(min_length=1, max_length=TOKENS_MAX, description="[[tokens]] rows")

    @model_validator(mode="after")
    def _are_ids_distinct(self) -> Self:
        seen: set[str] = set()
        for token in self.tokens:
            if token.id in seen:
                raise ValueError(
                    f"two tokens have the id {token.id!r}; give each its own, such as {token.id}-2"
                )
            seen.add(token.id)
        return self


@dataclass(frozen=True, slots=True)
class _Known:
    caller: str
    digest: bytes
    expires: float | None


class Tokens:
    """Tokens that are accepted, by id.

    Args:
        rows: The rows of a checked file.
    """

    def __init__(self, rows: list[Token]) -> None:
        self._known: Mapping[str, _Known] = {
            row.id: _Known(
                row.caller,
                bytes.fromhex(row.sha256),
                row.expires.timestamp() if row.expires else None,
            )
            for row in rows
        }

    def rows(self) -> list[dict[str, str | int | None]]:
        """Returns the digests, for a front that compares by itself."""
        return [
            {
                "id": identifier,
                "caller": known.caller,
                "sha256": known.digest.hex(),
                "expires_ms": None if known.expires is None else int(known.expires * 1000),
            }
            for identifier, known in self._known.items()
        ]

    def caller(self, token: str, *, now: float | None = None) -> str | None:
        """Finds whose token it is.

        Args:
            token: What the caller sent.
            now: Seconds since the epoch; None asks the system's clock.

        Returns:
            The caller's name; None if the token is unknown, wrong or expired.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            return None
        known = self._known.get(token.partition(".")[0])
        digest = hashlib.sha256(token.encode()).digest()
        is_equal = hmac.compare_digest(digest, known.digest if known else _NOBODY)
        if known is None or not is_equal:
            return None
        now = time.time() if now is None else now
        return known.caller if known.expires is None or now < known.expires else None


def new_token(caller: str, *, identifier: str | None, expires: datetime | None) -> tuple[str, str]:
    """Makes a token.

    Args:
        caller: Whom it names.
        identifier: The row's id; None makes one of the caller and the date.
        expires: When it ends; None is never.

    Returns:
        The token, which nobody can find out again, and the row for the file.

    Raises:
        pydantic.ValidationError: The caller or the id has another form.
    """
    if identifier is None:
        date = f"{datetime.now(tz=UTC):%Y%m%d}"
        identifier = f"{caller.replace('.', '-')[:46]}-{date}-{secrets.token_hex(4)}"
    token = f"{identifier}.{secrets.token_urlsafe(_SECRET_BYTES)}"
    digest = hashlib.sha256(token.encode()).hexdigest()
    row = Token(id=identifier, caller=caller, sha256=digest, expires=expires)
    lines = [f'id = "{row.id}"', f'caller = "{row.caller}"', f'sha256 = "{row.sha256}"']
    if expires is not None:
        lines.append(f"expires = {expires.isoformat()}")
    return token, "\n".join(["[[tokens]]", *lines, ""])
