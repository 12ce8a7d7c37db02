"""What an operator can set of the account service, with its ranges.

Owns names, units, defaults and checks. Must not read flags or files: `cli` does.
Next: docs/operating/accounts-privacy.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from lastunit.account.gate import BucketSettings

__all__ = ["AccountSettings", "CheckerName", "Proofs", "SenderName"]

Proofs = Literal["code", "none"]
SenderName = Literal["smtp", "sandbox", "none"]
CheckerName = Literal["http", "sandbox", "none"]

# A choice: 360,000 newcomers an hour. One costs about 3 ms of a core (its code, its account, its
# login), so a flood takes less than half of one, and the rest is for who has an account already.
SIGN_UPS_PER_SECOND: Final = 100.0
LOGINS_PER_SECOND: Final = 500.0


def _sign_up_bucket() -> BucketSettings:
    return BucketSettings("sign_up", SIGN_UPS_PER_SECOND, burst_calls=200, at_once_max=128)


def _login_bucket() -> BucketSettings:
    return BucketSettings("login", LOGINS_PER_SECOND, burst_calls=1_000, at_once_max=512)


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Says how the account service treats its callers.

    Attributes:
        proofs: `code`: Register, Login and what changes an account need a code. `none`: Register
            and Login need none, for simulations and measurements.
        sender: Who carries codes and notices: `smtp`, `sandbox` or `none`.
        checker: Who checks real names: `http`, `sandbox` or `none`.
        sign_up: The bucket of Register, and of codes for new identifiers.
        login: The bucket of Login, and of all other codes.
    """

    proofs: Proofs = "none"
    sender: SenderName = "none"
    checker: CheckerName = "none"
    sign_up: BucketSettings = field(default_factory=_sign_up_bucket)
    login: BucketSettings = field(default_factory=_login_bucket)

    def __post_init__(self) -> None:
        """Refuses what cannot work.

        Raises:
            ValueError: Which setting is wrong, and what to do.
        """
        if self.proofs not in get_args(Proofs):
            raise ValueError(f"proofs is {self.proofs}; it must be code or none")
        if self.sender not in get_args(SenderName):
            raise ValueError(f"sender is {self.sender}; it must be smtp, sandbox or none")
        if self.checker not in get_args(CheckerName):
            raise ValueError(f"name-checker is {self.checker}; it must be http, sandbox or none")
        if self.proofs == "code" and self.sender == "none":
            raise ValueError(
                "codes need somebody to carry them: set --sender smtp (or sandbox, to try it out),"
                " or --proofs none where nobody's word is checked"
            )
