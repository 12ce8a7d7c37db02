"""The part of AdmissionService that a service beside the ledger needs: reports and gates.

Owns the calls. Must not decide when to report or what a gate means.
Next: `proto/lastunit/admission/v1/admission_service.proto`.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING, Any, Final, cast

import grpc

from lastunit.admission.v1 import admission_service_pb2, gate_pb2
from lastunit.client._connection import open_channel, open_sync_channel
from lastunit.client._events import Resumed
from lastunit.client._seen import Seen
from lastunit.client._status import failure_from_call
from lastunit.client._unary import check_deadline
from lastunit.client.security import ClientSecurity

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["GateWatch", "PressureLine"]

_SERVICE: Final = "/lastunit.admission.v1.AdmissionService/"


class PressureLine:
    """Reports to admission, from a thread of its own.

    A service that is rushed answers its callers late; its reports must not be late with them, or
    admission would take it for dead. So this does not share the event loop.

    Args:
        settlement_address: The ledger's settlement listener, where reports go.
        caller: Name that admission knows this client under.
        security: Whom to trust and who we are; None speaks plain text and only says `caller`.
    """

    def __init__(
        self, settlement_address: str, *, caller: str, security: ClientSecurity | None = None
    ) -> None:
        security = security or ClientSecurity()
        self._seen = Seen(caller, security)
        self._channel = open_sync_channel(settlement_address, security)
        self._report: Any = self._channel.unary_unary(
            f"{_SERVICE}ReportPressure",
            request_serializer=admission_service_pb2.ReportPressureRequest.SerializeToString,
            response_deserializer=admission_service_pb2.ReportPressureResponse.FromString,
        )

    def report_pressure(
        self,
        report: admission_service_pb2.ReportPressureRequest,
        *,
        deadline_seconds: float = 1.0,
    ) -> admission_service_pb2.CreditWindow | None:
        """Reports once; who fails reports anew, so nothing is tried again here.

        Args:
            report: How far the caller is.
            deadline_seconds: More than 0, at most an hour.

        Returns:
            The credit window after the report; None if the policy has none.

        Raises:
            LastunitError: The report was not taken.
        """
        deadline = check_deadline(deadline_seconds)
        try:
            response: admission_service_pb2.ReportPressureResponse = self._report(
                report, timeout=deadline, metadata=self._seen.metadata()
            )
        except grpc.RpcError as error:
            # What a channel raises is its call too, as on the event loop.
            failed = cast("grpc.aio.AioRpcError", error)
            raise failure_from_call(failed).error(deadline_seconds=deadline) from error
        return response.window if response.HasField("window") else None

    def close(self) -> None:
        """Closes the connection; a call under way fails."""
        self._channel.close()


class GateWatch:
    """Watches gates.

    Create it inside a running event loop.

    Args:
        data_address: The ledger's data listener.
        caller: Name that admission knows this client under.
        security: Whom to trust and who we are; None speaks plain text and only says `caller`.
    """

    def __init__(
        self, data_address: str, *, caller: str, security: ClientSecurity | None = None
    ) -> None:
        security = security or ClientSecurity()
        self._seen = Seen(caller, security)
        self._channel = open_channel(data_address, security)
        self._watch: Any = self._channel.unary_stream(
            f"{_SERVICE}WatchGate",
            request_serializer=gate_pb2.WatchGateRequest.SerializeToString,
            response_deserializer=gate_pb2.WatchGateResponse.FromString,
        )

    async def watch(self, sale_id: str) -> AsyncGenerator[gate_pb2.Gate]:
        """Gives out a gate as it is and whenever it changes; goes on when the ledger restarts.

        Args:
            sale_id: Whose gate.

        Raises:
            LastunitError: There is no such gate, or it must not be watched.
        """
        request = gate_pb2.WatchGateRequest(sale_id=sale_id)
        stream = Resumed[gate_pb2.WatchGateResponse](
            lambda: self._watch(request, metadata=self._seen.metadata()),
            does_end=False,
            jitter=random.Random(),  # noqa: S311 - spreads retries, keeps no secret
        )
        messages = stream.messages()
        async with contextlib.aclosing(messages):
            async for message in messages:
                yield message.gate

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()
