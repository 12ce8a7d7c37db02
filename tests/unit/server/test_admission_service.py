"""AdmissionService over a fake node: the policy as it is, the counts as the node has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

import pytest

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit_server._native import check_policy
from lastunit_server.admission_service import AdmissionService
from lastunit_server.faults import Refusal

if TYPE_CHECKING:
    from lastunit_server._native import Node
    from lastunit_server.advisor import Advisor

LANE = {
    "admitted_count": 10,
    "refused_in_flight_count": 1,
    "refused_lane_rate_count": 2,
    "refused_caller_rate_count": 3,
    "refused_sale_rate_count": 4,
    "refused_sku_rate_count": 5,
    "refused_window_count": 6,
    "in_flight": 4,
}


class CountingNode:
    """A node that counted what a test says."""

    def metrics_json(self) -> str:
        """Returns counts of three lanes and three callers."""
        callers = {name: {"admitted_count": 5, "refused_count": 6} for name in ("b", "a", "c")}
        lanes = dict.fromkeys(("settlement", "reservation", "read", "control"), LANE)
        shadow = {
            "both_admitted_count": 1,
            "only_live_admitted_count": 2,
            "only_shadow_admitted_count": 3,
            "both_refused_count": 4,
        }
        window = {"limit": 8, "outstanding": 5}
        more = {"hopeless_count": 9, "shadow": shadow, "window": window}
        waiting = {name: {"waiting_count": 7} for name in lanes}
        admission = {"lanes": lanes, "callers": callers} | more
        return json.dumps({"admission": admission, "waiting": waiting})

    def policy_json(self) -> str:
        """Returns a policy with a bucket for one caller, as the node's own reader reads it."""
        text = "version = 1\n[callers.shop]\nrate_per_second = 7\nburst = 3\n[costs]\nReserve = 2\n"
        settings = json.loads(check_policy(text))["settings"]
        held = {"in_force": None, "last_revision": 0, "next": None, "shadow": None}
        return json.dumps(held | {"settings": settings})


@pytest.fixture
def service() -> AdmissionService:
    """The service over counts and a policy with a bucket for one caller."""
    return AdmissionService(cast("Node", CountingNode()), cast("Advisor", None))


def test_the_policy_is_shown_as_it_is(service: AdmissionService) -> None:
    """Lanes in the order of service, each caller's bucket, each price."""
    shown = messages.GetPolicyResponse.FromString(cast("bytes", service.get_policy(b"", "tester")))

    assert shown.version == 0
    assert [lane.lane for lane in shown.lanes] == [
        messages.LANE_CONTROL,
        messages.LANE_SETTLEMENT,
        messages.LANE_RESERVATION,
        messages.LANE_READ,
    ]
    assert [lane.HasField("bucket") for lane in shown.lanes] == [False, False, True, True]
    assert shown.lanes[2].bucket.rate_per_second == 50_000
    assert [(c.caller, c.bucket.burst) for c in shown.callers] == [("shop", 3)]
    assert {cost.method: cost.tokens for cost in shown.costs}["Reserve"] == 2


def test_offered_is_admitted_and_refused(service: AdmissionService) -> None:
    """Each lane's sum holds, and callers come page by page in the order of their names."""
    request = messages.GetAdmissionStatsRequest(page_size=2)
    first = messages.GetAdmissionStatsResponse.FromString(
        cast("bytes", service.get_admission_stats(request.SerializeToString(), "tester"))
    )
    request.page_token = first.next_page_token
    second = messages.GetAdmissionStatsResponse.FromString(
        cast("bytes", service.get_admission_stats(request.SerializeToString(), "tester"))
    )

    for lane in first.lanes:
        assert (lane.offered_count, lane.admitted_count, lane.refused_count) == (31, 10, 21)
        assert (lane.in_flight_count, lane.waiting_count) == (4, 7)
    assert [row.caller for row in first.callers] == ["a", "b"]
    assert [row.caller for row in second.callers] == ["c"]
    assert second.next_page_token == ""
    assert first.hopeless_count == 9
    assert first.shadow.only_live_admitted_count == 2
    assert (first.window.credits, first.window.outstanding_count) == (8, 5)


@pytest.mark.parametrize("page_size", [0, 1001])
def test_a_page_size_past_its_limits_is_refused(service: AdmissionService, page_size: int) -> None:
    """The rule in the proto is enforced, and its field named."""
    request = messages.GetAdmissionStatsRequest(page_size=page_size)

    refusal = service.get_admission_stats(request.SerializeToString(), "tester")

    assert isinstance(refusal, Refusal)
    assert "page_size" in refusal.message


def test_bytes_that_are_no_message_are_refused(service: AdmissionService) -> None:
    """What can't be decoded is INVALID_ARGUMENT, not a bug."""
    assert isinstance(service.get_policy(b"\xff\xff", "tester"), Refusal)
