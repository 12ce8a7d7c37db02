"""Pages that name tests name tests that there are."""

from __future__ import annotations

import re

from . import sources

PAGE = sources.ROOT / "docs" / "internals" / "abnormal-payments.md"
NAMED = re.compile(r"`(test_\w+)(?:\[[\w-]+\])?`")


def test_every_abnormal_case_names_tests_that_there_are() -> None:
    """A test that is renamed or removed is so in the table of cases too."""
    named = set(NAMED.findall(PAGE.read_text()))
    files = list((sources.ROOT / "tests").rglob("test_*.py"))
    there = {path.stem for path in files}
    for path in files:
        there |= set(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))

    assert len(named) > 20
    assert named <= there, sorted(named - there)
