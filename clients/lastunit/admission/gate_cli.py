"""The commands `lastunit admission gate`: show the gates, lay a hand on one, take it away.

Owns flags, what is printed and the exit status. Must not decide anything: the ledger does.
Exit status: 0 done, 1 refused, 2 a wrong argument, 6 the ledger can't be reached.
"""

from __future__ import annotations

import getpass
import json
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import grpc
import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from lastunit.admission.v1 import gate_pb2 as messages
from lastunit.admission.v1.admission_service_pb2_grpc import AdmissionServiceStub
from lastunit.client.security import ClientSecurity

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["app"]

app = typer.Typer(help="What front ends are told: open, queueing or closed.", no_args_is_help=True)

_SECONDS_MAX: Final = 10.0
_PAGE_SIZE: Final = 1000
_REFUSED: Final = 1
_UNREACHABLE: Final = 6
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Codes that say something of the way to the ledger, not of what was asked.
_WAY_CODES: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)

TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        help="The ledger's settlement listener, host:port.",
        envvar="LASTUNIT_SETTLEMENT_ADDRESS",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a gate.")]
SaleArgument = Annotated[str, typer.Argument(help="The sale.", metavar="SALE")]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, for whoever comes after you; up to 256 bytes.")
]
ActorOption = Annotated[
    str, typer.Option("--actor", help="Who wants it.", show_default="the account you work under")
]
ForOption = Annotated[
    str,
    typer.Option(
        "--for", help="Until it falls away by itself, such as 90s, 10m or 2h.", metavar="SPAN"
    ),
]
RevisionOption = Annotated[
    int | None,
    typer.Option("--expected-revision", min=0, help="Refuse if somebody was quicker."),
]
_TARGET: Final = "127.0.0.1:7401"


@app.command()
def show(
    sale: Annotated[str, typer.Argument(help="One sale; all if left out.")] = "",
    *,
    target: TargetOption = _TARGET,
    as_json: JsonOption = False,
) -> None:
    """Show the gate of a sale, or of all."""
    with _service(target) as (stub, metadata):
        if sale:
            request = messages.GetGateRequest(sale_id=sale)
            gates = [stub.GetGate(request, metadata=metadata, timeout=_SECONDS_MAX).gate]
        else:
            gates = list(_all(stub, metadata))
    _print(gates, as_json=as_json)


@app.command("open")
def open_(
    sale: SaleArgument,
    *,
    reason: ReasonOption,
    actor: ActorOption = "",
    hold: ForOption = "",
    expected_revision: RevisionOption = None,
    target: TargetOption = _TARGET,
    as_json: JsonOption = False,
) -> None:
    """Open the gate, whatever is measured."""
    order = _request(
        sale,
        messages.GATE_HAND_OPEN,
        reason=reason,
        actor=actor,
        hold=hold,
        expected_revision=expected_revision,
    )
    _set(order, target, as_json=as_json)


@app.command()
def queue(
    sale: SaleArgument,
    *,
    reason: ReasonOption,
    actor: ActorOption = "",
    hold: ForOption = "",
    expected_revision: RevisionOption = None,
    target: TargetOption = _TARGET,
    as_json: JsonOption = False,
) -> None:
    """Have buyers wait outside, whatever is measured."""
    order = _request(
        sale,
        messages.GATE_HAND_QUEUEING,
        reason=reason,
        actor=actor,
        hold=hold,
        expected_revision=expected_revision,
    )
    _set(order, target, as_json=as_json)


@app.command()
def close(
    sale: SaleArgument,
    *,
    reason: ReasonOption,
    actor: ActorOption = "",
    hold: ForOption = "",
    expected_revision: RevisionOption = None,
    target: TargetOption = _TARGET,
    as_json: JsonOption = False,
) -> None:
    """Let nobody new in. Who is inside goes on; `lastunit admission gate auto` takes it back."""
    order = _request(
        sale,
        messages.GATE_HAND_CLOSED,
        reason=reason,
        actor=actor,
        hold=hold,
        expected_revision=expected_revision,
    )
    _set(order, target, as_json=as_json)


