"""Clocks never run backwards."""

from __future__ import annotations

from unittest import mock

import pytest

from lastunit.service.clock import SimulatedClock, SystemClock


def test_the_system_clock_is_held_back_when_the_machine_steps_back() -> None:
    """A corrected machine clock makes ours stand still, not jump."""
    clock = SystemClock()
    with mock.patch("time.time_ns", side_effect=[5_000_000_000, 3_000_000_000, 6_000_000_000]):
        assert [clock.now_ms() for _ in range(3)] == [5000, 5000, 6000]


def test_the_simulated_clock_tells_what_was_set() -> None:
    """Time moves only when it is told to, and may stand."""
    clock = SimulatedClock(10)
    clock.advance_to(10)
    clock.advance_to(25)

    assert clock.now_ms() == 25


def test_the_simulated_clock_refuses_to_run_backwards() -> None:
    """A simulation that loses its order fails loudly."""
    clock = SimulatedClock(10)

    with pytest.raises(ValueError, match="stands at 10"):
        clock.advance_to(9)
    with pytest.raises(ValueError, match="start_ms"):
        SimulatedClock(-1)
