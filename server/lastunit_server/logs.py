"""JSON lines on stderr: one object a line, for machines first.

Owns the form of a log line; must not decide what is logged. Standard output is left to the ready
line, so that a parent process can wait for it.
"""

import json
import logging
import secrets
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["configure", "error_id", "event", "logger"]

logger = logging.getLogger("lastunit_server")

# 48 random bits: enough to find one line in a day's log, short enough to read out on the phone.
_ERROR_ID_BYTES = 6


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, tz=UTC)
        line: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(level: str) -> None:
    """Sends every log record of this process to stderr as JSON lines.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


def event(name: str, *, level: int = logging.INFO, exception: bool = False, **fields: Any) -> None:
    """Logs one thing that happened.

    Args:
        name: A stable machine name, snake case.
        level: A level of `logging`.
        exception: Whether to add the exception that is being handled.
        **fields: Facts, by name.
    """
    logger.log(level, name, extra={"fields": fields}, exc_info=exception)


def error_id() -> str:
    """Returns a fresh id that joins a caller's reply to a log line; 12 characters."""
    return secrets.token_hex(_ERROR_ID_BYTES)
