"""The sandbox over HTTP: what merchants call, what buyers do, and its knobs.

Owns the routes and their JSON. Must not hold behaviour: `core` does.
Next: `lastunit.payment.sandbox.sender` posts the callbacks.
"""

from __future__ import annotations

import dataclasses
import hmac
import json
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lastunit.payment.provider import (
    CreateOrder,
    ProviderRefusedError,
    ProviderUnavailableError,
)
from lastunit.payment.webhook_app import read_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.requests import Request

    from lastunit.payment.sandbox.core import SandboxCore

    Handler = Callable[[Request], Awaitable[Response]]

__all__ = ["sandbox_app"]

BODY_BYTES_MAX: Final = 64 * 1024
AMOUNT_MINOR_MAX: Final = 1_000_000_000_000_000
BILL_LINES_MAX: Final = 500
DIGITS_MAX: Final = 15
TIME_MS_MAX: Final = 253_402_300_799_000

_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_REFUND_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_CURRENCY_PATTERN: Final = re.compile(r"[A-Z]{3}", re.ASCII)


class _BadRequestError(ValueError):
    """A field of a request is missing or out of range."""


def sandbox_app(core: SandboxCore, *, api_key: str = "") -> Starlette:
    """Returns the app of one sandbox.

    Args:
        core: The provider behind it.
        api_key: What merchants have to show as a bearer token; empty for nothing.
    """
    merchant, desk = _MerchantRoutes(core), _DeskRoutes(core)
    merchant_routes = [
        ("/v1/attempts", merchant.create, "POST"),
        ("/v1/attempts/{number:str}", merchant.query, "GET"),
        ("/v1/attempts/{number:str}/close", merchant.close, "POST"),
        ("/v1/attempts/{number:str}/refunds", merchant.refund, "POST"),
        ("/v1/bill/lines", merchant.bill, "GET"),
    ]
    desk_routes = [
        ("/v1/attempts/{number:str}/pay", desk.pay, "POST"),
        ("/v1/pay/{number:str}", desk.pay, "POST"),
        ("/v1/fail/{number:str}", desk.fail, "POST"),
        ("/v1/bill", desk.bill, "GET"),
        ("/v1/totals", desk.totals, "GET"),
        ("/v1/knobs", desk.show_knobs, "GET"),
        ("/v1/knobs", desk.turn_knobs, "PUT"),
    ]
    return Starlette(
        routes=[
            Route(path, _guard(handler, key), methods=[verb])
            for key, routes in ((api_key, merchant_routes), ("", desk_routes))
            for path, handler, verb in routes
        ]
    )


class _MerchantRoutes:
    """Is what merchants call."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core

    async def create(self, request: Request) -> Response:
        body = await _json(request)
        order = CreateOrder(
            merchant_no=_text(body, "merchant_no", _ID_PATTERN),
            method=_text(body, "method", _ID_PATTERN),
            amount_minor=_number(body, "amount_minor", 1, AMOUNT_MINOR_MAX),
            currency=_text(body, "currency", _CURRENCY_PATTERN),
            expire_ms=_number(body, "expire_ms", 0, TIME_MS_MAX),
        )
        return _ok(dataclasses.asdict(self._core.create(order)))

    async def query(self, request: Request) -> Response:
        attempt = self._core.query(_path_id(request))
        if attempt is None:
            return JSONResponse({"code": "UNKNOWN"}, status_code=404)
        return _ok(dataclasses.asdict(attempt))

    async def close(self, request: Request) -> Response:
        return _ok(dataclasses.asdict(self._core.close(_path_id(request))))

    async def refund(self, request: Request) -> Response:
        body = await _json(request)
        answer = self._core.refund(
            _path_id(request),
            amount_minor=_number(body, "amount_minor", 1, AMOUNT_MINOR_MAX),
            currency=_text(body, "currency", _CURRENCY_PATTERN),
            refund_key=_text(body, "refund_key", _REFUND_KEY_PATTERN),
        )
        return _ok(dataclasses.asdict(answer))

    async def bill(self, request: Request) -> Response:
        words = request.query_params
        numbers = {name: _digits(words, name) for name in ("from_ms", "to_ms", "limit")}
        page = self._core.bill_page(
            _number(numbers, "from_ms", 0, TIME_MS_MAX),
            _number(numbers, "to_ms", 0, TIME_MS_MAX),
            cursor=words.get("cursor", ""),
            limit=_number(numbers, "limit", 1, BILL_LINES_MAX),
        )
        return _ok(dataclasses.asdict(page))


class _DeskRoutes:
    """Is what buyers do, and whoever rehearses."""

    def __init__(self, core: SandboxCore) -> None:
        self._core = core

    async def pay(self, request: Request) -> Response:
        return _ok({"status": self._core.pay(_path_id(request))})

    async def fail(self, request: Request) -> Response:
        return _ok({"is_failed": self._core.fail(_path_id(request))})

    async def bill(self, _request: Request) -> Response:
        return _ok({"rows": [dataclasses.asdict(row) for row in self._core.bill()]})

    async def totals(self, _request: Request) -> Response:
        return _ok(self._core.totals())

    async def show_knobs(self, _request: Request) -> Response:
        return _ok(dataclasses.asdict(self._core.knobs))

    async def turn_knobs(self, request: Request) -> Response:
        try:
            self._core.knobs = self._core.knobs.changed(await _json(request))
        except (TypeError, ValueError) as error:
            raise _BadRequestError(str(error)) from error
        return _ok(dataclasses.asdict(self._core.knobs))


def _guard(handler: Handler, api_key: str) -> Handler:
    """Asks for the key, and turns what a handler raises into a status."""
    expected = f"Bearer {api_key}".encode()

    async def guarded(request: Request) -> Response:
        shown = request.headers.get("authorization", "").encode()
        if api_key and not hmac.compare_digest(shown, expected):
            return JSONResponse({"code": "KEY", "message": "no such key"}, status_code=401)
        try:
            return await handler(request)
        except _BadRequestError as error:
            return JSONResponse({"code": "BAD_REQUEST", "message": str(error)}, status_code=400)
        except ProviderRefusedError as error:
            return JSONResponse({"code": error.code, "message": str(error)}, status_code=409)
        except ProviderUnavailableError as error:
            return JSONResponse({"code": "DOWN", "message": str(error)}, status_code=503)

    return guarded


def _ok(body: object) -> Response:
    return JSONResponse(body)


async def _json(request: Request) -> dict[str, Any]:
    raw_body = await read_body(request, BODY_BYTES_MAX)
    if raw_body is None:
        raise _BadRequestError(f"the body is longer than {BODY_BYTES_MAX} bytes")
    try:
        body = json.loads(raw_body)
    except (ValueError, RecursionError) as error:
        raise _BadRequestError("the body is not JSON") from error
    if not isinstance(body, dict):
        raise _BadRequestError("the body is not a JSON object")
    return body


def _digits(words: Mapping[str, str], name: str) -> int | None:
    value = words.get(name, "")
    return int(value) if value.isascii() and value.isdigit() and len(value) <= DIGITS_MAX else None


def _path_id(request: Request) -> str:
    return _text(request.path_params, "number", _ID_PATTERN)


def _text(body: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _BadRequestError(f"{name} does not match {pattern.pattern}")
    return value


def _number(body: dict[str, Any], name: str, least: int, most: int) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _BadRequestError(f"{name} is not a whole number from {least} to {most}")
    return value
