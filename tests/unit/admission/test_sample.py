"""Rates out of counts."""

from __future__ import annotations

from lastunit.admission.sample import rank, rates_between
from lastunit.admission.v1.admission_service_pb2 import AdmissionCounts


def counts(admitted: int, refused: int) -> AdmissionCounts:
    """Builds consistent counts."""
    return AdmissionCounts(
        offered_count=admitted + refused, admitted_count=admitted, refused_count=refused
    )


def test_rates_are_what_was_counted_between_two_looks() -> None:
    """Ten more in two seconds are five a second, whatever there was before."""
    [row] = rates_between({"read": counts(100, 10)}, {"read": counts(104, 16)}, 2.0)

    assert (row.offered, row.admitted, row.refused) == (5.0, 2.0, 3.0)
    assert row.refused_share == 0.6


def test_a_new_caller_is_compared_with_nothing() -> None:
    """All it did, it did since the last look."""
    [row] = rates_between({}, {"new": counts(3, 0)}, 1.0)

    assert row.offered == 3.0


def test_a_server_that_was_started_anew_has_no_rates() -> None:
    """Counts that fell say nothing of the time between; no rate is invented."""
    [row] = rates_between({"read": counts(100, 0)}, {"read": counts(4, 0)}, 1.0)

    assert (row.offered, row.refused_share) == (None, None)
    assert row.as_json()["offered_per_second"] is None


def test_idle_callers_have_no_share() -> None:
    """Nothing offered is no division."""
    [row] = rates_between({"read": counts(4, 0)}, {"read": counts(4, 0)}, 1.0)

    assert (row.offered, row.refused_share) == (0.0, None)


def test_callers_are_ranked_by_what_they_offer_now() -> None:
    """The busy first, then the largest, then by name; as many as were asked for."""
    before = {"was-busy": counts(900, 0), "busy": counts(0, 0), "b": counts(0, 0)}
    after = {
        "was-busy": counts(900, 0),
        "busy": counts(0, 50),
        "b": counts(0, 0),
        "a": counts(0, 0),
    }
    rows = rates_between(before, after, 1.0)

    assert [row.name for row in rank(rows, 10)] == ["busy", "was-busy", "a", "b"]
    assert [row.name for row in rank(rows, 1)] == ["busy"]
