"""Log lines are JSON, with the fields that were given."""

from __future__ import annotations

import json
import logging
import sys

from lastunit.service.log import JsonFormatter


def line_of(**changes: object) -> dict[str, object]:
    """Returns the line of one record."""
    record = logging.makeLogRecord(
        {"msg": "order %s", "args": ("o-1",), "levelname": "INFO", "name": "lastunit", **changes}
    )
    line: dict[str, object] = json.loads(JsonFormatter("order").format(record))
    return line


def test_a_line_names_its_service_and_carries_its_fields() -> None:
    """Fields of `extra` stand beside event, level and time."""
    line = line_of(order_id="o-1", created=1.5)

    assert line["event"] == "order o-1"
    assert (line["service"], line["level"], line["time_ms"]) == ("order", "info", 1500)
    assert line["order_id"] == "o-1"


def test_what_json_does_not_know_is_written_as_text() -> None:
    """A field of any type never breaks the log."""
    assert line_of(thing=object)["thing"] == "<class 'object'>"


def test_an_exception_is_one_field_of_one_line() -> None:
    """A traceback does not spread over lines."""
    try:
        json.loads("broken")
    except ValueError:
        line = line_of(exc_info=sys.exc_info())

    assert "JSONDecodeError: Expecting value" in str(line["exception"])
