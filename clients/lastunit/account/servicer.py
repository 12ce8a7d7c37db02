"""AccountService over gRPC.

Owns which part answers which method. Must not hold rules.
Next: `lastunit.account.parts` lists the parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

from lastunit.account.v1 import account_service_pb2 as pb
from lastunit.account.v1 import account_service_pb2_grpc
from lastunit.service.faults import FaultError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OPERATOR_METHODS", "SERVICE_NAME", "UNPROVED_METHODS", "AccountServicer"]

SERVICE_NAME: Final = "lastunit.account.v1.AccountService"

OPERATOR_METHODS: Final = tuple(
    f"/{SERVICE_NAME}/{method}"
    for method in (
        "ApproveClaim",
        "ExplainPerson",
        "FindAccount",
        "GetPerson",
        "ListAccesses",
        "ListClaims",
        "LockAccount",
        "RejectClaim",
        "SetPolicy",
        "UnlockAccount",
    )
)
"""What shows or moves persons by the word of support staff."""

UNPROVED_METHODS: Final = tuple(
    f"/{SERVICE_NAME}/{method}" for method in ("CloseAccount", "ReverseMerge")
)
"""What an owner may do with a proof, and support staff without one."""

# The generated base is abstract and checks nothing that mypy could use.
_Base: Any = account_service_pb2_grpc.AccountServiceServicer


class AccountServicer(_Base):  # type: ignore[misc]  # see above
    """Serves the contract from parts, each of which has some methods under the contract's names.

    Args:
        parts: What answers; no two have the same method. A method that none has is answered
            UNIMPLEMENTED.
    """

    def __init__(self, parts: Sequence[object]) -> None:
        for method in pb.DESCRIPTOR.services_by_name["AccountService"].methods:
            having = [part for part in parts if hasattr(part, method.name)]
            if len(having) > 1:
                raise ValueError(f"{method.name} is in {len(having)} parts; leave it in one")
            answer = (
                getattr(having[0], method.name)
                if having
                else _unserved(method.name, is_stream=method.server_streaming)
            )
            setattr(self, method.name, answer)


def _unserved(name: str, *, is_stream: bool) -> Any:
    def fault() -> FaultError:
        return FaultError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"this service was started without what {name} needs; see its log",
            reason="UNIMPLEMENTED",
        )

    async def refuse(_request: object, _context: object) -> Any:
        raise fault()

    async def refuse_stream(_request: object, _context: object) -> Any:
        raise fault()
        yield

    return refuse_stream if is_stream else refuse
