"""The gate of a sale as a small document over HTTP, for front ends and the caches before them.

Owns the document's form, its status and its headers (docs/reference/gate-document.md); must not
judge a gate, nor show what only operators should know, such as how loaded the ledger is.
"""

import hashlib
import json
import math
import time
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from lastunit_server.gates import Gate, Gates

__all__ = ["DOCUMENT_BYTES_MAX", "GateApp", "gate_document"]

# A cache holds it in memory, and it fits the first packet.
DOCUMENT_BYTES_MAX = 1024
# A second: what a cache in front answers meanwhile costs this process nothing.
_CACHE = "public, max-age=1, stale-while-revalidate=2, stale-if-error=10"
_MILLISECONDS = 1000
_OK = 200
_QUEUEING = 202
_NOT_MODIFIED = 304
_UNKNOWN = 404
_NEVER = 410
_CLOSED = 429

_HEADERS = {
    "cache-control": _CACHE,
    # Nothing in it depends on who asks.
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "date, etag, retry-after, age",
    "x-content-type-options": "nosniff",
}
_PAGE_HEADERS = {
    "cache-control": "public, max-age=60",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline';"
    " script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def gate_document(gate: "Gate", *, now_ms: int | None = None) -> dict[str, Any]:
    """Builds the document of a gate.

    Args:
        gate: What is shown.
        now_ms: Ledger time at which it is sent; None takes that of the look.

    Returns:
        What is sent as JSON, at most `DOCUMENT_BYTES_MAX` bytes.
    """
    come_back = None
    if gate.come_back_ms is not None:
        come_back = math.ceil(gate.come_back_ms / _MILLISECONDS)
    return {
        "sale_id": gate.sale_id,
        "state": gate.state,
        "cause": gate.cause,
        "come_back_seconds": come_back,
        "is_sold_out": gate.is_sold_out,
        "is_over": gate.cause == "SALE_ENDED",
        "since_time": _time(gate.since_ms),
        "opens_time": _time(gate.opens_ms),
        "closes_time": _time(gate.closes_ms),
        "server_time": _time(gate.as_of_ms if now_ms is None else now_ms),
    }


def _time(millis: int | None) -> str | None:
    if millis is None:
        return None
    moment = datetime.fromtimestamp(millis / _MILLISECONDS, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _status(document: dict[str, Any]) -> int:
    if document["is_over"]:
        return _NEVER
    return {"open": _OK, "queueing": _QUEUEING}.get(document["state"], _CLOSED)


class GateApp:
    """The routes.

    Args:
        gates: What is shown.
        is_clock_manual: Whether ledger time stands still between two looks.
    """

    def __init__(self, gates: "Gates", *, is_clock_manual: bool = False) -> None:
        self._gates = gates
        self._is_clock_manual = is_clock_manual
        page = resources.files("lastunit_server") / "pages" / "waiting.html"
        self._page = page.read_text(encoding="utf-8")
        self.app = Starlette(
            routes=[
                Route("/v1/gates/{sale_id}", self._gate, methods=["GET"]),
                Route("/waiting", self._waiting, methods=["GET"]),
            ]
        )

    async def _gate(self, request: "Request") -> Response:
        sale_id = request.path_params["sale_id"]
        gate = self._gates.known(sale_id)
        if gate is None:
            problem = {"error": "UNKNOWN_SALE", "message": "there is no gate of that sale"}
            return _json(problem, _UNKNOWN, {})
        document = gate_document(gate, now_ms=self._now(gate))
        return _answer(document, request.headers.get("if-none-match", ""))

    def _now(self, gate: "Gate") -> int:
        """Ledger time goes on between two looks unless somebody else sets it."""
        if self._is_clock_manual:
            return gate.as_of_ms
        passed = time.monotonic() - self._gates.seen_at
        return gate.as_of_ms + max(0, int(passed * _MILLISECONDS))

    async def _waiting(self, _request: "Request") -> Response:
        return HTMLResponse(self._page, headers=_PAGE_HEADERS)


def _answer(document: dict[str, Any], known: str) -> Response:
    # Weak: the same but for the time of sending.
    lasting = {key: value for key, value in document.items() if key != "server_time"}
    digest = hashlib.sha256(json.dumps(lasting).encode()).hexdigest()
    tag = f'W/"{digest[:16]}"'
    headers = {"etag": tag}
    if document["come_back_seconds"] is not None:
        headers["retry-after"] = str(document["come_back_seconds"])
    if tag in (each.strip() for each in known.split(",")):
        return Response(status_code=_NOT_MODIFIED, headers={**_HEADERS, **headers})
    return _json(document, _status(document), headers)


def _json(body: dict[str, Any], status: int, headers: dict[str, str]) -> Response:
    return Response(
        json.dumps(body, separators=(",", ":")),
        status_code=status,
        media_type="application/json",
        headers={**_HEADERS, **headers},
    )
