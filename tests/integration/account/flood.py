"""A flood of newcomers, as a process of its own; its one argument is the service's address.

Owns the callers, who never wait when they are told to. Prints one line once the first was refused,
and at SIGTERM how many calls ended how, as JSON.
"""

from __future__ import annotations

import asyncio
import collections
import json
import signal
import sys
from typing import Any

import grpc

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc

CALLERS = 32


async def _call_for_ever(stub: Any, name: int, counts: collections.Counter[str]) -> None:
    number = 0
    while True:
        number += 1
        identifier = pb.Identifier(email=f"flood-{name}-{number}@newcomers.example")
        request = pb.RegisterRequest(
            request_id=f"f-{name}-{number}", identifier=identifier, proof="000000"
        )
        code = pb.SendCodeRequest(identifier=identifier, purpose=pb.CODE_PURPOSE_SIGN_IN)
        for call, message in ((stub.SendCode, code), (stub.Register, request)):
            try:
                await call(message, timeout=60)
            except grpc.aio.AioRpcError as error:
                if not counts["RESOURCE_EXHAUSTED"]:
                    _say({"event": "refused"})
                counts[error.code().name] += 1
            else:
                counts["OK"] += 1


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(address: str) -> None:
    """Floods until SIGTERM."""
    counts: collections.Counter[str] = collections.Counter()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = account_service_pb2_grpc.AccountServiceStub(channel)
        callers = [asyncio.create_task(_call_for_ever(stub, n, counts)) for n in range(CALLERS)]
        await stopping.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    _say(counts)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
