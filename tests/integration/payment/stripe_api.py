"""A small HTTP server in the shape of Stripe's API, as far as the adapter uses it.

Owns: sessions, charges and refunds of test money; keys that are good for one call; statuses and
error bodies as Stripe sends them; an outage switch. Written after the public reference of the API.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

API_KEY = "sk_test_0123456789"
NOW_SECONDS = 1_700_000_000


def refusal(
    status: int, code: str, kind: str = "invalid_request_error", message: str = "no"
) -> Response:
    """Returns an error as Stripe words it."""
    error = {"type": kind, "code": code, "message": message}
    return JSONResponse({"error": error}, status_code=status)


@dataclass
class StripeApi:
    """Keeps what the pretended Stripe knows.

    Attributes:
        is_down: True to answer every call with 500.
        silent_creates: So many sessions are made and not answered.
        is_refund_pending: True to leave refunds under way.
        now_seconds: Its clock.
    """

    is_down: bool = False
    silent_creates: int = 0
    is_refund_pending: bool = False
    now_seconds: int = NOW_SECONDS
    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    charges: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    answered: dict[str, tuple[dict[str, str], int, bytes]] = field(default_factory=dict)
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def app(self) -> Starlette:
        """Returns it as an app."""
        routes: list[tuple[str, str, Callable[[Request, dict[str, str]], Response]]] = [
            ("POST", "/v1/checkout/sessions", self._create),
            ("GET", "/v1/checkout/sessions", self._list_sessions),
            ("GET", "/v1/checkout/sessions/{number}", self._show),
            ("POST", "/v1/checkout/sessions/{number}/expire", self._expire),
            ("GET", "/v1/payment_intents/search", self._search),
            ("GET", "/v1/charges", self._list_charges),
            ("POST", "/v1/refunds", self._refund),
            ("GET", "/v1/refunds", self._list_refunds),
            ("GET", "/v1/refunds/{number}", self._show_refund),
        ]
        return Starlette(
            routes=[Route(path, self._guard(act), methods=[verb]) for verb, path, act in routes]
        )

    # --- what a buyer does ---

    def pay(self, session_id: str, *, is_slow: bool = False, is_failed: bool = False) -> None:
        """Takes the buyer's money, begins a slow payment, or lets one fail."""
        session = self.sessions[session_id]
        assert session["status"] == "open"
        intent_id = f"pi_{next(self.numbers)}"
        amount = session["amount_total"]
        intent: dict[str, Any] = {
            "id": intent_id,
            "object": "payment_intent",
            "status": "processing" if is_slow else "succeeded",
            "amount": amount,
            "amount_received": 0,
            "latest_charge": None,
            "metadata": dict(session["intent_metadata"]),
            "last_payment_error": None,
        }
        session |= {"status": "complete", "payment_intent": intent_id}
        self.intents[intent_id] = intent
        if is_failed:
            intent["status"] = "requires_payment_method"
            intent["last_payment_error"] = {"code": "card_declined"}
        elif not is_slow:
            charge_id = f"ch_{next(self.numbers)}"
            self.charges[charge_id] = {
                "id": charge_id,
                "object": "charge",
                "status": "succeeded",
                "amount": amount,
                "amount_captured": amount,
                "currency": session["currency"],
                "created": self.now_seconds,
                "payment_intent": intent_id,
                "metadata": dict(intent["metadata"]),
            }
            intent |= {"amount_received": amount, "latest_charge": charge_id}
            session["payment_status"] = "paid"

    # --- routes ---

    def _guard(
        self, act: Callable[[Request, dict[str, str]], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {API_KEY}":
                return refusal(401, "", message="Invalid API Key provided: sk_***")
            if self.is_down:
                return refusal(500, "", "api_error")
            words = dict(parse_qsl((await request.body()).decode()))
            key = request.headers.get("idempotency-key", "")
            if key in self.answered:
                first, status, body = self.answered[key]
                if first != words:
                    return refusal(400, "", "idempotency_error")
                return Response(body, status, media_type="application/json")
            answer = act(request, words or dict(request.query_params))
            if key:
                self.answered[key] = (words, answer.status_code, bytes(answer.body))
            if self.silent_creates and request.url.path.endswith("/sessions"):
                self.silent_creates -= 1
                return Response("<html>bad gateway</html>", 502)
            return answer

        return guarded

    def _create(self, _request: Request, words: dict[str, str]) -> Response:
        amount = int(words["line_items[0][price_data][unit_amount]"])
        if not 1 <= amount <= 99_999_999:
            return refusal(400, "amount_too_large")
        session_id = f"cs_test_{next(self.numbers)}"
        self.sessions[session_id] = {
            "id": session_id,
            "object": "checkout.session",
            "status": "open",
            "payment_status": "unpaid",
            "amount_total": amount,
            "currency": words["line_items[0][price_data][currency]"],
            "client_reference_id": words["client_reference_id"],
            "created": self.now_seconds,
            "payment_intent": None,
            "url": f"https://checkout.stripe.test/c/{session_id}",
            "metadata": {"lastunit_attempt": words["metadata[lastunit_attempt]"]},
            "intent_metadata": {
                "lastunit_attempt": words["payment_intent_data[metadata][lastunit_attempt]"]
            },
        }
        return JSONResponse(self._shown(session_id, {}))

    def _show(self, request: Request, words: dict[str, str]) -> Response:
        session_id = request.path_params["number"]
        if session_id not in self.sessions:
            return refusal(404, "resource_missing")
        return JSONResponse(self._shown(session_id, words))

    def _expire(self, request: Request, words: dict[str, str]) -> Response:
        session = self.sessions[request.path_params["number"]]
        if session["status"] != "open":
            return refusal(400, "", message="only open sessions can be expired")
        session |= {"status": "expired", "url": None}
        return JSONResponse(self._shown(session["id"], words))

    def _shown(self, session_id: str, words: dict[str, str]) -> dict[str, Any]:
        shown = {
            name: value
            for name, value in self.sessions[session_id].items()
            if name != "intent_metadata"
        }
        intent = self.intents.get(shown["payment_intent"] or "")
        if intent and any(name.startswith("expand") for name in words):
            charge = self.charges.get(intent["latest_charge"] or "")
            shown["payment_intent"] = intent | {"latest_charge": charge}
        return shown

    def _list_sessions(self, _request: Request, words: dict[str, str]) -> Response:
        found = [
            self._shown(each["id"], {})
            for each in self.sessions.values()
            if each["payment_intent"] == words["payment_intent"]
        ]
        return _page(found)

    def _search(self, _request: Request, words: dict[str, str]) -> Response:
        _, _, wanted = words["query"].partition(":")
        attempt = json.loads(wanted)
        found = [
            each
            for each in self.intents.values()
            if each["metadata"]["lastunit_attempt"] == attempt
        ]
        return JSONResponse({"object": "search_result", "data": found, "has_more": False})

    def _list_charges(self, _request: Request, words: dict[str, str]) -> Response:
        return self._span(self.charges, words)

    def _list_refunds(self, _request: Request, words: dict[str, str]) -> Response:
        return self._span(self.refunds, words)

    def _span(self, rows: dict[str, dict[str, Any]], words: dict[str, str]) -> Response:
        begin, end = int(words["created[gte]"]), int(words["created[lt]"])
        found = [each for each in rows.values() if begin <= each["created"] < end]
        after = words.get("starting_after")
        if after:
            ids = [each["id"] for each in found]
            found = found[ids.index(after) + 1 :]
        limit = int(words["limit"])
        return _page(found[:limit], has_more=len(found) > limit)

    def _refund(self, _request: Request, words: dict[str, str]) -> Response:
        intent = self.intents[words["payment_intent"]]
        amount = int(words["amount"])
        gone = sum(
            each["amount"]
            for each in self.refunds.values()
            if each["payment_intent"] == intent["id"] and each["status"] != "failed"
        )
        if amount > intent["amount_received"] - gone:
            return refusal(400, "charge_already_refunded")
        refund_id = f"re_{next(self.numbers)}"
        self.refunds[refund_id] = {
            "id": refund_id,
            "object": "refund",
            "status": "pending" if self.is_refund_pending else "succeeded",
            "amount": amount,
            "currency": self.charges[intent["latest_charge"]]["currency"],
            "created": self.now_seconds,
            "payment_intent": intent["id"],
            "metadata": {
                name[len("metadata[") : -1]: value
                for name, value in words.items()
                if name.startswith("metadata[")
            },
        }
        return JSONResponse(self.refunds[refund_id])

    def _show_refund(self, request: Request, _words: dict[str, str]) -> Response:
        return JSONResponse(self.refunds[request.path_params["number"]])


def _page(rows: list[dict[str, Any]], *, has_more: bool = False) -> Response:
    return JSONResponse({"object": "list", "data": rows, "has_more": has_more, "url": "/v1/x"})
