"""What a callback's body says, before anybody acts on it."""

from __future__ import annotations

import json

import pytest

from lastunit.payment.callback import MalformedCallbackError, parse_callback

BODY = {
    "event_id": "event-1",
    "type": "payment.failed",
    "merchant_no": "order-1:1",
    "provider_no": "p-1",
    "amount_minor": 84_000,
    "currency": "CNY",
    "occurred_at": 1_000,
    "state_version": 2,
}


def body(**fields: object) -> bytes:
    """Returns a callback's body."""
    return json.dumps(BODY | fields).encode()


def test_words_that_no_database_takes_do_not_stop_the_news() -> None:
    """NUL and half a character, which JSON can say and PostgreSQL can't keep, become marks."""
    found = parse_callback(body(failure_code="card\x00 \ud800 declined"))

    assert found.failure_code == "card? ? declined"
    assert found.failure_code.encode()


@pytest.mark.parametrize("name", ["event_id", "merchant_no", "provider_no", "currency"])
def test_an_id_with_such_a_character_is_no_callback(name: str) -> None:
    """An id that cannot be kept as it is names nothing."""
    with pytest.raises(MalformedCallbackError, match=name):
        parse_callback(body(**{name: "a\x00b"}))
