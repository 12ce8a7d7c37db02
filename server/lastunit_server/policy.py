"""The admission policy document, as the server holds it.

Owns the way from a text to a checked text; must not know what may stand in it: the node's own
reader does (core_rs/policy), so that file, service and command line cannot disagree. The form is
described in docs/reference/admission-policy.md.
"""

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lastunit_server.errors import Problem, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PolicyDocument", "built_in_policy", "checked_policy"]


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A document that the node will take.

    Attributes:
        document: The TOML text.
        origin: Whether an operator's file says so, or the program brings it along.
        settings: Every setting with its value, defaults included.
        stamp: How the file looked before it was read; None without one.
    """

    document: str
    origin: Literal["file", "built_in"]
    settings: dict[str, str] = field(default_factory=dict)
    stamp: tuple[int, int, int] | None = None


def built_in_policy() -> PolicyDocument:
    """Returns the policy that holds until another one is put."""
    from lastunit_server._native import check_policy, default_policy

    document = default_policy()
    return PolicyDocument(document, "built_in", json.loads(check_policy(document))["settings"])


def checked_policy(
    document: str, file: "Path", stamp: tuple[int, int, int] | None = None
) -> PolicyDocument:
    """Checks the text of a policy file.

    Args:
        document: The text.
        file: Where it comes from, for the problems.
        stamp: How the file looked before it was read.

    Returns:
        The document.

    Raises:
        SettingsError: With every problem, each with its line.
    """
    from lastunit_server._native import check_policy

    found = json.loads(check_policy(document))
    if found["problems"]:
        raise SettingsError(
            [
                Problem(
                    f"{file}:{row['line']}",
                    row["key"] or "(whole file)",
                    row["message"],
                    "docs/reference/admission-policy.md describes every key",
                )
                for row in found["problems"]
            ]
        )
    return PolicyDocument(document, "file", found["settings"], stamp)
