"""The commands with which a human looks after money: incidents, refunds, callbacks, bills.

Owns flags, what is printed and the exit status: 0 done, 1 refused, 2 a wrong argument, 6 the
service can't be reached. Must not decide anything: the payment service does.
Next: `lastunit.payment.desk`, `lastunit.payment.bill_cli`.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import secrets
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from google.protobuf.json_format import MessageToDict

from lastunit.client.peer import PeerClient
from lastunit.client.security import ClientSecurity
from lastunit.errors import LastunitError
from lastunit.payment.v1 import payment_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

__all__ = [
    "ActorOption",
    "AddressOption",
    "JsonOption",
    "RequestOption",
    "actor_or_login",
    "ask",
    "fail",
    "incidents",
    "plain",
    "refund",
    "reprocess",
    "request_or_new",
    "resolve",
]

MessageT = TypeVar("MessageT", bound="Message")

_UNREACHED: Final = 6
_REFUSED: Final = 1
_PAGE_SIZE: Final = 500
_ACTOR_CHARACTERS: Final = re.compile(r"[^A-Za-z0-9._:-]", re.ASCII)

AddressOption = Annotated[
    str,
    typer.Option(
        "--payment-address", help="The payment service.", envvar="LASTUNIT_PAYMENT_ADDRESS"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
ActorOption = Annotated[
    str, typer.Option(help="Who decides, for the record; your login name if left out.")
]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record; 1 to 256 bytes.")]
RequestOption = Annotated[
    str,
    typer.Option(
        "--request-id", help="Repeats an earlier call with this id instead of making a new one."
    ),
]


def ask(
    address: str,
    method: str,
    request: Message,
    response_type: type[MessageT],
    *,
    deadline_seconds: float = 10.0,
) -> MessageT:
    """Calls the payment service once, or ends the command with a sentence."""
    try:
        answer: MessageT = asyncio.run(
            _call(address, method, request, response_type, deadline_seconds)
        )
    except LastunitError as error:
        fail(f"the payment service at {address} did not do it: {error}", status=_UNREACHED)
    return answer


def fail(sentence: str, *, status: int = _REFUSED) -> Any:
    """Prints why and ends the command."""
    typer.echo(sentence, err=True)
    raise typer.Exit(status)


def actor_or_login(actor: str) -> str:
    """Returns who decides, as the contract takes it."""
    return _ACTOR_CHARACTERS.sub("-", actor or getpass.getuser())[:64]


def request_or_new(request_id: str, kind: str) -> str:
    """Returns the id of the request; a new one unless it is a repeat."""
    return request_id or f"{kind}-{secrets.token_hex(8)}"


def incidents(
    *,
    address: AddressOption,
    is_all: Annotated[bool, typer.Option("--all", help="Resolved ones as well.")] = False,
    kind: Annotated[str, typer.Option(help="One kind, such as AMOUNT_DIFFERS.")] = "",
    attempt: Annotated[str, typer.Option(help="Those of one attempt.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Lists what a human has to look at: money that is not as the books say."""
    request = pb.ListIncidentsRequest(
        attempt_id=attempt, page_size=_PAGE_SIZE, kind=_choice(pb.IncidentKind, kind)
    )
    if not is_all:
        request.state = pb.INCIDENT_STATE_OPEN
    count = 0
    for each in _incident_pages(address, request):
        count += 1
        typer.echo(json.dumps(plain(each)) if as_json else _line(each))
    if not count and not as_json:
        typer.echo("nothing is open" if not is_all else "there never was one")


def resolve(
    incident: Annotated[str, typer.Argument(help="The incident's id.", metavar="INCIDENT")],
    resolution: Annotated[
        str, typer.Argument(help="note, refund or refunded-elsewhere.", metavar="RESOLUTION")
    ],
    *,
    address: AddressOption,
    reason: ReasonOption,
    actor: ActorOption = "",
    request_id: RequestOption = "",
    as_json: JsonOption = False,
) -> None:
    """Carries out a decision about an incident, under a name and with a reason."""
    request = pb.ResolveIncidentRequest(
        request_id=request_or_new(request_id, "resolve"),
        incident_id=incident,
        resolution=_choice(pb.IncidentResolution, resolution.replace("-", "_").upper()),
        actor=actor_or_login(actor),
        reason=reason,
    )
    answer = ask(address, "ResolveIncident", request, pb.ResolveIncidentResponse)
    if answer.refusal:
        allowed = ", ".join(map(_resolution_word, answer.incident.allowed))
        may = f"; it may be: {allowed}" if answer.refusal == pb.REFUSAL_NOT_ALLOWED else ""
        fail(f"{request.request_id} is refused: {_refusal(answer.refusal)}{may}")
    typer.echo(json.dumps(plain(answer.incident)) if as_json else _line(answer.incident))


