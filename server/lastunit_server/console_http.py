"""What every answer of the console has in common.

Owns headers, the form of a refusal, and how a small JSON body is taken. Must not know a route.
Next: `console.py`, `console_policy.py`.
"""

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

    from lastunit_server.faults import Refusal

__all__ = ["HEADERS", "body_of", "is_own", "problem", "refused"]

_BODY_BYTES_MAX = 4096
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; connect-src 'self';"
    " style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_HTTP_OF_CODE = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "INVALID_ARGUMENT": 400,
    "RESOURCE_EXHAUSTED": 429,
}
_HTTP_OTHER = 503


def is_own(request: "Request") -> bool:
    """Whether a page of ours asks: others can send here too, but not without saying where from."""
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")


async def body_of(request: "Request", bytes_max: int = _BODY_BYTES_MAX) -> dict[str, Any] | None:
    """Reads a small JSON object that a page of ours sent; None for anything else."""
    is_json = request.headers.get("content-type", "").partition(";")[0] == "application/json"
    if not is_json or not is_own(request):
        return None
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > bytes_max:
            return None
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def problem(status: int, reason: str, message: str) -> Response:
    """Refuses with an HTTP status, a stable name and words."""
    return JSONResponse({"reason": reason, "message": message}, status, headers=HEADERS)


def refused(refusal: "Refusal") -> Response:
    """Refuses as the call would have been."""
    status = _HTTP_OF_CODE.get(refusal.code.name, _HTTP_OTHER)
    return problem(status, refusal.code.name, refusal.message)
