"""What `simulate` prints: every count beside the other, and when not to believe it."""

from __future__ import annotations

from typing import Any

from lastunit_server.simulation import reproduced_share
from lastunit_server.simulation_cli import report_text


def tally(served: int, refused: int) -> dict[str, Any]:
    """Returns a tally whose refusals are the lane's bucket's."""
    return {
        "offered_count": served + refused,
        "served_count": served,
        "granted_count": served,
        "hopeless_count": 0,
        "refused_count": refused,
        "refused": {"RATE_LANE": refused} if refused else {},
        "waited_count": 0,
        "wait_ms_mean": 0.0,
        "wait_ms_max": 0.0,
    }


def result(newly_refused: int) -> dict[str, Any]:
    """Returns a replay of a thousand reservations, of which so many were refused anew."""
    counts = {"live": tally(1000, 0), "forecast": tally(1000 - newly_refused, newly_refused)}
    lane = {**counts, "newly_refused_count": newly_refused, "newly_served_count": 0}
    idle = {"live": tally(0, 0), "forecast": tally(0, 0)}
    return {
        "lanes": {
            "reservation": lane,
            "read": {**idle, "newly_refused_count": 0, "newly_served_count": 0},
        },
        "callers": [{"caller": "a" * 64, **counts}],
        "caller_count": 3,
        "run_count": 1,
        "span_seconds": 2.5,
        "first_time_us": 1_000_000,
        "dropped_count": 7,
        "damaged_bytes": 0,
    }


def test_lanes_and_callers_show_what_was_and_what_would_have_been() -> None:
    """A lane without arrivals is left out; long names are cut; what is missing is told."""
    text = report_text(result(400))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}

    assert rows["reservation"] == ["1,000", "1,000", "0", "0", "600", "400", "-400"]
    assert rows["RATE_LANE"] == ["0", "400"]
    assert "read" not in rows
    assert rows["a" * 23 + "…"][-1] == "-400"
    assert "7 arrivals came too fast" in text
    assert "and 2 more" in text


def test_a_replay_that_does_not_reproduce_is_not_to_be_trusted() -> None:
    """One in a hundred may differ; more means that another policy was live."""
    for newly_refused, is_trusted in ((10, True), (11, False)):
        checked = result(newly_refused)
        share = reproduced_share(checked)
        assert share == 1 - newly_refused / 1000

        text = report_text({**result(0), "reproduced_share": share})
        assert ("do not trust" not in text) is is_trusted


def test_waits_are_shown_where_anybody_waited() -> None:
    """How many, how long on average and at most, of both policies."""
    waited = result(0)
    assert "wait" not in report_text(waited)
    waits = {"waited_count": 1234, "wait_ms_mean": 4.25, "wait_ms_max": 1000.0}
    waited["lanes"]["reservation"]["forecast"] |= waits
    lines = report_text(waited).splitlines()
    rows = {line.strip()[:20].strip(): line.split()[-2:] for line in lines if "wait" in line}

    assert rows == {
        "waited for their lan": ["0", "1,234"],
        "mean wait, ms": ["0.0", "4.2"],
        "longest wait, ms": ["0.0", "1000.0"],
    }
