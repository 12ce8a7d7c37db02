"""Checkers of real names: none, the sandbox's; `lastunit.account.http_checker` has a real one.

Owns the one form of a number that is compared. Must not keep or log a name or a number.
Next: `lastunit.account.real_names`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from lastunit.errors import UnavailableError

__all__ = ["NoChecker", "SandboxChecker", "normalized_number"]

_SANDBOX_NUMBER: Final = re.compile(r"[0-9A-Z]{6,32}")


def normalized_number(number: str) -> str:
    """Returns the one form of a document's number that is compared.

    Letters of either case and width are the same; spaces, dots, slashes and dashes say nothing.
    """
    folded = unicodedata.normalize("NFKC", number).upper()
    return re.sub(r"[\s./\-\u2010-\u2015]", "", folded)


class NoChecker:
    """Stands where no checker was named: nobody's real name can be bound."""

    async def check(self, name: str, number: str) -> bool:
        """Refuses."""
        del name, number
        raise _no_checker()

    async def check_strongly(self, name: str, number: str, evidence: str) -> bool:
        """Refuses."""
        del name, number, evidence
        raise _no_checker()


def _no_checker() -> UnavailableError:
    return UnavailableError(
        "nobody was named who checks real names; start the account service with --name-checker",
        reason="CHECKER_NOT_CONFIGURED",
    )


class SandboxChecker:
    """Judges by the number alone; for tests and trials, never for customers.

    A number of 6 to 32 letters and digits is taken, unless its last character is 0. One whose last
    character is 9 fails the strong check only.
    """

    async def check(self, name: str, number: str) -> bool:
        """Tells whether the number is of the sandbox's form."""
        form = normalized_number(number)
        is_named = bool(name.strip())
        return is_named and bool(_SANDBOX_NUMBER.fullmatch(form)) and not form.endswith("0")

    async def check_strongly(self, name: str, number: str, evidence: str) -> bool:
        """Tells whether the number is of the sandbox's form and does not end in 9."""
        del evidence
        return await self.check(name, number) and not normalized_number(number).endswith("9")
