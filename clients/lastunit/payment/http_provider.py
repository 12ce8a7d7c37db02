"""The provider port over HTTP, as the sandbox speaks it.

Owns the calls and the reading of answers. Must not retry or decide: the reconciler does.
Next: `lastunit.payment.sandbox.app` (the other side).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import quote

import httpx

from lastunit.payment.callback import CODE_LENGTH_MAX, plain
from lastunit.payment.provider import (
    CHECK_NO,
    BillLine,
    BillLineKind,
    BillPage,
    CloseAnswer,
    CloseStatus,
    CreateOrder,
    Known,
    ProviderAttempt,
    ProviderRefusedError,
    ProviderStatus,
    ProviderUnavailableError,
    RefundAnswer,
    RefundStatus,
)

__all__ = ["HttpProvider"]

# After so long an answer is not worth waiting for; the attempt is UNKNOWN and asked for.
TIMEOUT_SECONDS: Final = 3.0

# The pool looks through all its connections and waiting calls at each call: few connections, and
# calls that wait before the pool and not in it, or a rush costs its square.
CONNECTIONS_MAX: Final = 16
POOL_SECONDS: Final = 30.0

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_OK: Final = 200


class HttpProvider:
    """Calls a provider over HTTP.

    Args:
        base_url: Such as `http://127.0.0.1:7500`.
        name: Name of the provider in attempts and callbacks.
        timeout_seconds: For each call, more than 0.
        api_key: Goes with each call as a bearer token; empty for none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str = "sandbox",
        timeout_seconds: float = TIMEOUT_SECONDS,
        api_key: str = "",
    ) -> None:
        self._name = name
        words: dict[str, Any] = {
            "base_url": base_url,
            "headers": {"authorization": f"Bearer {api_key}"} if api_key else None,
            # Waiting for a free connection is our own queue and says nothing of the provider.
            "timeout": httpx.Timeout(timeout_seconds, pool=POOL_SECONDS),
            # Proxies of the environment are for the world outside, not for a provider next door.
            "trust_env": False,
        }
        self._client = httpx.AsyncClient(limits=_connections(CONNECTIONS_MAX), **words)
        # Behind a rush of ours a sign of life would come too late, from a provider that is well.
        self._checks = httpx.AsyncClient(limits=_connections(1), **words)
        self._turns = asyncio.Semaphore(CONNECTIONS_MAX)

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._name

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
        await self._checks.aclose()

    async def create(self, order: CreateOrder) -> ProviderAttempt:
        """Makes an attempt payable; see `Provider.create`."""
        body = {
            "merchant_no": order.merchant_no,
            "method": order.method,
            "amount_minor": order.amount_minor,
            "currency": order.currency,
            "expire_ms": order.expire_ms,
        }
        status, answer = await self._call("POST", "/v1/attempts", body)
        if status == _CONFLICT:
            code = str(answer.get("code", "REFUSED"))
            raise ProviderRefusedError(str(answer.get("message", code)), code=code)
        return _attempt(_expect(status, answer))

    async def query(
        self, merchant_no: str, *, known: Known | None = None
    ) -> ProviderAttempt | None:
        """Returns the attempt as it stands; see `Provider.query`."""
        del known
        status, answer = await self._call("GET", f"/v1/attempts/{merchant_no}", None)
        if status == _NOT_FOUND:
            return None
        return _attempt(_expect(status, answer))

    async def check(self) -> None:
        """Gives a sign of life on a connection of its own; see `Provider.check`."""
        try:
            response = await self._checks.get(f"/v1/attempts/{CHECK_NO}")
        except httpx.HTTPError as error:
            raise self._silent(error) from error
        if response.status_code not in {_OK, _NOT_FOUND}:
            raise ProviderUnavailableError(f"{self._name} answered {response.status_code}")

    async def close(self, merchant_no: str, *, known: Known | None = None) -> CloseAnswer:
        """Asks to shut the attempt; see `Provider.close`."""
        del known
        status, answer = await self._call("POST", f"/v1/attempts/{merchant_no}/close", {})
        body = _expect(status, answer)
        try:
            return CloseAnswer(
                status=CloseStatus(body["status"]),
                attempt=_attempt(body["attempt"]),
                detail=plain(str(body.get("detail", "")))[:CODE_LENGTH_MAX],
            )
        except (KeyError, ValueError) as error:
            raise _unreadable(error) from error

    async def refund(
        self,
        merchant_no: str,
        *,
        amount_minor: int,
        currency: str,
        refund_key: str,
        known: Known | None = None,
    ) -> RefundAnswer:
        """Gives money back; see `Provider.refund`."""
        del known
        wanted = {"amount_minor": amount_minor, "currency": currency, "refund_key": refund_key}
        status, answer = await self._call("POST", f"/v1/attempts/{merchant_no}/refunds", wanted)
        body = _expect(status, answer)
        try:
            return RefundAnswer(
                status=RefundStatus(body["status"]),
                refund_no=str(body["refund_no"]),
                detail=plain(str(body.get("detail", "")))[:CODE_LENGTH_MAX],
                occurred_ms=int(body.get("occurred_ms", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(error) from error

    async def bill(self, from_ms: int, to_ms: int, *, cursor: str, limit: int) -> BillPage:
        """Returns a page of the bill; see `Provider.bill`."""
        span = f"from_ms={from_ms}&to_ms={to_ms}&limit={limit}&cursor={quote(cursor, safe='')}"
        status, answer = await self._call("GET", f"/v1/bill/lines?{span}", None)
        body = _expect(status, answer)
        try:
            lines = tuple(map(_line, body["lines"]))
            return BillPage(lines, str(body["next_cursor"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(error) from error

    async def _call(
        self, method: str, path: str, body: dict[str, object] | None
    ) -> tuple[int, dict[str, Any]]:
        try:
            async with self._turns:
                response = await self._client.request(method, path, json=body)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise self._silent(error) from error
        if not isinstance(answer, dict):
            raise ProviderUnavailableError(f"{self._name} answered something that is no object")
        return response.status_code, answer

    def _silent(self, error: Exception) -> ProviderUnavailableError:
        return ProviderUnavailableError(f"{self._name} did not answer: {error!r}")


def _connections(count: int) -> httpx.Limits:
    return httpx.Limits(max_connections=count, max_keepalive_connections=count)


def _expect(status: int, answer: dict[str, Any]) -> dict[str, Any]:
    if status != _OK:
        raise ProviderUnavailableError(f"the provider answered {status}: {answer}")
    return answer


def _attempt(body: dict[str, Any]) -> ProviderAttempt:
    """Reads an attempt; what cannot be read is no answer, never a guess."""
    try:
        return ProviderAttempt(
            merchant_no=_word(body, "merchant_no"),
            provider_no=_word(body, "provider_no"),
            status=ProviderStatus(body["status"]),
            amount_minor=int(body["amount_minor"]),
            currency=_word(body, "currency"),
            pay_url=_word(body, "pay_url"),
            occurred_ms=int(body["occurred_ms"]),
            state_version=int(body["state_version"]),
            failure_code=plain(str(body.get("failure_code", "")))[:CODE_LENGTH_MAX],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(error) from error


def _word(body: dict[str, Any], name: str) -> str:
    """Reads a text that is kept as it is."""
    text = str(body[name])
    if not text.isprintable():
        raise ValueError(f"{name} holds what cannot be stored")
    return text


def _line(body: dict[str, Any]) -> BillLine:
    return BillLine(
        kind=BillLineKind(body["kind"]),
        merchant_no=_word(body, "merchant_no"),
        provider_no=_word(body, "provider_no"),
        amount_minor=int(body["amount_minor"]),
        currency=_word(body, "currency"),
        occurred_ms=int(body["occurred_ms"]),
        refund_key=_word(body, "refund_key"),
    )


def _unreadable(error: Exception) -> ProviderUnavailableError:
    return ProviderUnavailableError(f"the provider's answer cannot be read: {error!r}")
