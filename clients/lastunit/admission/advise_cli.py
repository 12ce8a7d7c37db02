"""`lastunit admission advise`: which numbers to set, from what a live ledger has measured.

Owns arguments and what is printed. Must not reckon: the server does.
Exit status: 0 something is advised, 1 the server was not reached, 2 a wrong argument, 3 the server
refused, 4 too little is known for any number.
"""

from __future__ import annotations

from typing import Annotated, Final

import typer
from google.protobuf.json_format import MessageToJson

from lastunit.admission import way
from lastunit.admission.advice_text import advice_lines
from lastunit.admission.v1 import admission_service_pb2 as messages
from lastunit.admission.way import TARGET_DEFAULT, JsonOption, TargetOption

__all__ = ["advise"]

_ENDS: Final = way.Ends(unreached=1, refused=3)
_TOO_LITTLE_EXIT: Final = 4


def advise(
    *,
    target: TargetOption = TARGET_DEFAULT,
    margin_seconds: Annotated[
        float | None,
        typer.Option(
            "--margin",
            min=0,
            max=86_400,
            help="Seconds left over at the end of a reservation's life.",
            show_default="gate.margin_seconds, or a tenth of the life",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which limits to set, from live measurement, with the arithmetic. Changes nothing.

    Exit status 4: too little was measured for any number; each says what has to happen first.
    """
    request = messages.GetAdviceRequest()
    if margin_seconds is not None:
        request.margin.FromMilliseconds(round(margin_seconds * 1_000))
    answer = way.call(target, "GetAdvice", request, messages.GetAdviceResponse, _ENDS)
    if as_json:
        typer.echo(MessageToJson(answer, preserving_proto_field_name=True))
    else:
        for line in advice_lines(answer):
            typer.echo(line)
    if not answer.advices:
        raise typer.Exit(_TOO_LITTLE_EXIT)
