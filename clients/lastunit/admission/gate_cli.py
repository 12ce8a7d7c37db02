"""The commands `lastunit admission gate`: show the gates, lay a hand on one, take it away.

Owns flags, what is printed and the exit status. Must not decide anything: the ledger does.
Exit status: 0 done, 1 refused, 2 a wrong argument, 6 the ledger can't be reached.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from lastunit.admission import way
from lastunit.admission.v1 import gate_pb2 as messages
from lastunit.admission.way import TARGET_DEFAULT, ActorOption, ReasonOption, TargetOption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["app"]

app = typer.Typer(help="What front ends are told: open, queueing or closed.", no_args_is_help=True)

_PAGE_SIZE: Final = 1000
_ENDS: Final = way.Ends(unreached=6, refused=1, prefix="")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a gate.")]
SaleArgument = Annotated[str, typer.Argument(help="The sale.", metavar="SALE")]
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


@app.command()
def show(
    sale: Annotated[str, typer.Argument(help="One sale; all if left out.")] = "",
    *,
    target: TargetOption = TARGET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the gate of a sale, or of all."""
    if sale:
        asked = messages.GetGateRequest(sale_id=sale)
        gates = [way.call(target, "GetGate", asked, messages.GetGateResponse, _ENDS).gate]
    else:
        every = messages.ListGatesRequest(page_size=_PAGE_SIZE)
        pages = way.call_pages(target, "ListGates", every, messages.ListGatesResponse, _ENDS)
        gates = [gate for page in pages for gate in page.gates]
    _print(gates, as_json=as_json)


def _command(hand: messages.GateHand.ValueType, what: str) -> Callable[..., None]:
    """Makes the command that lays a hand on a gate."""

    def lay(
        sale: SaleArgument,
        *,
        reason: ReasonOption,
        actor: ActorOption = "",
        hold: ForOption = "",
        expected_revision: RevisionOption = None,
        target: TargetOption = TARGET_DEFAULT,
        as_json: JsonOption = False,
    ) -> None:
        request = messages.SetGateRequest(
            sale_id=sale,
            hand=hand,
            actor=way.actor_or_login(actor),
            reason=reason,
            hold=_span(hold) if hold else None,
            expected_revision=expected_revision,
        )
        gate = way.call(target, "SetGate", request, messages.SetGateResponse, _ENDS).gate
        _print([gate], as_json=as_json)

    lay.__doc__ = what
    return lay


app.command("open")(_command(messages.GATE_HAND_OPEN, "Open the gate, whatever is measured."))
app.command("queue")(
    _command(messages.GATE_HAND_QUEUEING, "Have buyers wait outside, whatever is measured.")
)
app.command("close")(
    _command(
        messages.GATE_HAND_CLOSED,
        "Let nobody new in. Who is inside goes on; `lastunit admission gate auto` takes it back.",
    )
)


@app.command()
def auto(
    sale: SaleArgument,
    *,
    reason: ReasonOption,
    actor: ActorOption = "",
    expected_revision: RevisionOption = None,
    target: TargetOption = TARGET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Leave the gate to the measurements again."""
    _command(messages.GATE_HAND_AUTOMATIC, "")(
        sale,
        reason=reason,
        actor=actor,
        expected_revision=expected_revision,
        target=target,
        as_json=as_json,
    )


def _span(text: str) -> Duration:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"--for {text!r} is not a span; write it like 90s, 10m, 2h or 1d")
    return Duration(seconds=int(found[1]) * _UNIT_SECONDS[found[2]])


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