@app.command()
def auto(
    sale: SaleArgument,
    *,
    reason: ReasonOption,
    actor: ActorOption = "",
    expected_revision: RevisionOption = None,
    target: TargetOption = _TARGET,
    as_json: JsonOption = False,
) -> None:
    """Leave the gate to the measurements again."""
    order = _request(
        sale,
        messages.GATE_HAND_AUTOMATIC,
        reason=reason,
        actor=actor,
        hold="",
        expected_revision=expected_revision,
    )
    _set(order, target, as_json=as_json)


def _request(
    sale: str,
    hand: messages.GateHand.ValueType,
    *,
    reason: str,
    actor: str,
    hold: str,
    expected_revision: int | None,
) -> messages.SetGateRequest:
    return messages.SetGateRequest(
        sale_id=sale,
        hand=hand,
        actor=actor or re.sub(r"[^A-Za-z0-9._:-]", "_", getpass.getuser())[:64],
        reason=reason,
        hold=_span(hold) if hold else None,
        expected_revision=expected_revision,
    )


def _span(text: str) -> Duration:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"--for {text!r} is not a span; write it like 90s, 10m, 2h or 1d")
    return Duration(seconds=int(found[1]) * _UNIT_SECONDS[found[2]])


def _set(request: messages.SetGateRequest, target: str, *, as_json: bool) -> None:
    with _service(target) as (stub, metadata):
        gate = stub.SetGate(request, metadata=metadata, timeout=_SECONDS_MAX).gate
    _print([gate], as_json=as_json)


def _all(stub: Any, metadata: tuple[tuple[str, str], ...]) -> Iterator[messages.Gate]:
    token = ""
    while True:
        request = messages.ListGatesRequest(page_size=_PAGE_SIZE, page_token=token)
        page = stub.ListGates(request, metadata=metadata, timeout=_SECONDS_MAX)
        yield from page.gates
        token = page.next_page_token
        if not token:
            return


@contextmanager
def _service(target: str) -> Iterator[tuple[Any, tuple[tuple[str, str], ...]]]:
    """Opens the way to the ledger; what it refuses ends the command with its own words."""
    try:
        security = ClientSecurity.from_environment()
        security.check_address(target)
        credentials, metadata = security.credentials(), security.metadata()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    options = [("grpc.ssl_target_name_override", security.server_name)]
    channel = (
        grpc.insecure_channel(target)
        if credentials is None
        else grpc.secure_channel(
            target, credentials, options=options if security.server_name else None
        )
    )
    with channel:
        try:
            yield AdmissionServiceStub(channel), metadata
        except grpc.RpcError as error:
            _fail(target, error)


def _fail(target: str, error: Any) -> None:
    if error.code() in _WAY_CODES:
        typer.echo(f"{target}: {error.details()}", err=True)
        raise typer.Exit(_UNREACHABLE) from error
    typer.echo(f"{error.code().name}: {error.details()}", err=True)
    raise typer.Exit(_REFUSED) from error


def _print(gates: list[messages.Gate], *, as_json: bool) -> None:
    if as_json:
        for gate in gates:
            facts = MessageToDict(gate, preserving_proto_field_name=True)
            typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    if not gates:
        typer.echo("no sale has a gate yet; define one with PutSale")
        return
    for gate in gates:
        for line in _lines(gate):
            typer.echo(line)


def _lines(gate: messages.Gate) -> Iterator[str]:
    state = messages.GateState.Name(gate.state).removeprefix("GATE_STATE_")
    cause = messages.GateCause.Name(gate.cause).removeprefix("GATE_CAUSE_").lower()
    facts = [f"{gate.sale_id}: {state} ({cause.replace('_', ' ')})"]
    if gate.is_sold_out:
        facts.append("sold out")
    if gate.HasField("come_back_after"):
        facts.append(f"come back in {gate.come_back_after.ToMilliseconds() / 1000:.1f} s")
    waiting = f"{gate.queue_count} waiting to be paid"
    if gate.queue_count_max:
        waiting = f"{gate.queue_count} of {gate.queue_count_max} waiting to be paid"
    facts.append(waiting)
    facts.append(f"pressure {gate.pressure:.0%}")
    yield ", ".join(facts)
    if gate.HasField("order"):
        order = gate.order
        until = ""
        if order.HasField("until_time"):
            until = f", until {order.until_time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC"
        yield f"  order {gate.revision} by {order.actor}{until}: {order.reason}"
