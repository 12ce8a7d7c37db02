"""The webhook over HTTP: one route and nothing else.

Owns reading a bounded body and the JSON of the answers. Must not judge a callback: `webhook` does.
Next: `lastunit.payment.webhook`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lastunit.payment.webhook import BODY_BYTES_MAX, Answer

if TYPE_CHECKING:
    from starlette.requests import Request

    from lastunit.payment.webhook import Webhook

__all__ = ["read_body", "webhook_app"]


async def read_body(request: Request, bytes_max: int) -> bytes | None:
    """Returns the body, or None if it is longer than `bytes_max`; never holds more than that."""
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > bytes_max:
            return None
        parts.append(part)
    return b"".join(parts)


def webhook_app(webhook: Webhook) -> Starlette:
    """Returns the app with `POST /v1/callbacks/{provider}`.

    Args:
        webhook: Checks and stores.
    """

    async def receive(request: Request) -> Response:
        try:
            raw_body = await read_body(request, BODY_BYTES_MAX)
        except ClientDisconnect:
            return _response(Answer(400, "cut_off"))
        if raw_body is None:
            return _response(Answer(413, "too_large"))
        provider = request.path_params["provider"]
        return _response(await webhook.receive(provider, request.headers, raw_body))

    route = Route("/v1/callbacks/{provider:str}", receive, methods=["POST"])
    return Starlette(routes=[route])


def _response(answer: Answer) -> Response:
    if answer.status == 200:  # noqa: PLR2004 - HTTP's own number
        return JSONResponse({"ok": True})
    return JSONResponse({"ok": False, "reason": answer.reason}, status_code=answer.status)
