"""The guard over instructions: what it lets through, what it refuses, and what it writes down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bench import instructions

MADE_BY = {"rustc": "1.95.0", "host": "x86_64"}


def record_of(**figures: float) -> dict[str, Any]:
    """Builds a record."""
    rows = {name: {"instructions": it, "reason": "first"} for name, it in figures.items()}
    return {"made_by": MADE_BY, "operations": rows}


@pytest.mark.parametrize(("figure", "is_refused"), [(900, False), (1049, False), (1051, True)])
def test_a_rise_of_more_than_five_percent_is_refused(figure: float, *, is_refused: bool) -> None:
    """Less and any fall pass; above it the operation and what to do are named."""
    wrong = instructions.judged({"reserve": figure}, record_of(reserve=1000))

    assert bool(wrong) is is_refused
    assert not wrong or ("reserve takes 1,051" in wrong[0] and "--reason" in wrong[0])


def test_operations_can_neither_come_nor_go_unrecorded() -> None:
    """A new one needs a record, and one that is counted no more leaves it."""
    wrong = instructions.judged({"new": 1}, record_of(old=1))

    assert [sentence.split(" is ")[0] for sentence in wrong] == ["new", "old"]


def test_a_figure_that_stands_keeps_its_reason() -> None:
    """Only what has moved gets the new reason; another compiler starts anew."""
    before = record_of(same=10, moved=10)
    figures = {"same": 10.0, "moved": 11.0}

    after = instructions.recorded(figures, before, MADE_BY, "a check")["operations"]
    anew = instructions.recorded(figures, before, {"rustc": "2"}, "a check")["operations"]

    assert {name: row["reason"] for name, row in after.items()} == {
        "same": "first",
        "moved": "a check",
    }
    assert {row["reason"] for row in anew.values()} == {"a check"}


def test_every_operation_is_recorded_with_a_reason() -> None:
    """The file in the repository holds exactly what is counted."""
    record = json.loads(instructions.RECORD.read_text())

    assert set(record["operations"]) == {it.name for it in instructions.OPERATIONS}
    assert set(record["made_by"]) == {"rustc", "host"}
    for row in record["operations"].values():
        assert row["instructions"] > 100
        assert row["reason"]


def test_instructions_are_counted_and_a_run_that_fails_is_told() -> None:
    """The same command gives the same count but for what start-up leaves to chance."""
    if not instructions.has_valgrind():
        pytest.skip("there is no valgrind here; apt-get install valgrind")
    first, again = (instructions.counted(["/bin/true"]) for _ in range(2))
    assert first > 10_000
    assert abs(first - again) < 0.05 * first
    with pytest.raises(SystemExit, match="failed"):
        instructions.counted(["/bin/false"])
