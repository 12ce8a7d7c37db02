"""The services that every gRPC tool expects: health, reflection, channelz.

Owns what they say on both listeners; must not decide whether the node is well (`health_watch`
does). They answer outside admission, so that an overloaded ledger does not look dead. Health is
told to whoever can connect, because balancers ask it; the others need a permission (`guarded`).
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from lastunit.reflection import ReflectionPool
from lastunit_server.guarded import GuardedServer
from lastunit_server.methods import ADMIN, ADMISSION, INTROSPECTION, JOURNAL, REHEARSAL, STOCK

if TYPE_CHECKING:
    from lastunit_server.doorkeeper import Doorkeeper

__all__ = ["DataHealth", "SettlementHealth", "add_to_data_server", "add_to_settlement_server"]

_CHANNELZ = "grpc.channelz.v1.Channelz"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Health.Watch streams on the settlement listener that may be told of a change at once.
_HEALTH_THREADS = 2


def data_services() -> tuple[str, ...]:
    """Returns the names of the services on the data listener."""
    return (STOCK, JOURNAL)


def settlement_services(*, is_rehearsal: bool) -> tuple[str, ...]:
    """Returns the names of the services on the settlement listener.

    Args:
        is_rehearsal: Whether the node's clock is manual.
    """
    names = (STOCK, ADMIN, ADMISSION)
    return (*names, REHEARSAL) if is_rehearsal else names


class DataHealth:
    """Health on the data listener: for the server (`""`) and for each service."""

    def __init__(self) -> None:
        self._servicer = health.aio.HealthServicer()
        self._names = ("", *data_services())

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers the service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set(self, *, is_serving: bool) -> None:
        """Sets every name to SERVING or NOT_SERVING."""
        for name in self._names:
            await self._servicer.set(name, _SERVING if is_serving else _NOT_SERVING)


class SettlementHealth:
    """Health on the settlement listener: for the server (`""`) and for each service."""

    def __init__(self, *, is_rehearsal: bool) -> None:
        self._threads = ThreadPoolExecutor(_HEALTH_THREADS, thread_name_prefix="health")
        self._servicer = health.HealthServicer(experimental_thread_pool=self._threads)
        self._names = ("", *settlement_services(is_rehearsal=is_rehearsal))

    def add_to(self, server: grpc.Server) -> None:
        """Registers the service."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def set(self, *, is_serving: bool) -> None:
        """Sets every name to SERVING or NOT_SERVING."""
        for name in self._names:
            self._servicer.set(name, _SERVING if is_serving else _NOT_SERVING)

    def close(self) -> None:
        """Gives the threads back."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def add_to_data_server(
    server: grpc.aio.Server, doorkeeper: "Doorkeeper", *, has_reflection: bool
) -> None:
    """Adds channelz, and reflection if it is wanted, to the data listener."""
    _add(server, doorkeeper, data_services(), has_reflection=has_reflection)


def add_to_settlement_server(
    server: grpc.Server, doorkeeper: "Doorkeeper", *, has_reflection: bool, is_rehearsal: bool
) -> None:
    """Adds channelz, and reflection if it is wanted, to the settlement listener."""
    services = settlement_services(is_rehearsal=is_rehearsal)
    _add(server, doorkeeper, services, has_reflection=has_reflection)


def _add(
    server: Any, doorkeeper: "Doorkeeper", services: Iterable[str], *, has_reflection: bool
) -> None:
    is_async = isinstance(server, grpc.aio.Server)
    reflection_right, channelz_right = INTROSPECTION
    shown = channelz.aio.ChannelzServicer() if is_async else channelz.ChannelzServicer()
    guarded: Any = GuardedServer(server, doorkeeper, channelz_right)
    channelz_pb2_grpc.add_ChannelzServicer_to_server(shown, guarded)
    if not has_reflection:
        return
    _import_descriptors()
    names = (*services, health.SERVICE_NAME, _CHANNELZ, reflection.SERVICE_NAME)
    kind = reflection.aio.ReflectionServicer if is_async else reflection.ReflectionServicer
    guarded = GuardedServer(server, doorkeeper, reflection_right)
    servicer: Any = kind(service_names=names, pool=ReflectionPool())
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, guarded)


def _import_descriptors() -> None:
    """Puts our protos into the pool that reflection answers from."""
    # Imported for what it registers.
    from lastunit.admission.v1 import admission_service_pb2  # noqa: F401
    from lastunit.stock.v1 import (  # noqa: F401 - imported for what the import registers
        journal_service_pb2,
        rehearsal_service_pb2,
        stock_admin_service_pb2,
        stock_service_pb2,
    )
