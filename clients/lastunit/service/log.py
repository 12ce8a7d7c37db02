"""Logs as JSON lines on standard error.

Owns the format. Must not decide what is said, and must not write to standard output, which
belongs to the ready line. Next: `lastunit.service.server`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Final

__all__ = ["JsonFormatter", "configure_logging"]

# What `logging` itself puts on a record; everything else came in by `extra=` and is a field.
_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class JsonFormatter(logging.Formatter):
    """Writes one record as one JSON object.

    Fields of `extra=` appear as they are. An exception appears under `exception`.

    Args:
        service: Name that each line carries.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line without its line feed."""
        line: dict[str, object] = {
            "time_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields = vars(record).items()
        line.update({name: value for name, value in fields if name not in _STANDARD_FIELDS})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(service: str, *, level: str = "INFO") -> None:
    """Sends every log record of this process to standard error as a JSON line.

    Args:
        service: Name that each line carries, such as `account`.
        level: Lowest level that is written: DEBUG, INFO, WARNING or ERROR.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
