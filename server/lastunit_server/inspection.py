"""Reads facts out of a ledger for the command line: a live server or a directory that is at rest.

Owns the one form in which both are shown; must not print (see `cli`) nor judge: the ledger itself
says whether its invariants hold.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format

from lastunit.stock.v1 import (
    journal_service_pb2,
    reservation_pb2,
    stock_admin_service_pb2,
)
from lastunit_server.errors import TargetError
from lastunit_server.methods import ADMIN, JOURNAL, path

if TYPE_CHECKING:
    from lastunit.stock.v1 import event_pb2

__all__ = ["directory_audit", "directory_events", "live_audit", "live_events"]

# An audit looks at every reservation; a million of them take about a second.
_AUDIT_SECONDS_MAX = 60
# Events a page; large enough to be quick, small enough for the 4 MiB of a message.
_PAGE = 1024
_CALLER = (("lastunit-caller", "lastunit-server-cli"),)

Facts = dict[str, Any]


def live_audit(target: str) -> Facts:
    """Asks a server's settlement listener for an audit.

    Args:
        target: `host:port`.

    Returns:
        `holds`, `sequence`, `epoch`, `findings`, `pools` and `reservations` by state.

    Raises:
        TargetError: No answer, or not from a ledger.
    """
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(
            path(ADMIN, "Audit"),
            request_serializer=stock_admin_service_pb2.AuditRequest.SerializeToString,
            response_deserializer=stock_admin_service_pb2.AuditResponse.FromString,
        )
        try:
            audit = call(
                stock_admin_service_pb2.AuditRequest(),
                timeout=_AUDIT_SECONDS_MAX,
                metadata=_CALLER,
            )
        except grpc.RpcError as error:
            raise _unreachable(target, error, listener="settlement") from error
    return _audit_facts(audit)


def _audit_facts(audit: stock_admin_service_pb2.AuditResponse) -> Facts:
    return {
        "holds": audit.holds,
        "sequence": audit.place.as_of_sequence,
        "epoch": audit.place.epoch,
        "findings": [
            {"invariant": found.invariant, "subject": found.subject, "message": found.message}
            for found in audit.findings
        ],
        "pools": [_pool_facts(pool) for pool in audit.pools],
        "reservations": dict(
            sorted(
                (reservation_pb2.State.Name(row.state).removeprefix("STATE_"), row.count)
                for row in audit.reservation_counts
            )
        ),
    }


def _pool_facts(pool: stock_admin_service_pb2.AuditPool) -> Facts:
    counters = {field.name: getattr(pool.counters, field.name) for field in _counter_fields(pool)}
    return {"sale_id": pool.sale_id, "sku": pool.sku, "pool": pool.pool, **counters}


def _counter_fields(pool: stock_admin_service_pb2.AuditPool) -> Any:
    return pool.counters.DESCRIPTOR.fields


def directory_audit(directory: Path) -> Facts:
    """Recovers a directory's journal without writing and checks every invariant.

    Args:
        directory: A data directory; nothing is written.

    Returns:
        The same facts as `live_audit`.

    Raises:
        TargetError: The directory is none of ours, or its journal is damaged.
    """
    from lastunit_server._native import NodeOpenError, audit_directory

    _require_directory(directory)
    try:
        facts: Facts = json.loads(audit_directory(str(directory)))
        # As a live server says it: states without a reservation are left out.
        counted = {state: count for state, count in facts["reservations"].items() if count}
        facts["reservations"] = dict(sorted(counted.items()))
    except (NodeOpenError, OSError) as error:
        raise TargetError(f"{directory}: {error.args[0]}") from error
    return facts


def live_events(target: str, *, after_sequence: int, is_following: bool) -> Iterator[Facts]:
    """Reads events from a server's data listener.

    Args:
        target: `host:port`.
        after_sequence: Position after which to start, 0 or more.
        is_following: Whether to go on with events to come.

    Yields:
        One JSON object an event.

    Raises:
        TargetError: No answer, or the position lies beyond the journal's end.
    """
    request = journal_service_pb2.ReadEventsRequest(
        after_sequence=after_sequence, follow=is_following, page_size=_PAGE
    )
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_stream(
            path(JOURNAL, "ReadEvents"),
            request_serializer=journal_service_pb2.ReadEventsRequest.SerializeToString,
            response_deserializer=journal_service_pb2.ReadEventsResponse.FromString,
        )
        try:
            for page in call(request, metadata=_CALLER):
                yield from map(_event_facts, page.events)
        except grpc.RpcError as error:
            raise _unreachable(target, error, listener="data") from error


def directory_events(directory: Path, *, after_sequence: int) -> Iterator[Facts]:
    """Reads events of a directory; nothing is written.

    Args:
        directory: The data directory.
        after_sequence: Position after which to start, 0 or more.

    Yields:
        One JSON object an event.

    Raises:
        TargetError: The journal is damaged, or the position lies beyond its end.
    """
    from lastunit_server._native import NodeOpenError, read_directory_events

    _require_directory(directory)
    after = after_sequence
    while True:
        try:
            body, last = read_directory_events(str(directory), after, _PAGE)
        except (NodeOpenError, OSError, ValueError) as error:
            raise TargetError(f"{directory}: {error.args[0]}") from error
        yield from map(_event_facts, journal_service_pb2.ReadEventsResponse.FromString(body).events)
        if last <= after:
            return
        after = last


def _event_facts(event: "event_pb2.Event") -> Facts:
    facts: Facts = json_format.MessageToDict(event, preserving_proto_field_name=True)
    # JSON maps int64 to text for the sake of JavaScript; a sequence is read by people and jq.
    facts["sequence"] = event.sequence
    return facts


def _require_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise TargetError(f"{directory}: is not a directory; pass the server's data_directory")


def _unreachable(target: str, error: grpc.RpcError, *, listener: str) -> TargetError:
    # The class that is raised in fact has both; its base in grpc's types has none.
    code = error.code() if isinstance(error, grpc.Call) else None
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    name = code.name if code else "UNKNOWN"
    return TargetError(
        f"{target}: {name}: {details}; check that a lastunit server's {listener} listener is there"
    )