def refund(
    attempt: Annotated[str, typer.Argument(help="The attempt's id.", metavar="ATTEMPT")],
    *,
    address: AddressOption,
    reason: ReasonOption,
    amount: Annotated[int, typer.Option(min=0, help="Minor units; 0 for all that is left.")] = 0,
    actor: ActorOption = "",
    request_id: RequestOption = "",
    as_json: JsonOption = False,
) -> None:
    """Sends money of an attempt back; units are not touched, the order service's Refund does."""
    request = pb.RefundAttemptRequest(
        request_id=request_or_new(request_id, "refund"),
        attempt_id=attempt,
        amount_minor=amount,
        reason=reason,
        actor=actor_or_login(actor),
    )
    answer = ask(address, "RefundAttempt", request, pb.RefundAttemptResponse)
    if answer.refusal:
        fail(f"{request.request_id} is refused: {_refusal(answer.refusal)}")
    shown = answer.refund
    state = pb.RefundState.Name(shown.state).removeprefix("REFUND_STATE_")
    text = f"{shown.refund_id}  {shown.amount_minor} {shown.currency}  {state}"
    typer.echo(json.dumps(plain(shown)) if as_json else f"{text}  ({request.request_id})")


def reprocess(
    event: Annotated[str, typer.Argument(help="The event's id at the provider.", metavar="EVENT")],
    *,
    address: AddressOption,
    provider: Annotated[str, typer.Option(help="Whose event.")],
    as_json: JsonOption = False,
) -> None:
    """Acts once more on a stored callback; what it tells has its effect at most once."""
    request = pb.ReprocessCallbackRequest(provider=provider, event_id=event)
    answer = ask(address, "ReprocessCallback", request, pb.ReprocessCallbackResponse)
    if answer.refusal:
        fail(f"{event} of {provider} is refused: {_refusal(answer.refusal)}")
    state = pb.AttemptState.Name(answer.attempt.state).removeprefix("ATTEMPT_STATE_")
    is_ours = bool(answer.attempt.state)
    told = f"attempt {answer.attempt.attempt_id} is {state}" if is_ours else "no attempt of ours"
    text = f"{event}, received {answer.receive_time.ToJsonString()}: {told}"
    typer.echo(json.dumps(plain(answer)) if as_json else text)


async def _call(
    address: str,
    method: str,
    request: Message,
    response_type: type[MessageT],
    deadline_seconds: float,
) -> MessageT:
    security = ClientSecurity.from_environment()
    peer = PeerClient(address, deadline_seconds=deadline_seconds, security=security)
    try:
        path = f"/lastunit.payment.v1.PaymentService/{method}"
        answer: MessageT = await peer.call(path, request, response_type)
        return answer
    finally:
        await peer.close()


def _incident_pages(address: str, request: pb.ListIncidentsRequest) -> Iterator[pb.Incident]:
    while True:
        page = ask(address, "ListIncidents", request, pb.ListIncidentsResponse)
        yield from page.incidents
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _choice(enum: Any, word: str) -> Any:
    """Returns a member of an enum of the contract by the end of its name; 0 for an empty one."""
    if not word:
        return 0
    prefix = enum.keys()[0].removesuffix("UNSPECIFIED")
    known = [name.removeprefix(prefix) for name in enum.keys()[1:]]
    if word.upper() not in known:
        raise typer.BadParameter(f"{word!r} is none of {', '.join(known)}")
    return enum.Value(prefix + word.upper())


def plain(message: Message) -> dict[str, Any]:
    """Returns a message as JSON has it, with the contract's names."""
    fields: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return fields


def _refusal(refusal: pb.Refusal.ValueType) -> str:
    return pb.Refusal.Name(refusal).removeprefix("REFUSAL_")


def _resolution_word(resolution: pb.IncidentResolution.ValueType) -> str:
    name = pb.IncidentResolution.Name(resolution).removeprefix("INCIDENT_RESOLUTION_")
    return name.lower().replace("_", "-")


def _line(incident: pb.Incident) -> str:
    """Returns an incident in a line or two."""
    kind = pb.IncidentKind.Name(incident.kind).removeprefix("INCIDENT_KIND_")
    state = pb.IncidentState.Name(incident.state).removeprefix("INCIDENT_STATE_")
    books = f"{incident.expected_amount_minor} {incident.expected_currency}".strip()
    told = f"{incident.found_amount_minor} {incident.found_currency}".strip()
    line = (
        f"{incident.incident_id}  {state} {incident.severity}  {kind}  {incident.provider}"
        f"  attempt {incident.attempt_id or '-'}  order {incident.order_id or '-'}"
        f"\n    {incident.what}; books {books}, told {told}; seen {incident.seen_count} times,"
        f" last {incident.last_seen_time.ToJsonString()} by {incident.last_source}"
    )
    if incident.resolution:
        line += (
            f"\n    {_resolution_word(incident.resolution)} by {incident.actor},"
            f" {incident.resolve_time.ToJsonString()}: {incident.reason}"
        )
    elif incident.allowed:
        line += f"\n    may be: {', '.join(map(_resolution_word, incident.allowed))}"
    return line
