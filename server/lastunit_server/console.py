"""The console: a page for whoever is on call, with the gates in reach.

Owns its routes, who is let in and the pace of what is sent; must not count or judge anything. It
runs on a loop of its own (`http_listener`), so a page never stands before a call. Next:
`console_facts.py` for what is shown, `console_policy.py` for the policy, `pages/console/` for how.

With authentication a person signs in with a token of the tokens file, and each look and each order
is judged by the same permissions as a call. Without it whoever reaches the port may do everything,
which is why only loopback is bound then; a page of another site is kept out by its Host and Origin.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from lastunit.stock.v1 import stock_service_pb2 as stock
from lastunit_server import faults
from lastunit_server.call_context import Caller
from lastunit_server.console_facts import facts, gate_facts
from lastunit_server.console_http import HEADERS, body_of, is_own, problem, refused
from lastunit_server.console_orders import order_request
from lastunit_server.console_policy import PolicyPanel
from lastunit_server.faults import Refusal
from lastunit_server.gate_service import GateService
from lastunit_server.methods import STOCK, Listener, path

if TYPE_CHECKING:
    from starlette.requests import Request

    from lastunit_server._native import Node
    from lastunit_server.admission_service import AdmissionService
    from lastunit_server.doorkeeper import Doorkeeper
    from lastunit_server.gates import Gates

__all__ = ["Console"]

# A person sees no more, and a look walks over every caller.
_SECONDS = 1.0
_PAGES_MAX = 32
_SESSIONS_MAX = 200
_SESSION_SECONDS = 12 * 3600
_CALL_TIMEOUT_MS = 2000
_COOKIE = "lastunit-console"
# Who calls where nobody must prove a name.
_ANYBODY = "console"
_FILES = {
    "/": ("index.html", "text/html"),
    "/console.js": ("console.js", "text/javascript"),
    "/policy.js": ("policy.js", "text/javascript"),
    "/charts.js": ("charts.js", "text/javascript"),
    "/console.css": ("console.css", "text/css"),
    "/uplot.js": ("uplot-1.6.32.js", "text/javascript"),
    "/uplot.css": ("uplot-1.6.32.css", "text/css"),
}


class Console:
    """The routes over one node.

    Args:
        node: The open node.
        gates: Its gates.
        doorkeeper: Who may what.
        admission: Answers for the policy and the advisor.
        hosts: Names under which the page may be asked for.
    """

    def __init__(
        self,
        node: "Node",
        gates: "Gates",
        doorkeeper: "Doorkeeper",
        admission: "AdmissionService",
        *,
        hosts: list[str],
    ) -> None:
        self._node = node
        self._gates = gates
        self._orders = GateService(gates, doorkeeper)
        self._doorkeeper = doorkeeper
        # Session -> token and when it ends. The token is asked again at each look.
        self._sessions: dict[str, tuple[str, float]] = {}
        self._page_count = 0
        folder = resources.files("lastunit_server") / "pages" / "console"
        self._files = {
            route: ((folder / name).read_bytes(), kind) for route, (name, kind) in _FILES.items()
        }
        routes = [Route(route, self._file, methods=["GET"]) for route in _FILES]
        routes += [
            Route("/session", self._sign_in, methods=["POST"]),
            Route("/session", self._sign_out, methods=["DELETE"]),
            Route("/events", self._events, methods=["GET"]),
            Route("/skus", self._skus, methods=["GET"]),
            Route("/gate", self._set_gate, methods=["POST"]),
        ]
        routes += PolicyPanel(admission, doorkeeper, self._caller).routes()
        trusted = Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)
        self.app = Starlette(routes=routes, middleware=[trusted])

    async def _file(self, request: "Request") -> Response:
        body, kind = self._files[request.url.path]
        return Response(body, media_type=kind, headers=HEADERS)

    def _caller(self, request: "Request") -> Caller | None:
        """Finds who looks; None if they must sign in."""
        if not self._doorkeeper.is_name_proved:
            return _named(_ANYBODY)
        session = self._sessions.get(request.cookies.get(_COOKIE, ""))
        if session is None or time.monotonic() > session[1]:
            return None
        name = self._doorkeeper.caller_of_token(session[0])
        return _named(name) if name else None

    def _may_look(self, caller: Caller) -> Refusal | None:
        lacks = (
            self._doorkeeper.refusal(caller, name) for name in ("GetAdmissionStats", "ListGates")
        )
        return next((lack for lack in lacks if lack is not None), None)

    async def _sign_in(self, request: "Request") -> Response:
        body = await body_of(request)
        token = body.get("token") if body else None
        name = self._doorkeeper.caller_of_token(token) if isinstance(token, str) else None
        if name is None:
            return problem(401, "TOKEN_INVALID", "the token is unknown, wrong or expired")
        refusal = self._may_look(_named(name))
        if refusal is not None:
            return refused(refusal)
        now = time.monotonic()
        self._sessions = {key: kept for key, kept in self._sessions.items() if kept[1] > now}
        if len(self._sessions) >= _SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        session = secrets.token_urlsafe(32)
        self._sessions[session] = (str(token), now + _SESSION_SECONDS)
        response = JSONResponse({"caller": name}, headers=HEADERS)
        response.set_cookie(
            _COOKIE,
            session,
            max_age=_SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def _sign_out(self, request: "Request") -> Response:
        if not is_own(request):
            return problem(403, "ORIGIN", "asked by a page of another site")
        self._sessions.pop(request.cookies.get(_COOKIE, ""), None)
        response = JSONResponse({}, headers=HEADERS)
        response.delete_cookie(_COOKIE)
        return response

    async def _events(self, request: "Request") -> Response:
        caller = self._caller(request)
        if caller is None:
            return problem(401, "TOKEN_MISSING", "sign in with a token")
        refusal = self._may_look(caller)
        if refusal is not None:
            return refused(refusal)
        if self._page_count >= _PAGES_MAX:
            text = f"{_PAGES_MAX} pages look already; close one"
            return problem(429, "PAGE_LIMIT", text)
        return StreamingResponse(
            self._looks(request), media_type="text/event-stream", headers=HEADERS
        )

    async def _looks(self, request: "Request") -> AsyncIterator[str]:
        self._page_count += 1
        try:
            while not await request.is_disconnected():
                caller = self._caller(request)
                if caller is None or self._may_look(caller) is not None:
                    yield "event: ended\ndata: {}\n\n"
                    return
                told = await asyncio.to_thread(facts, self._node, self._gates)
                told["caller"] = caller.name
                told["is_name_proved"] = self._doorkeeper.is_name_proved
                for gate in told["gates"]:
                    gate["may_set"] = self._may_set(caller, gate["sale_id"])
                yield f"event: facts\ndata: {json.dumps(told, separators=(',', ':'))}\n\n"
                await asyncio.sleep(_SECONDS)
        finally:
            self._page_count -= 1

    def _may_set(self, caller: Caller, sale_id: str) -> bool:
        return self._doorkeeper.refusal(caller, "SetGate", sale_id=sale_id) is None

    async def _skus(self, request: "Request") -> Response:
        caller = self._caller(request)
        if caller is None:
            return problem(401, "TOKEN_MISSING", "sign in with a token")
        asked = stock.GetAvailabilityRequest(sale_id=request.query_params.get("sale", ""))
        code, body = await asyncio.to_thread(
            self._node.call,
            path(STOCK, "GetAvailability"),
            asked.SerializeToString(),
            caller.name,
            _CALL_TIMEOUT_MS,
            0,
            Listener.DATA.value,
        )
        if code:
            return refused(faults.refusal_from(code, body))
        told = stock.GetAvailabilityResponse.FromString(body)
        rows = [MessageToDict(row, preserving_proto_field_name=True) for row in told.availabilities]
        return JSONResponse({"skus": rows}, headers=HEADERS)

    async def _set_gate(self, request: "Request") -> Response:
        caller = self._caller(request)
        if caller is None:
            return problem(401, "TOKEN_MISSING", "sign in with a token")
        body = await body_of(request)
        asked = order_request(body, caller.name) if body else None
        if asked is None:
            return problem(400, "MALFORMED_REQUEST", "the order can't be read")
        # The same way as a call: its rules, its permissions, its file.
        set_gate: Callable[[Caller, bytes], bytes | Refusal] = self._orders.set_gate
        answer = await asyncio.to_thread(set_gate, caller, asked.SerializeToString())
        if isinstance(answer, Refusal):
            return refused(answer)
        gate = self._gates.one(asked.sale_id)
        return JSONResponse(gate_facts(self._gates, gate), headers=HEADERS)


def _named(name: str) -> Caller:
    return Caller(name, seen_sequence=0, seen_epoch=0)
