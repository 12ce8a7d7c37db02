"""The planted defects are still what they were when they were written."""

from __future__ import annotations

import pytest

from . import run


@pytest.mark.parametrize("defect", run.load(), ids=lambda defect: defect.name)
def test_text_of_a_defect_is_found_once(defect: run.Defect) -> None:
    """A defect whose place changed would be planted nowhere and prove nothing."""
    whole = (run.ROOT / defect.file).read_text()

    assert run.planted(defect, whole) != whole
