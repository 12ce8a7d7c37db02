"""The policy and the advisor in the console: shown, tried, put, rolled back.

Owns the routes and the form's fields. Must not read a policy or judge who may: each request goes
the way of a call, with its rules, its permissions and its revision. Next: `admission_service.py`.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit_server.console_http import HEADERS, body_of, problem, refused
from lastunit_server.faults import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message
    from starlette.requests import Request

    from lastunit_server.admission_service import AdmissionService
    from lastunit_server.call_context import Caller
    from lastunit_server.doorkeeper import Doorkeeper

__all__ = ["PolicyPanel"]

# A document has at most 64 KiB, and each of its bytes can take six in JSON.
_BODY_BYTES_MAX = 6 * 65_536 + 4_096
# As many as a person looks through.
_REVISIONS = 20
_NUMBER_MAX = 2**53


class PolicyPanel:
    """The routes.

    Args:
        admission: Answers each request as it answers calls.
        doorkeeper: Who may what.
        caller_of: Finds who asks; None if they must sign in.
    """

    def __init__(
        self,
        admission: "AdmissionService",
        doorkeeper: "Doorkeeper",
        caller_of: "Callable[[Request], Caller | None]",
    ) -> None:
        self._admission = admission
        self._doorkeeper = doorkeeper
        self._caller_of = caller_of

    def routes(self) -> list[Route]:
        """Returns what is served."""
        return [
            Route("/policy", self._show, methods=["GET"]),
            Route("/policy", self._put, methods=["POST"]),
            Route("/policy/rollback", self._roll_back, methods=["POST"]),
            Route("/advice", self._advise, methods=["GET"]),
        ]

    async def _show(self, request: "Request") -> Response:
        shown = await self._call(request, "GetPolicy", messages.GetPolicyRequest())
        if isinstance(shown, Response):
            return shown
        listing = messages.ListRevisionsRequest(page_size=_REVISIONS)
        listed = await self._call(request, "ListRevisions", listing)
        if isinstance(listed, Response):
            return listed
        held = messages.GetPolicyResponse.FromString(shown)
        rows = messages.ListRevisionsResponse.FromString(listed).revisions
        caller = self._caller_of(request)
        may_put = caller is not None and self._doorkeeper.refusal(caller, "PutPolicy") is None
        told = {
            "revision": _revision(held.revision),
            "last_revision": held.last_revision,
            "next": _revision(held.next_revision) if held.HasField("next_revision") else None,
            "trial_reason": held.shadow.reason if held.HasField("shadow") else None,
            "revisions": [_revision(row) for row in rows],
            "may_put": may_put,
        }
        return JSONResponse(told, headers=HEADERS)

    async def _put(self, request: "Request") -> Response:
        body = await body_of(request, _BODY_BYTES_MAX)
        asked = _put_request(body) if body else None
        if asked is None:
            return problem(400, "MALFORMED_REQUEST", "the form can't be read")
        return await self._change(request, "PutPolicy", asked, messages.PutPolicyResponse())

    async def _roll_back(self, request: "Request") -> Response:
        body = await body_of(request)
        asked = _roll_back_request(body) if body else None
        if asked is None:
            return problem(400, "MALFORMED_REQUEST", "the form can't be read")
        return await self._change(request, "RollBack", asked, messages.RollBackResponse())

    async def _advise(self, request: "Request") -> Response:
        answer = await self._call(request, "GetAdvice", messages.GetAdviceRequest())
        if isinstance(answer, Response):
            return answer
        return _json(messages.GetAdviceResponse.FromString(answer))

    async def _change(
        self,
        request: "Request",
        method: str,
        asked: "messages.PutPolicyRequest | messages.RollBackRequest",
        response: "Message",
    ) -> Response:
        caller = self._caller_of(request)
        # Who is signed in, whatever the page says.
        asked.actor = caller.name if caller else ""
        answer = await self._call(request, method, asked)
        if isinstance(answer, Response):
            return answer
        response.ParseFromString(answer)
        return _json(response)

    async def _call(self, request: "Request", method: str, asked: "Message") -> bytes | Response:
        caller = self._caller_of(request)
        if caller is None:
            return problem(401, "TOKEN_MISSING", "sign in with a token")
        refusal = self._doorkeeper.refusal(caller, method)
        if refusal is not None:
            return refused(refusal)
        answer_to = self._admission.by_name(method)
        # In a thread: a revision is on the disk before it is answered.
        answer = await asyncio.to_thread(answer_to, asked.SerializeToString(), caller.name)
        return refused(answer) if isinstance(answer, Refusal) else answer


def _json(message: "Message") -> Response:
    told = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return JSONResponse(told, headers=HEADERS)


def _revision(row: messages.PolicyRevision) -> dict[str, Any]:
    return {
        "revision": row.revision,
        "document": row.document,
        "actor": row.actor,
        "reason": row.reason,
        "effect_ms": row.effect_time.ToMilliseconds(),
    }


def _put_request(body: dict[str, Any]) -> messages.PutPolicyRequest | None:
    document, reason = body.get("document"), body.get("reason")
    expected, is_dry_run = body.get("expected_revision"), body.get("is_dry_run", False)
    if not isinstance(document, str) or not isinstance(reason, str):
        return None
    if not _is_number(expected) or not isinstance(is_dry_run, bool):
        return None
    return messages.PutPolicyRequest(
        document=document, reason=reason, expected_revision=expected, is_dry_run=is_dry_run
    )


def _roll_back_request(body: dict[str, Any]) -> messages.RollBackRequest | None:
    revision, reason = body.get("revision"), body.get("reason")
    expected = body.get("expected_revision")
    if not isinstance(reason, str) or not _is_number(revision) or not _is_number(expected):
        return None
    assert isinstance(revision, int)
    return messages.RollBackRequest(revision=revision, reason=reason, expected_revision=expected)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value < _NUMBER_MAX
