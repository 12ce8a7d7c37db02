"""The door of every service: what a call passes on its way in and an error on its way out.

Owns the validation of requests against their declared rules and the hiding of exception texts.
Must not hold rules of its own: they stand in the protos. Next: `lastunit.service.faults`.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

import grpc
import protovalidate

from lastunit import tracing
from lastunit.errors import LastunitError, Violation
from lastunit.service.faults import FaultError, fault_from_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from lastunit.service.metrics import ServiceMetrics
    from lastunit.service.security import ServiceSecurity

    # Generic only in its stubs, not when it runs.
    _Handler = grpc.RpcMethodHandler[Any, Any]

_log: Final = logging.getLogger(__name__)

# Fields told of one bad request; a hostile one could break a rule in each of 10,000 lines.
_VIOLATIONS_MAX: Final = 32


class Door(grpc.aio.ServerInterceptor):
    """Checks each request of our services and gives each error its status.

    Args:
        service_names: Full names of the services it guards; others pass untouched.
        security: Whose calls are taken.
        metrics: Where they are counted.
        operator_methods: Paths of the methods that are for operators.
        unproved_methods: Paths of those that are for operators if the request has no `proof`.
    """

    def __init__(
        self,
        service_names: frozenset[str],
        security: ServiceSecurity,
        metrics: ServiceMetrics,
        *,
        operator_methods: frozenset[str] = frozenset(),
        unproved_methods: frozenset[str] = frozenset(),
    ) -> None:
        self._unproved_methods = unproved_methods
        self._operator_methods = operator_methods
        self._metrics = metrics
        self._security = security
        self._service_names = service_names
        # One wrapped handler for each method that exists, so it is bounded by the contract.
        self._handlers: dict[str, _Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[_Handler | None]],
        handler_call_details: Any,
    ) -> _Handler | None:
        """Returns the handler of the method, guarded."""
        method: str = handler_call_details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.split("/")[1] not in self._service_names:
            return handler
        is_for_operators = method in self._operator_methods
        needs_proof = method in self._unproved_methods

        def check_client(request: Any, context: Any) -> None:
            is_unproved = needs_proof and not request.HasField("proof")
            self._security.check_client(context, is_for_operators=is_for_operators or is_unproved)

        guarded = _guard(method, handler, check_client, self._metrics)
        self._handlers[method] = guarded
        return guarded


def _guard(
    method: str, handler: Any, check_client: Callable[[Any, Any], None], metrics: ServiceMetrics
) -> _Handler:
    if handler.request_streaming:
        raise NotImplementedError(f"{method} streams requests, which nobody would validate")
    if handler.response_streaming:
        guarded_stream = _guard_stream(method, handler.unary_stream, check_client)
        return grpc.unary_stream_rpc_method_handler(
            metrics.counted_stream(method, guarded_stream),
            handler.request_deserializer,
            handler.response_serializer,
        )
    guarded = _guard_unary(method, handler.unary_unary, check_client)
    return grpc.unary_unary_rpc_method_handler(
        tracing.traced_async(method, metrics.counted(method, guarded)),
        handler.request_deserializer,
        handler.response_serializer,
    )


def _guard_unary(
    method: str, call: Callable[..., Awaitable[Any]], check_client: Callable[[Any, Any], None]
) -> Callable[..., Any]:
    async def guarded(request: Any, context: Any) -> Any:
        try:
            check_client(request, context)
            check_request(request)
            return await call(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last line before the wire
            await _abort(method, error, context)

    return guarded


def _guard_stream(
    method: str, call: Callable[..., AsyncIterator[Any]], check_client: Callable[[Any, Any], None]
) -> Callable[..., Any]:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            check_client(request, context)
            check_request(request)
            async for response in call(request, context):
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last line before the wire
            await _abort(method, error, context)

    return guarded


def check_request(request: Any) -> None:
    """Checks a message against the rules its proto declares.

    Raises:
        FaultError: INVALID_ARGUMENT that names each field; at most 32 of them.
    """
    found = protovalidate.collect_violations(request)
    if not found:
        return
    violations = [_violation(each.proto) for each in found[:_VIOLATIONS_MAX]]
    named = "; ".join(f"{each.field}: {each.description}" for each in violations)
    raise FaultError(
        grpc.StatusCode.INVALID_ARGUMENT,
        f"the request breaks its contract: {named}",
        reason="INVALID_ARGUMENT",
        violations=violations,
    )


def _violation(proto: Any) -> Violation:
    return Violation(field=_field_path(proto.field), description=proto.message, rule=proto.rule_id)


def _field_path(path: Any) -> str:
    parts: list[str] = []
    for element in path.elements if path is not None else ():
        name = element.field_name
        subscript = element.subscript
        if subscript is not None:
            name += f"[{subscript.value}]"
        parts.append(name)
    return ".".join(parts)


async def _abort(method: str, error: Exception, context: Any) -> None:
    fault = error if isinstance(error, FaultError) else None
    if fault is None and isinstance(error, LastunitError):
        fault = fault_from_error(error)
    if fault is None:
        fault = _hidden(method, error)
    await context.abort(fault.code, fault.message, fault.trailers())


def _hidden(method: str, error: Exception) -> FaultError:
    """Logs an exception and returns a fault that carries only the id of the log line."""
    error_id = secrets.token_hex(8)
    _log.error(
        "a call failed inside the service",
        exc_info=error,
        extra={"error_id": error_id, "method": method},
    )
    return FaultError(
        grpc.StatusCode.INTERNAL,
        f"internal error {error_id}; the service's log has the details under this id",
        reason="INTERNAL",
        metadata={"error_id": error_id},
    )
