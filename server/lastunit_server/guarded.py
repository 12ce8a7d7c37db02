"""A server as ready-made services see it: what they register passes the doorkeeper first.

Owns the wrapping of their handlers; must not know what they answer. Reflection and channelz show
how the server is made and who talks to it, so they need the permission `introspection`.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lastunit_server import faults
from lastunit_server.faults import Refusal

if TYPE_CHECKING:
    from lastunit_server.doorkeeper import Doorkeeper

__all__ = ["GuardedServer"]


class GuardedServer:
    """Stands in for a server while a service is added to it.

    Args:
        server: The real one, of either kind.
        doorkeeper: Whom to ask.
        right: The method's name in the table that opens every method of the service.
    """

    def __init__(self, server: Any, doorkeeper: "Doorkeeper", right: str) -> None:
        self._server = server
        self._doorkeeper = doorkeeper
        self._right = right

    def add_generic_rpc_handlers(self, _handlers: Any) -> None:
        """Ignores the unguarded form: the same handlers come by name too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the handlers of one service, guarded."""
        wrap = self._wrap_async if isinstance(self._server, grpc.aio.Server) else self._wrap_sync
        guarded = {name: wrap(f"/{service}/{name}", found) for name, found in handlers.items()}
        generic = grpc.method_handlers_generic_handler(service, guarded)
        self._server.add_generic_rpc_handlers((generic,))

    def _refusal(self, context: Any) -> Refusal | None:
        caller = self._doorkeeper.caller(context)
        if isinstance(caller, Refusal):
            return caller
        return self._doorkeeper.refusal(caller, self._right)

    def _wrap_async(self, method: str, handler: Any) -> Any:
        async def unary(request: Any, context: Any) -> Any:
            async with self._guarded_async(method, context):
                return await handler.unary_unary(request, context)

        async def stream(requests: Any, context: Any) -> AsyncIterator[Any]:
            async with self._guarded_async(method, context):
                async for reply in handler.stream_stream(requests, context):
                    yield reply

        return _same_kind(handler, unary, stream)

    @contextlib.asynccontextmanager
    async def _guarded_async(self, method: str, context: Any) -> AsyncIterator[None]:
        refusal = self._refusal(context)
        if refusal is None:
            try:
                yield
            except grpc.aio.AbortError:
                raise
            except Exception:  # noqa: BLE001 - no text of an exception reaches a caller
                refusal = faults.bug(method)
            else:
                return
        await context.abort(refusal.code, refusal.message, refusal.trailers)

    def _wrap_sync(self, method: str, handler: Any) -> Any:
        def unary(request: Any, context: Any) -> Any:
            with self._guarded_sync(method, context):
                return handler.unary_unary(request, context)

        def stream(requests: Any, context: Any) -> Iterator[Any]:
            with self._guarded_sync(method, context):
                yield from handler.stream_stream(requests, context)

        return _same_kind(handler, unary, stream)

    @contextlib.contextmanager
    def _guarded_sync(self, method: str, context: Any) -> Iterator[None]:
        refusal = self._refusal(context)
        if refusal is None:
            try:
                yield
            except grpc.RpcError:
                # The caller hung up.
                return
            except Exception:  # noqa: BLE001 - no text of an exception reaches a caller
                refusal = faults.bug(method)
            else:
                return
        context.set_trailing_metadata(refusal.trailers)
        context.abort(refusal.code, refusal.message)


def _same_kind(handler: Any, unary: Callable[..., Any], stream: Callable[..., Any]) -> Any:
    """Puts a guarded behaviour into a handler of the same kind, with the same serializers."""
    ends = (handler.request_deserializer, handler.response_serializer)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, *ends)
    assert not handler.request_streaming, "no service of ours has this kind of method"
    assert not handler.response_streaming, "no service of ours has this kind of method"
    return grpc.unary_unary_rpc_method_handler(unary, *ends)
