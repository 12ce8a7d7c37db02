"""The command ``lastunit``: one word per service or tool.

Owns the root of the command line. Must not do the work of any sub-command, and imports each one
only when it is asked for, so that a missing extra concerns only who needs it.
Next: ``lastunit/<part>/cli.py``.
"""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from typing import Final, NamedTuple, NoReturn

__all__ = ["main"]


class _Part(NamedTuple):
    module: str
    extra: str
    summary: str


_PARTS: Final[dict[str, _Part]] = {
    "account": _Part("lastunit.account.cli", "account", "The account service."),
    "admission": _Part("lastunit.admission.cli", "service", "How work is let into a ledger."),
    "order": _Part("lastunit.order.cli", "order", "The order service."),
    "payment": _Part(
        "lastunit.payment.cli", "payment", "The payment service, its webhook and its sandbox."
    ),
    "replay": _Part(
        "lastunit.replay.cli", "tools", "Replays the incident in old designs and ours."
    ),
    "run": _Part("lastunit.run.cli", "tools", "Runs a whole sale with real services here."),
}

_USAGE_EXIT: Final = 2


def _help() -> str:
    width = max(map(len, _PARTS))
    lines = [f"  {name:<{width}}  {part.summary}" for name, part in _PARTS.items()]
    return "\n".join(
        [
            "Usage: lastunit [--version] [--help] COMMAND ...",
            "",
            "Client library and services around the lastunit stock ledger.",
            "",
            "Commands:",
            *lines,
            "",
            "'lastunit COMMAND --help' tells more. The ledger itself is 'lastunit-server'.",
        ]
    )


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"lastunit: {message}\n")
    raise SystemExit(_USAGE_EXIT)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; ends by raising ``SystemExit``.

    Args:
        arguments: Words after the program's name; ``None`` takes them from the process.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("--help", "-h", "help"):
        sys.stdout.write(_help() + "\n")
        raise SystemExit(0)
    if words[0] == "--version":
        sys.stdout.write(f"lastunit {metadata.version('lastunit')}\n")
        raise SystemExit(0)
    part = _PARTS.get(words[0])
    if part is None:
        _fail(f"unknown command {words[0]!r}; known are {', '.join(_PARTS)}")
    try:
        app = importlib.import_module(part.module).app
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("lastunit"):
            raise
        _fail(
            f"'{words[0]}' needs the module {error.name}; "
            f"install it with: pip install 'lastunit[{part.extra}]'"
        )
    app(args=words[1:], prog_name=f"lastunit {words[0]}")


if __name__ == "__main__":
    main()
