"""AdmissionService: shows and changes how work is let in.

Owns the form of requests and answers; must not decide admission, read a policy document, or count:
the node does all three. Served by threads of the settlement listener, so that a call may wait until
its revision is on the disk.
"""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit_server import faults
from lastunit_server.declared_rules import checked
from lastunit_server.faults import Refusal
from lastunit_server.methods import ADMISSION, path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from lastunit_server._native import Node
    from lastunit_server.advice import Advised
    from lastunit_server.advisor import Advisor

__all__ = ["AdmissionService", "Answer", "advice_message"]

# What a method gives for a request and the name of the caller.
Answer: TypeAlias = "Callable[[bytes, str], bytes | Refusal]"

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
_ORIGINS = {
    "built_in": messages.POLICY_ORIGIN_BUILT_IN,
    "file": messages.POLICY_ORIGIN_FILE,
    "service": messages.POLICY_ORIGIN_SERVICE,
}
_RATE = ".rate_per_second"
_BURST = ".burst"


class AdmissionService:
    """The service's methods as functions of bytes.

    Args:
        node: The open node.
        advisor: Keeps what is reported, and advises.
    """

    def __init__(self, node: "Node", advisor: "Advisor") -> None:
        self._node = node
        self._advisor = advisor

    def methods(self) -> "dict[str, Answer]":
        """Returns each method by its gRPC path."""
        return {path(ADMISSION, name): answer for name, answer in self._answers().items()}

    def by_name(self, method: str) -> "Answer":
        """Returns one method.

        Raises:
            KeyError: It is not one of this part of the service.
        """
        return self._answers()[method]

    def _answers(self) -> "dict[str, Answer]":
        return {
            "GetPolicy": self.get_policy,
            "GetAdmissionStats": self.get_admission_stats,
            "PutPolicy": self.put_policy,
            "ListRevisions": self.list_revisions,
            "RollBack": self.roll_back,
            "SetShadowPolicy": self.set_shadow_policy,
            "ReportPressure": self.report_pressure,
            "GetAdvice": self.get_advice,
        }

    def get_policy(self, request: bytes, _caller: str) -> bytes | Refusal:
        """Answers GetPolicy."""
        asked = checked(messages.GetPolicyRequest, request)
        if isinstance(asked, Refusal):
            return asked
        held = json.loads(self._node.policy_json())
        rows: dict[str, str] = held["settings"]
        response = messages.GetPolicyResponse(
            version=held["in_force"]["revision"] if held["in_force"] else 0,
            lanes=[
                messages.LanePolicy(
                    lane=lane,
                    bucket=_bucket(rows, f"lanes.{name}"),
                    calls_in_flight_max=int(rows[f"lanes.{name}.calls_in_flight_max"]),
                )
                for name, lane in _LANES.items()
            ],
            callers=[
                messages.CallerPolicy(caller=name, bucket=_bucket(rows, f"callers.{name}"))
                for name in _callers(rows)
            ],
            costs=[
                messages.MethodCost(method=key.removeprefix("costs."), tokens=float(value))
                for key, value in rows.items()
                if key.startswith("costs.")
            ],
            revision=_revision(held["in_force"]) if held["in_force"] else None,
            last_revision=held["last_revision"],
            next_revision=_revision(held["next"]) if held["next"] else None,
            settings=[messages.PolicySetting(key=key, value=rows[key]) for key in sorted(rows)],
            shadow=_shadow(held["shadow"]),
        )
        return _packed(response)

    def get_admission_stats(self, request: bytes, _caller: str) -> bytes | Refusal:
        """Answers GetAdmissionStats; callers come in pages, in the order of their names."""
        asked = checked(messages.GetAdmissionStatsRequest, request)
        if isinstance(asked, Refusal):
            return asked
        told = json.loads(self._node.metrics_json())
        counted, waiting = told["admission"], told["waiting"]
        names = sorted(name for name in counted["callers"] if name > asked.page_token)
        page = names[: asked.page_size]
        window, shadow = counted["window"], counted["shadow"]
        response = messages.GetAdmissionStatsResponse(
            lanes=[
                _lane_counts(lane, counted["lanes"][name], waiting[name]["waiting_count"])
                for name, lane in _LANES.items()
                if name in counted["lanes"]
            ],
            callers=[_caller_counts(name, counted["callers"][name]) for name in page],
            next_page_token=page[-1] if len(names) > len(page) else "",
            hopeless_count=counted["hopeless_count"],
            shadow=messages.ShadowCounts(**shadow) if shadow else None,
            window=_window(window["limit"], window["outstanding"]) if window else None,
        )
        return _packed(response)

    def put_policy(self, request: bytes, caller: str) -> bytes | Refusal:
        """Answers PutPolicy."""
        asked = checked(messages.PutPolicyRequest, request)
        if isinstance(asked, Refusal):
            return asked
        effect_ms = asked.effect_time.ToMilliseconds() if asked.HasField("effect_time") else None
        put = self._put(
            asked, caller, document=asked.document, effect_ms=effect_ms, is_dry_run=asked.is_dry_run
        )
        if isinstance(put, Refusal):
            return put
        response = messages.PutPolicyResponse(
            revision=put["revision"],
            in_force_revision=put["in_force"],
            effect_time=_time(put["effect_time_ms"]),
            changes=_changes(put),
        )
        return _packed(response)

    def roll_back(self, request: bytes, caller: str) -> bytes | Refusal:
        """Answers RollBack."""
        asked = checked(messages.RollBackRequest, request)
        if isinstance(asked, Refusal):
            return asked
        put = self._put(asked, caller, roll_back_to=asked.revision)
        if isinstance(put, Refusal):
            return put
        response = messages.RollBackResponse(
            revision=put["revision"], in_force_revision=put["in_force"], changes=_changes(put)
        )
        return _packed(response)

    def _put(
        self,
        asked: messages.PutPolicyRequest | messages.RollBackRequest,
        caller: str,
        *,
        document: str = "",
        effect_ms: int | None = None,
        is_dry_run: bool = False,
        roll_back_to: int | None = None,
    ) -> dict[str, Any] | Refusal:
        has_expected = asked.HasField("expected_revision")
        code, body = self._node.put_policy(
            document,
            asked.actor,
            asked.reason,
            caller,
            "service",
            expected_revision=asked.expected_revision if has_expected else None,
            effect_time_ms=effect_ms,
            is_dry_run=is_dry_run,
            roll_back_to=roll_back_to,
        )
        if code != 0:
            return faults.refusal_from(code, body)
        put: dict[str, Any] = json.loads(body)
        return put

    def list_revisions(self, request: bytes, _caller: str) -> bytes | Refusal:
        """Answers ListRevisions."""
        asked = checked(messages.ListRevisionsRequest, request)
        if isinstance(asked, Refusal):
            return asked
        page = json.loads(self._node.revisions_json(asked.before_revision, asked.page_size))
        response = messages.ListRevisionsResponse(
            revisions=[_revision(row) for row in page["revisions"]],
            oldest_revision=page["oldest"],
            in_force_revision=page["in_force"],
        )
        return _packed(response)

    def set_shadow_policy(self, request: bytes, _caller: str) -> bytes | Refusal:
        """Answers SetShadowPolicy."""
        asked = checked(messages.SetShadowPolicyRequest, request)
        if isinstance(asked, Refusal):
            return asked
        refused = self._node.set_shadow_policy(asked.document or None, asked.actor, asked.reason)
        if refused is not None:
            return faults.refusal_from(*refused)
        return _packed(messages.SetShadowPolicyResponse())

    def report_pressure(self, request: bytes, _caller: str) -> bytes | Refusal:
        """Answers ReportPressure."""
        asked = checked(messages.ReportPressureRequest, request)
        if isinstance(asked, Refusal):
            return asked
        taken = self._node.report_pressure(
            asked.generation, asked.persisted_count, asked.oldest_wait.ToMilliseconds()
        )
        response = messages.ReportPressureResponse()
        if taken is not None:
            first, second = taken
            if isinstance(second, bytes):
                return faults.refusal_from(first, second)
            response.window.CopyFrom(_window(first, second))
        self._advisor.note_report(asked)
        return _packed(response)

    def get_advice(self, request: bytes, _caller: str) -> bytes | Refusal:
        """Answers GetAdvice."""
        asked = checked(messages.GetAdviceRequest, request)
        if isinstance(asked, Refusal):
            return asked
        margin = asked.margin.ToMilliseconds() / 1000 if asked.HasField("margin") else None
        return _packed(advice_message(self._advisor.advise(margin)))


