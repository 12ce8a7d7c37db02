"""Reads facts out of a ledger for the command line: a live server or a directory that is at rest.

Owns the one form in which both are shown; must not print (see `inspection_cli`) nor judge: the
ledger itself says whether its invariants hold.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from lastunit.admission.v1 import admission_service_pb2
from lastunit.client.security import ClientSecurity
from lastunit.stock.v1 import (
    journal_service_pb2,
    reservation_pb2,
    stock_admin_service_pb2,
    stock_service_pb2,
)
from lastunit_server.errors import EventsRemovedTargetError, TargetError
from lastunit_server.methods import ADMIN, ADMISSION, JOURNAL, STOCK, path

if TYPE_CHECKING:
    from lastunit.stock.v1 import event_pb2

__all__ = [
    "Facts",
    "directory_answer",
    "directory_audit",
    "directory_events",
    "live_answer",
    "live_audit",
    "live_events",
    "repair",
    "verify",
]

# An audit looks at every reservation; a million of them take about a second.
_AUDIT_SECONDS_MAX = 120
# Events a page; large enough to be quick, small enough for the 4 MiB of a message.
_PAGE = 1024
# A quiet journal is sealed after 200 ms: looking more often than that shows nothing sooner.
_LOOK_SECONDS = 0.1
_CALLER = (("lastunit-caller", "lastunit-server-cli"),)
_STATUS_DETAILS = "grpc-status-details-bin"
_REMOVED = "EVENTS_REMOVED"

Facts = dict[str, Any]

# The questions about one state, by the name of their method: service, request, response.
_QUESTIONS: dict[str, tuple[str, type[Message], type[Message]]] = {
    "Audit": (
        ADMIN,
        stock_admin_service_pb2.AuditRequest,
        stock_admin_service_pb2.AuditResponse,
    ),
    "ExplainReservation": (
        ADMIN,
        stock_admin_service_pb2.ExplainReservationRequest,
        stock_admin_service_pb2.ExplainReservationResponse,
    ),
    "GetReservation": (
        STOCK,
        stock_service_pb2.GetReservationRequest,
        stock_service_pb2.GetReservationResponse,
    ),
    "GetAvailability": (
        STOCK,
        stock_service_pb2.GetAvailabilityRequest,
        stock_service_pb2.GetAvailabilityResponse,
    ),
    "GetAdvice": (
        ADMISSION,
        admission_service_pb2.GetAdviceRequest,
        admission_service_pb2.GetAdviceResponse,
    ),
}


def _connection(target: str) -> tuple[grpc.Channel, tuple[tuple[str, str], ...]]:
    """Connects as LASTUNIT_CLIENT_… says: plain text without it.

    Returns:
        The channel, and the metadata that names us.

    Raises:
        TargetError: A file can't be read, or a token would travel in clear text.
    """
    try:
        security = ClientSecurity.from_environment()
        security.check_address(target)
        credentials, proof = security.credentials(), security.metadata()
    except (OSError, ValueError) as error:
        raise TargetError(f"LASTUNIT_CLIENT_…: {error}") from error
    if credentials is None:
        return grpc.insecure_channel(target), (*_CALLER, *proof)
    name = (("grpc.ssl_target_name_override", security.server_name),)
    options = name if security.server_name else ()
    return grpc.secure_channel(target, credentials, options=options), (*_CALLER, *proof)


def _asked_live(target: str, method: str, request: Message, *, listener: str) -> Any:
    service, request_type, response_type = _QUESTIONS[method]
    channel, metadata = _connection(target)
    with channel:
        call: Any = channel.unary_unary(
            path(service, method),
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            return call(request, timeout=_AUDIT_SECONDS_MAX, metadata=metadata)
        except grpc.RpcError as error:
            raise _unreachable(target, error, listener=listener) from error


def live_answer(target: str, method: str, **fields: Any) -> Facts:
    """Asks a live server about its present state.

    Args:
        target: `host:port` of the settlement listener, for GetAvailability of the data listener.
        method: ExplainReservation, GetReservation or GetAvailability.
        fields: The request's fields.

    Returns:
        The response as JSON with the contract's names.

    Raises:
        TargetError: No answer, or not from a ledger.
    """
    request = _QUESTIONS[method][1](**fields)
    listener = "data" if method == "GetAvailability" else "settlement"
    return _message_facts(_asked_live(target, method, request, listener=listener))


def live_advice(
    target: str, margin_seconds: float | None = None
) -> admission_service_pb2.GetAdviceResponse:
    """Asks a live server which limits to set.

    Args:
        target: `host:port` of the settlement listener.
        margin_seconds: Left over at the end of a reservation's life; None leaves it to the server.

    Raises:
        TargetError: No answer, or not from a ledger.
    """
    request = admission_service_pb2.GetAdviceRequest()
    if margin_seconds is not None:
        request.margin.FromMilliseconds(round(margin_seconds * 1000))
    answer: admission_service_pb2.GetAdviceResponse = _asked_live(
        target, "GetAdvice", request, listener="settlement"
    )
    return answer


def directory_answer(
    directory: Path, method: str, *, as_of: int | None = None, **fields: Any
) -> Facts:
    """Answers a question from a directory, as its ledger would have at a sequence.

    Args:
        directory: A data directory; nothing is written.
        method: ExplainReservation, GetReservation or GetAvailability.
        as_of: The state as of the last command that ends at or before this sequence; None for the
            end of the journal.
        fields: The request's fields.

    Returns:
        The response as JSON with the contract's names.

    Raises:
        TargetError: The directory is none of ours, its journal is damaged, or the state asked for
            is not kept any more.
    """
    service, request_type, response_type = _QUESTIONS[method]
    request = request_type(**fields).SerializeToString()
    view = _view(directory, as_of)
    code, body = view.ask(path(service, method), request)
    if code:
        raise TargetError(f"{directory}: {status_pb2.Status.FromString(body).message}")
    return _message_facts(response_type.FromString(body))


def _message_facts(message: Message) -> Facts:
    facts: Facts = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return facts


def live_audit(target: str) -> Facts:
    """Asks a server's settlement listener for an audit; the server goes on meanwhile.

    Args:
        target: `host:port`.

    Returns:
        `holds`, `sequence`, `epoch`, `findings`, `pools`, `reservations` by state, `oldest` and
        `late_held_count`.

    Raises:
        TargetError: No answer, or not from a ledger.
    """
    audit = _asked_live(
        target, "Audit", stock_admin_service_pb2.AuditRequest(), listener="settlement"
    )
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
            sorted((_state_name(row.state), row.count) for row in audit.reservation_counts)
        ),
        "oldest": [_oldest_facts(row) for row in audit.oldest],
        "late_held_count": audit.late_held_count,
    }


def _state_name(state: "reservation_pb2.State.ValueType") -> str:
    return reservation_pb2.State.Name(state).removeprefix("STATE_")


def _pool_facts(pool: stock_admin_service_pb2.AuditPool) -> Facts:
    counters = {
        field.name: getattr(pool.counters, field.name) for field in pool.counters.DESCRIPTOR.fields
    }
    return {
        "sale_id": pool.sale_id,
        "sku": pool.sku,
        "pool": pool.pool,
        **counters,
        "leaked_units": pool.leaked_units,
        "forgotten_sold_units": pool.forgotten_sold_units,
    }


def _oldest_facts(row: stock_admin_service_pb2.AuditOldest) -> Facts:
    return {
        "state": _state_name(row.state),
        "reservation_id": row.reservation_id,
        "create_time": row.create_time.ToJsonString(),
        "due_time": row.due_time.ToJsonString() if row.HasField("due_time") else None,
    }


def directory_audit(directory: Path, *, as_of: int | None = None) -> Facts:
    """Recovers a directory's journal without writing and checks every invariant.

    Args:
        directory: A data directory; nothing is written.
        as_of: As in `directory_answer`.

    Returns:
        The same facts as `live_audit`, with `time`, `notes` and `unfinished_tail` beside them.

    Raises:
        TargetError: As `directory_answer`.
    """
    facts: Facts = json.loads(_view(directory, as_of).audit_json())
    # As a live server says it: states without a reservation are left out.
    counted = {state: count for state, count in facts["reservations"].items() if count}
    facts["reservations"] = dict(sorted(counted.items()))
    for row in facts["oldest"]:
        row["create_time"] = _instant(row.pop("create_time_ms"))
        row["due_time"] = _instant(row.pop("due_time_ms"))
    return facts


def _instant(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    instant = datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _view(directory: Path, as_of: int | None) -> Any:
    from lastunit_server._native import DirectoryView, NodeOpenError

    _require_directory(directory)
    try:
        return DirectoryView(str(directory), as_of)
    except (NodeOpenError, OSError) as error:
        raise TargetError(f"{directory}: {error.args[0]}") from error


def verify(directory: Path) -> Facts:
    """Checks every record, every event and every snapshot of a directory.

    Args:
        directory: A data directory; nothing is written.

    Returns:
        The facts that `_native.verify_directory` draws.

    Raises:
        TargetError: A file can't be read.
    """
    from lastunit_server._native import verify_directory

    _require_directory(directory)
    try:
        facts: Facts = json.loads(verify_directory(str(directory)))
    except OSError as error:
        raise TargetError(f"{directory}: {error.args[0]}") from error
    return facts


def repair(directory: Path, target: Path) -> Facts:
    """Writes what can be saved of a directory to another one, and checks the copy.

    Args:
        directory: A data directory; nothing is written to it.
        target: A directory that is empty or not there.

    Returns:
        `source` and `copy`, each with the facts of `verify`, and `policies`: how many revisions of
        the admission policy were copied (`copied_count`) and which could not be (`left_out`).

    Raises:
        TargetError: Nothing can be saved, the target holds files, or a file can't be written.
    """
    from lastunit_server._native import repair_directory

    _require_directory(directory)
    try:
        facts: Facts = json.loads(repair_directory(str(directory), str(target)))
    except OSError as error:
        raise TargetError(f"{directory} to {target}: {error.args[0]}") from error
    return facts


def live_events(
    target: str, *, after_sequence: int, is_following: bool, reader_id: str = ""
) -> Iterator[Facts]:
    """Reads events from a server's data listener.

    Args:
        target: `host:port`.
        after_sequence: Position after which to start, 0 or more.
        is_following: Whether to go on with events to come.
        reader_id: Whose place the server is to keep; empty for nobody's.

    Yields:
        One JSON object an event.

    Raises:
        TargetError: No answer, or the position lies beyond the journal's end.
        EventsRemovedTargetError: The events asked for were removed.
    """
    request = journal_service_pb2.ReadEventsRequest(
        after_sequence=after_sequence,
        follow=is_following,
        page_size=_PAGE,
        reader_id=reader_id,
    )
    channel, metadata = _connection(target)
    with channel:
        call = channel.unary_stream(
            path(JOURNAL, "ReadEvents"),
            request_serializer=journal_service_pb2.ReadEventsRequest.SerializeToString,
            response_deserializer=journal_service_pb2.ReadEventsResponse.FromString,
        )
        try:
            for page in call(request, metadata=metadata):
                yield from map(_event_facts, page.events)
        except grpc.RpcError as error:
            raise _unreachable(target, error, listener="data") from error


def directory_events(
    directory: Path, *, after_sequence: int, is_following: bool = False
) -> Iterator[Facts]:
    """Reads events of a directory; nothing is written.

    Args:
        directory: The data directory; a server may have it open.
        after_sequence: Position after which to start, 0 or more.
        is_following: Whether to go on with events to come. Then an event is shown once it is known
            durable, which a quiet server makes known within a quarter of a second.

    Yields:
        One JSON object an event.

    Raises:
        TargetError: The journal is damaged, or the position lies beyond its end.
        EventsRemovedTargetError: The events asked for were removed.
    """
    from lastunit_server._native import DirectoryEvents, EventsRemovedError, NodeOpenError

    _require_directory(directory)
    after = after_sequence
    try:
        events = DirectoryEvents(str(directory), is_following)
        while True:
            body, last = events.read(after, _PAGE)
            page = journal_service_pb2.ReadEventsResponse.FromString(body)
            yield from map(_event_facts, page.events)
            if last <= after:
                if not is_following:
                    return
                while not events.refresh():
                    time.sleep(_LOOK_SECONDS)
            after = last
    except EventsRemovedError as error:
        raise EventsRemovedTargetError(f"{directory}: {error.args[0]}", error.args[2]) from error
    except (NodeOpenError, OSError, ValueError) as error:
        raise TargetError(f"{directory}: {error.args[0]}") from error


def _event_facts(event: "event_pb2.Event") -> Facts:
    facts = _message_facts(event)
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
    if isinstance(error, grpc.Call) and (first := _first_sequence(error)) is not None:
        return EventsRemovedTargetError(f"{target}: {details}", first)
    name = code.name if code else "UNKNOWN"
    return TargetError(
        f"{target}: {name}: {details}; check that a lastunit server's {listener} listener is there"
    )


def _first_sequence(call: grpc.Call) -> int | None:
    """Returns where a journal starts whose events were asked for too late."""
    for key, value in call.trailing_metadata() or ():
        if key != _STATUS_DETAILS:
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.reason == _REMOVED:
                return int(info.metadata["first_sequence"])
    return None
