"""The webhook over HTTP: one route and nothing else.

Owns reading a bounded body, whose request it is, and the JSON of the answers. Must not judge a
callback: `webhook` does. Next: `lastunit.payment.webhook`, `lastunit.payment.flood`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lastunit.payment.webhook import BODY_BYTES_MAX, UNVERIFIED_REASONS, Answer

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from starlette.requests import Request

    from lastunit.payment.webhook import Webhook

__all__ = ["read_body", "webhook_app"]

# A provider sends its body at once; who takes longer holds a place that others need.
BODY_SECONDS: Final = 10.0

_FORWARDED: Final = "x-forwarded-for"


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


def webhook_app(webhook: Webhook, *, proxies: AbstractSet[str] = frozenset()) -> Starlette:
    """Returns the app with `POST /v1/callbacks/{provider}`.

    Args:
        webhook: Checks and stores.
        proxies: Addresses of proxies that say by X-Forwarded-For whose request they pass on.
    """

    async def receive(request: Request) -> Response:
        address = _sender(request, proxies)
        provider = request.path_params["provider"]
        answer = webhook.refuse_early(provider, request.headers)
        if answer is None:
            async with webhook.flood.turn(address):
                answer = await _read_and_receive(webhook, provider, request)
        is_unverified = answer.reason in UNVERIFIED_REASONS
        webhook.note_sender(address, is_verified=not is_unverified)
        # Who floods has to make a connection each time; the others keep theirs.
        return _response(answer, is_last=is_unverified and webhook.flood.is_flooding(address))

    route = Route("/v1/callbacks/{provider:str}", receive, methods=["POST"])
    return Starlette(routes=[route])


async def _read_and_receive(webhook: Webhook, provider: str, request: Request) -> Answer:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw_body = await read_body(request, BODY_BYTES_MAX)
    except (ClientDisconnect, TimeoutError):
        return webhook.count(Answer(400, "cut_off"))
    if raw_body is None:
        return webhook.count(Answer(413, "too_large"))
    return await webhook.receive(provider, request.headers, raw_body)


def _sender(request: Request, proxies: AbstractSet[str]) -> str:
    """Returns whose request it is; only a proxy of ours is believed about somebody else."""
    address = request.client.host if request.client else ""
    if address in proxies:
        # The last one is what our proxy saw; those before it are what it was told.
        return request.headers.get(_FORWARDED, address).rpartition(",")[2].strip()[:64]
    return address


def _response(answer: Answer, *, is_last: bool) -> Response:
    headers = {"connection": "close"} if is_last else None
    if answer.status == 200:  # noqa: PLR2004 - HTTP's own number
        return JSONResponse({"ok": True}, headers=headers)
    body = {"ok": False, "reason": answer.reason}
    return JSONResponse(body, status_code=answer.status, headers=headers)