def advice_message(advised: "Advised") -> messages.GetAdviceResponse:
    """Says what is advised in the words of the contract."""
    return messages.GetAdviceResponse(
        advices=[messages.Advice(**asdict(advice)) for advice in advised.advices],
        missing=[messages.MissingAdvice(**asdict(missing)) for missing in advised.missing],
    )


def _packed(response: "Message") -> bytes:
    return bytes(response.SerializeToString())


def _bucket(rows: dict[str, str], name: str) -> messages.Bucket | None:
    rate, burst = rows.get(name + _RATE), rows.get(name + _BURST)
    if rate is None or burst is None:
        return None
    return messages.Bucket(rate_per_second=float(rate), burst=float(burst))


def _callers(rows: dict[str, str]) -> "Iterator[str]":
    for key in sorted(rows):
        if key.startswith("callers.") and key.endswith(_RATE):
            yield key.removeprefix("callers.").removesuffix(_RATE)


def _time(milliseconds: int) -> Timestamp:
    time = Timestamp()
    time.FromMilliseconds(milliseconds)
    return time


def _revision(row: dict[str, Any]) -> messages.PolicyRevision:
    return messages.PolicyRevision(
        revision=row["revision"],
        document=row["document"],
        actor=row["actor"],
        caller=row["caller"],
        reason=row["reason"],
        origin=_ORIGINS[row["origin"]],
        put_time=_time(row["put_time_ms"]),
        effect_time=_time(row["effect_time_ms"]),
        sequence=row["sequence"],
    )


def _shadow(row: dict[str, Any] | None) -> messages.ShadowPolicy | None:
    if row is None:
        return None
    return messages.ShadowPolicy(
        document=row["document"],
        actor=row["actor"],
        reason=row["reason"],
        start_time=_time(row["start_time_ms"]),
    )


def _changes(put: dict[str, Any]) -> list[messages.PolicyChange]:
    return [messages.PolicyChange(**row) for row in put["changes"]]


def _window(limit: int, outstanding: int) -> messages.CreditWindow:
    return messages.CreditWindow(credits=limit, outstanding_count=outstanding)


def _lane_counts(
    lane: "messages.Lane.ValueType", counted: dict[str, Any], waiting_count: int
) -> messages.AdmissionCounts:
    refused = sum(counted[name] for name in _REFUSALS)
    return messages.AdmissionCounts(
        lane=lane,
        offered_count=counted["admitted_count"] + refused,
        admitted_count=counted["admitted_count"],
        refused_count=refused,
        in_flight_count=counted["in_flight"],
        waiting_count=waiting_count,
    )


def _caller_counts(name: str, counted: dict[str, Any]) -> messages.AdmissionCounts:
    return messages.AdmissionCounts(
        caller=name,
        offered_count=counted["admitted_count"] + counted["refused_count"],
        admitted_count=counted["admitted_count"],
        refused_count=counted["refused_count"],
    )
