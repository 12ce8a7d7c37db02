"""The command `lastunit-server advise`: which limits to set, from what a live server has measured.

Owns arguments and what is printed; must not reckon (the server does, see `advice`). The same as
`lastunit admission advise`, for whoever has the server's file of settings and no other tool.
"""

from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToJson

from lastunit.admission.advice_text import advice_lines
from lastunit_server.errors import ServerError
from lastunit_server.exit_codes import ExitCode
from lastunit_server.methods import Listener

__all__ = ["advise"]


def advise(
    *,
    target: Annotated[
        str | None,
        typer.Option(
            help="A live server's settlement listener, host:port.",
            show_default="settlement.address of the settings",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The server's file of settings.", metavar="FILE")
    ] = None,
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which limits to set, from live measurement, with the arithmetic. Changes nothing.

    Exit status 1: too little was measured for any number; each says what has to happen first.
    """
    from lastunit_server import inspection
    from lastunit_server.loading import load_settings

    try:
        address = target or load_settings(config, flags={}).address_of(Listener.SETTLEMENT)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(ExitCode.USAGE) from error
    try:
        answer = inspection.live_advice(address, margin_seconds)
    except ServerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(ExitCode.NOT_REACHED) from error
    if as_json:
        typer.echo(MessageToJson(answer, preserving_proto_field_name=True))
    else:
        for line in advice_lines(answer):
            typer.echo(line)
    raise typer.Exit(ExitCode.OK if answer.advices else ExitCode.CHECK_FAILED)
