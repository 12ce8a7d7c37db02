"""AdmissionService: shows the policy in force and what it let in.

Owns the two answers' form; must not decide admission nor count it: the policy is the one that the
node was opened with, and the counts are the node's.
"""

import json
from typing import TYPE_CHECKING, Any

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit_server.declared_rules import checked
from lastunit_server.faults import Refusal
from lastunit_server.methods import ADMISSION, path
from lastunit_server.policy import Bucket, Lane, UnlimitedLane

if TYPE_CHECKING:
    from collections.abc import Callable

    from lastunit_server._native import Node
    from lastunit_server.policy import AdmissionPolicy

__all__ = ["AdmissionService"]

# In the order in which they are served.
_LANES = {
    "control": messages.LANE_CONTROL,
    "settlement": messages.LANE_SETTLEMENT,
    "reservation": messages.LANE_RESERVATION,
    "read": messages.LANE_READ,
}
_REFUSALS = (
    "refused_in_flight_count",
    "refused_lane_rate_count",
    "refused_caller_rate_count",
    "refused_sale_rate_count",
    "refused_sku_rate_count",
    "refused_window_count",
)
# The policy is read at the start only, so there has been one since.
_POLICY_VERSION = 1


class AdmissionService:
    """The service's methods as functions of bytes.

    Args:
        node: The open node.
        policy: The policy that the node was opened with.
    """

    def __init__(self, node: "Node", policy: "AdmissionPolicy") -> None:
        self._node = node
        self._policy = policy

    def methods(self) -> "dict[str, Callable[[bytes], bytes | Refusal]]":
        """Returns each method by its gRPC path."""
        return {
            path(ADMISSION, "GetPolicy"): self.get_policy,
            path(ADMISSION, "GetAdmissionStats"): self.get_admission_stats,
        }

    def get_policy(self, request: bytes) -> bytes | Refusal:
        """Answers GetPolicy."""
        asked = checked(messages.GetPolicyRequest, request)
        if isinstance(asked, Refusal):
            return asked
        response = messages.GetPolicyResponse(
            version=_POLICY_VERSION,
            lanes=[
                _lane_message(lane, getattr(self._policy.lanes, name))
                for name, lane in _LANES.items()
            ],
            callers=[
                messages.CallerPolicy(caller=name, bucket=_bucket_message(bucket))
                for name, bucket in sorted(self._policy.callers.items())
            ],
            costs=[
                messages.MethodCost(method=name, tokens=tokens)
                for name, tokens in self._policy.all_costs().items()
            ],
        )
        return bytes(response.SerializeToString())

    def get_admission_stats(self, request: bytes) -> bytes | Refusal:
        """Answers GetAdmissionStats; callers come in pages, in the order of their names."""
        asked = checked(messages.GetAdmissionStatsRequest, request)
        if isinstance(asked, Refusal):
            return asked
        counted = json.loads(self._node.metrics_json())["admission"]
        names = sorted(name for name in counted["callers"] if name > asked.page_token)
        page = names[: asked.page_size]
        response = messages.GetAdmissionStatsResponse(
            lanes=[
                _lane_counts(lane, counted["lanes"][name])
                for name, lane in _LANES.items()
                if name in counted["lanes"]
            ],
            callers=[_caller_counts(name, counted["callers"][name]) for name in page],
            next_page_token=page[-1] if len(names) > len(page) else "",
        )
        return bytes(response.SerializeToString())


def _bucket_message(bucket: Bucket | Lane) -> messages.Bucket | None:
    if bucket.rate_per_second is None or bucket.burst is None:
        return None
    return messages.Bucket(rate_per_second=bucket.rate_per_second, burst=bucket.burst)


def _lane_message(
    lane: "messages.Lane.ValueType", policy: Lane | UnlimitedLane
) -> messages.LanePolicy:
    return messages.LanePolicy(
        lane=lane,
        bucket=_bucket_message(policy) if isinstance(policy, Lane) else None,
        calls_in_flight_max=policy.calls_in_flight_max,
    )


def _lane_counts(
    lane: "messages.Lane.ValueType", counted: dict[str, Any]
) -> messages.AdmissionCounts:
    refused = sum(counted[name] for name in _REFUSALS)
    return messages.AdmissionCounts(
        lane=lane,
        offered_count=counted["admitted_count"] + refused,
        admitted_count=counted["admitted_count"],
        refused_count=refused,
        in_flight_count=counted["in_flight"],
    )


def _caller_counts(name: str, counted: dict[str, Any]) -> messages.AdmissionCounts:
    return messages.AdmissionCounts(
        caller=name,
        offered_count=counted["admitted_count"] + counted["refused_count"],
        admitted_count=counted["admitted_count"],
        refused_count=counted["refused_count"],
    )
