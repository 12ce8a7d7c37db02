"""Windows of eight clients, judged by porcupine; and lies that it and the order check must find."""

from __future__ import annotations

import os
import random
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from . import planted
from .calls import Call, read_files
from .load import Field, Round, run_windows
from .order import OrderCheck
from .steps import open_calls
from .windows import CHECKER, build_checker, check_windows, has_go, windows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .windows import Report

WINDOWS = 8
PROCESSES = 2


@dataclass
class Recorded:
    """A windows run and what can judge it."""

    played: Round
    calls: list[Call]
    checker: Path

    def judged(self, calls: list[Call], *, is_numbered: bool = False) -> Report:
        """Asks porcupine."""
        return check_windows(self.checker, windows_of(calls), is_numbered=is_numbered)

    def walked(self, calls: list[Call]) -> list[str]:
        """Asks the order check."""
        return OrderCheck().check(open_calls(calls), self.played.events)


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The porcupine program; without Go there is none, which only CI must not accept."""
    if not has_go():
        if os.environ.get("CI"):
            pytest.fail("CI needs Go 1.26 or later for the linearizability checker")
        pytest.skip("needs Go 1.26 or later to build the linearizability checker")
    return build_checker(tmp_path_factory.mktemp("linearize"))


def record(folder: Path, checker: Path, *, windows: int, ends: int) -> Iterator[Recorded]:
    """Runs a server and windows on it; the seed is printed, and taken from the environment."""
    seed = int(os.environ.get("LASTUNIT_HISTORY_SEED", random.randrange(2**32)))
    print(f"LASTUNIT_HISTORY_SEED={seed}")  # noqa: T201 - pytest shows it when a test fails
    field = Field(folder, seed)
    try:
        played = run_windows(
            field, first=0, windows=windows, operations=40, processes=PROCESSES, ends=ends
        )
        yield Recorded(played, list(read_files(played.calls)), checker)
    finally:
        field.stop()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, checker: Path) -> Iterator[Recorded]:
    """A few windows with an end of the server among them."""
    yield from record(tmp_path_factory.mktemp("windows"), checker, windows=WINDOWS, ends=1)


def test_the_specification_for_porcupine_holds_in_small_cases(checker: Path) -> None:
    """The Go program's own tests: the last unit, lost answers, late money, numbers."""
    run = subprocess.run(
        ["go", "test", "-mod=readonly", "-buildvcs=false", "./..."],
        cwd=CHECKER,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_porcupine_accepts_every_window_without_the_servers_numbers(recorded: Recorded) -> None:
    """Requests, answers and real time alone have an order that explains them, kills included."""
    report = recorded.judged(recorded.calls)

    assert (report.windows, report.wrong, report.undecided) == (PROCESSES * WINDOWS, [], [])
    assert sum(recorded.played.ends.values()) > 0


def test_porcupine_accepts_the_servers_numbers_as_that_order(recorded: Recorded) -> None:
    """The places that the replies claim are an order that explains them."""
    report = recorded.judged(recorded.calls, is_numbered=True)

    assert (report.windows, report.wrong, report.undecided) == (PROCESSES * WINDOWS, [], [])


def test_the_order_check_accepts_the_windows_too(recorded: Recorded) -> None:
    """What follows shows that it does not accept everything."""
    assert recorded.walked(recorded.calls) == []


@pytest.mark.parametrize("plant", planted.VISIBLE, ids=lambda plant: plant.__name__)
def test_both_checks_find(recorded: Recorded, plant: planted.Plant) -> None:
    """A lie about what a client can see is found by porcupine and by the order check."""
    told = plant(recorded.calls)

    assert recorded.judged(told).wrong != []
    assert recorded.walked(told) != []


@pytest.mark.parametrize("plant", planted.OF_PLACES, ids=lambda plant: plant.__name__)
def test_the_order_check_finds(recorded: Recorded, plant: planted.Plant) -> None:
    """A lie about a place, or about what is in the journal, is found by the order check."""
    assert recorded.walked(plant(recorded.calls)) != []


def test_swapped_numbers_are_found_by_porcupine_only_if_it_looks_at_them(
    recorded: Recorded,
) -> None:
    """So the check without numbers does not lean on them."""
    told = planted.swapped_numbers(recorded.calls)

    assert recorded.judged(told).wrong == []
    assert recorded.judged(told, is_numbered=True).wrong != []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_porcupine_accepts_a_hundred_windows_with_ends_in_between(
    tmp_path: Path, checker: Path
) -> None:
    """The same, longer: fifty windows a process, the server ended ten times."""
    for recorded in record(tmp_path, checker, windows=50, ends=10):
        report = recorded.judged(recorded.calls)

        assert (report.windows, report.wrong, report.undecided) == (PROCESSES * 50, [], [])
        assert recorded.walked(recorded.calls) == []
