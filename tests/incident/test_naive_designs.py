"""The naive designs, modelled, do what the post-mortem says they did."""

from __future__ import annotations

import dataclasses

import pytest

from lastunit.replay.designs import DESIGNS, Engine, Setting, design_names
from lastunit.replay.gate import gate_runs
from lastunit.replay.model import run_model

TOLERANCE = 0.02


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_incident_sells_about_five_thousand_of_two_thousand_units(seed: int) -> None:
    """Design A0 sells what was sold on the day, for each of five random seeds."""
    result = run_model(DESIGNS["A0"], Setting(seed=seed))

    assert 4_984 <= result.honoured <= 5_024
    assert result.honoured - 2_000 == result.oversold
    assert result.charged == result.honoured
    assert 600 < (result.callback_wait_max or 0) < 630


@pytest.mark.parametrize(
    ("name", "charged", "honoured", "oversold", "refunded"),
    [
        ("A0", 5_003, 5_003, 3_003, 0),
        ("A1", 5_003, 2_000, 0, 3_003),
        ("A2", 3_762, 2_000, 0, 1_762),
        ("A3", 2_000, 2_000, 0, 0),
        ("A4", 2_027, 2_000, 0, 27),
        ("A5", 2_000, 2_000, 0, 0),
        ("A6", 2_000, 2_000, 0, 0),
        ("A3+", 13_914, 2_000, 0, 11_914),
        ("B1", 6_605, 6_605, 4_605, 0),
        ("B1b", 6_605, 0, 0, 6_605),
        ("B1c", 6_605, 2_000, 0, 4_605),
    ],
)
def test_each_naive_design_gives_the_figures_of_the_post_mortem(
    name: str, charged: int, honoured: int, oversold: int, refunded: int
) -> None:
    """Charged, honoured, oversold and refunded agree within two per cent of what was expected."""
    result = run_model(DESIGNS[name], Setting())

    assert pytest.approx(charged, rel=TOLERANCE) == result.charged
    assert pytest.approx(honoured, rel=TOLERANCE) == result.honoured
    assert pytest.approx(oversold, rel=TOLERANCE) == result.oversold
    assert pytest.approx(refunded, rel=TOLERANCE, abs=1) == result.refunded
    assert result.unsettled == 0


@pytest.mark.parametrize(
    ("rate", "sold"),
    [(25.0, 10_090), (30.0, 6_910), (33.3, 3_412), (40.0, 2_173), (50.0, 2_011)],
)
def test_a_slower_database_sells_more(rate: float, sold: int) -> None:
    """The oversale is a matter of the order database's rate."""
    result = run_model(DESIGNS["A0"], Setting(transactions_per_second=rate))

    assert pytest.approx(sold, rel=TOLERANCE) == result.honoured


def test_the_gate_bounds_the_callback_wait_by_its_queue() -> None:
    """Per limit, the longest wait is queue over rate, and late callbacks grow as expected."""
    expected_waits = {0.4: 240, 0.5: 300, 0.6: 360, 0.7: 420, 0.8: 480, 0.9: 540, 1.0: 600}
    expected_late = {0.4: 0, 0.5: 3, 0.6: 8, 0.7: 27, 0.8: 132, 0.9: 598, 1.0: 2_626}

    runs = gate_runs(Setting())

    assert expected_waits == {k: round(run.callback_wait_max or 0) for k, run in runs.items()}
    late = {share: run.late_callbacks for share, run in runs.items()}
    for share, expected in expected_late.items():
        assert pytest.approx(expected, rel=0.05, abs=3) == late[share]


def test_the_same_seed_gives_the_same_run() -> None:
    """A run depends on its arguments and on nothing else."""
    setting = Setting(buyers=2_000, units=200, seed=7)

    first, second = (run_model(DESIGNS["A2"], setting) for _ in range(2))

    assert first.curves.values == second.curves.values
    assert first.to_json() | {"seconds": 0} == second.to_json() | {"seconds": 0}


def test_a_tenth_of_the_incident_keeps_its_shape() -> None:
    """With a tenth of buyers and units the scaled database oversells by the same share."""
    result = run_model(DESIGNS["A0"], Setting(buyers=2_000, units=200))

    assert 450 <= result.honoured <= 550


def test_every_second_of_a_model_keeps_its_units() -> None:
    """Units that are neither sold nor held nor awaited are available, at each second."""
    for name in ("A1", "A2", "A6"):
        result = run_model(DESIGNS[name], Setting(buyers=2_000, units=200))

        for index in range(len(result.curves.seconds)):
            value = {k: v[index] or 0 for k, v in result.curves.values.items()}
            total = sum(value[k] for k in ("available", "held", "paying", "overdue", "sold"))
            assert total == 200


def test_words_on_the_command_line_name_designs() -> None:
    """Groups expand, names are found in any case, and an unknown name is refused by name."""
    assert design_names("naive-vs-ours") == ("A0", "A7")
    assert design_names("all") == tuple(DESIGNS)
    assert design_names("b1B, a0,A0") == ("B1b", "A0")
    assert all(DESIGNS[name].engine is Engine.REAL for name in design_names("ours"))
    with pytest.raises(ValueError, match="unknown design 'A9'"):
        design_names("A9")


def test_the_gate_limit_is_the_one_of_the_post_mortem() -> None:
    """Seven tenths of rate times life are 13,494 transactions."""
    setting = Setting()

    assert setting.gate_limit(0.7) == 13_494
    assert dataclasses.replace(setting, buyers=2_000).gate_limit(0.7) == 1_349
