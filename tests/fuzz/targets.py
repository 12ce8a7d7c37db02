"""What must hold for every input of Python's decoders: one function a target.

Owns the properties. Must not know where the bytes come from: `test_kept_inputs` runs them over the
kept inputs in the everyday tests, `drive` under a fuzzer. A property that does not hold is an
AssertionError; any other exception is a bug too.
Next: `fuzz/README.md`.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from lastunit.payment.callback import (
    AMOUNT_MINOR_MAX,
    MalformedCallbackError,
    parse_callback,
)
from lastunit.payment.signature import EVENT_ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from lastunit.payment.webhook import BODY_BYTES_MAX, TIME_WINDOW_SECONDS, Webhook
from lastunit.service.clock import SimulatedClock
from lastunit_server.errors import SettingsError
from lastunit_server.loading import load_policy, load_settings
from lastunit_server.native_settings import native_settings_json
from lastunit_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TARGETS"]

_KEY: Final = b"a key of sixteen bytes"
_NOW_SECONDS: Final = 1_700_000_000
_INVALID_ARGUMENT: Final = 3
_NANOS_MAX: Final = 999_999_999
# Where Rust refuses what Python passes over, and may: field number 0, which protobuf forbids;
# numbers of more bits than there are; a field of another type than declared, which no version of
# the contract has; a token of a page that no server gave, whose form only the server knows; a label
# with an unknown field inside, which Python's parser drops whole. A span or instant with more than
# a second of nanoseconds is one more: see `_has_odd_time`.
_STRICTER: Final = (
    "invalid tag value: 0",
    "invalid wire type",
    "invalid varint",
    "invalid key value",
    "field page_token must be",
    'field labels["',
)
_REASONS: Final = {
    200: {"ok"},
    400: {"malformed", "event_id_differs"},
    401: {"time", "signature"},
    413: {"too_large"},
}


class _Stored:
    """Takes the place of the inbox: notes that something would have been stored."""

    count = 0

    async def add(self, _row: object) -> bool:
        self.count += 1
        return True


def callback(data: bytes) -> None:
    """The webhook stores only what a key signed, for these bytes and near this time.

    Layout: flags, length of the timestamp, timestamp, length of the signature, signature, body.
    Flag 1 signs as the provider does; flag 2 then adds what the input has as signature.
    """
    flags, rest = _byte(data)
    timestamp, rest = _text(rest)
    given, body = _text(rest)
    signature = sign(_KEY, timestamp=timestamp, raw_body=body) if flags & 1 else given
    is_forged = not flags & 1 or bool(flags & 2 and given)
    if flags & 1 and flags & 2:
        signature += given
    headers = {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature}
    if flags & 4:
        headers[EVENT_ID_HEADER] = given
    stored = _Stored()
    runner: Any = None
    webhook = Webhook(runner, {"sandbox": [_KEY]}, SimulatedClock(_NOW_SECONDS * 1000))
    webhook._inbox = stored  # type: ignore[assignment] # no loop runs here, and no disk is wanted
    answer = _finished(webhook.receive("sandbox", headers, body))

    assert answer.reason in _REASONS[answer.status]
    assert (answer.status == 200) == (stored.count == 1), "200 only for what is stored"
    if answer.status == 200:
        assert not is_forged, "nobody without the key is believed"
        assert abs(int(timestamp) - _NOW_SECONDS) <= TIME_WINDOW_SECONDS
        assert len(body) <= BODY_BYTES_MAX
    stranger = _finished(webhook.receive("nobody", headers, body))
    assert stranger.status in {401, 413}, "a provider without a key signed nothing"


def callback_body(data: bytes) -> None:
    """A callback's body is refused in one way, or every field of it is in its range."""
    try:
        found = parse_callback(data)
    except MalformedCallbackError:
        return
    for name in ("event_id", "merchant_no", "provider_no"):
        assert 1 <= len(asdict(found)[name]) <= 64
        assert asdict(found)[name].isascii()
    assert 0 <= found.amount_minor <= AMOUNT_MINOR_MAX
    assert isinstance(found.amount_minor, int)
    assert not isinstance(found.amount_minor, bool)
    assert len(found.currency) == 3
    assert found.state_version >= 0
    assert parse_callback(data) == found


def policy_file(data: bytes) -> None:
    """A policy file is refused with problems that say something, or the node takes it too."""
    policy = _loaded(data, load_policy)
    if policy is not None:
        _node_takes(native_settings_json(Settings(journal={"durability": "memory"}), policy))


def settings_file(data: bytes) -> None:
    """A settings file is refused with problems that say something, or the node takes it too."""
    settings = _loaded(data, lambda path: load_settings(path, environment={}))
    if settings is None:
        return
    journal = settings.journal.model_copy(update={"durability": "memory"})
    settings = settings.model_copy(update={"journal": journal})
    _node_takes(native_settings_json(settings, load_policy(None)))


def request(data: bytes) -> None:
    """Rust's wire decoding and Python's agree on what is a request and what is a valid one.

    Layout as for the Rust target of this name: a byte for the method, then the message.
    """
    first, message = _byte(data)
    methods = _methods()
    path, message_class = methods[first % len(methods)]
    if message_class is None or not data:
        return
    try:
        parsed = message_class.FromString(message)
    except DecodeError:
        expected = "MALFORMED_REQUEST"
    else:
        violations = _validator().collect_violations(parsed)
        expected = "INVALID_FIELD" if violations else ""
    found, why = _verdict_of_node(path, message)
    if found and any(text in why for text in _STRICTER):
        return
    if found == "INVALID_FIELD" and _has_odd_time(parsed):
        return

    assert expected == found, (
        f"{path}: Python says {expected or 'valid'}, Rust {found or 'valid'} {why}: {message!r}"
    )


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "callback": callback,
    "callback_body": callback_body,
    "policy_file": policy_file,
    "settings_file": settings_file,
    "request": request,
}
"""Every target, by the name of its folder of kept inputs."""


def _byte(data: bytes) -> tuple[int, bytes]:
    return (data[0], data[1:]) if data else (0, b"")


def _text(data: bytes) -> tuple[str, bytes]:
    length, rest = _byte(data)
    # What HTTP servers do: every byte of a header is one character.
    return rest[:length].decode("latin-1"), rest[length:]


def _has_odd_time(message: Any) -> bool:
    """Tells whether a Duration or Timestamp in a message breaks the rules of its own type."""
    if message.DESCRIPTOR.full_name in {"google.protobuf.Duration", "google.protobuf.Timestamp"}:
        is_mixed = message.seconds * message.nanos < 0
        return is_mixed or abs(message.nanos) > _NANOS_MAX
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        values = value if field.is_repeated else [value]
        if any(_has_odd_time(each) for each in values):
            return True
    return False


def _finished(coroutine: Any) -> Any:
    """Runs a coroutine that never has to wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits for something")


@functools.cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="lastunit-fuzz-")) / "input.toml"


def _loaded(data: bytes, load: Callable[[Path], Any]) -> Any:
    _file().write_bytes(data)
    try:
        return load(_file())
    except SettingsError as error:
        for problem in error.problems:
            assert problem.message
            assert problem.advice
        return None


# A node takes milliseconds to open; most inputs that are valid say the same.
@functools.lru_cache(maxsize=1000)
def _node_takes(settings_json: str) -> None:
    from lastunit_server._native import Node

    Node(settings_json).close()


@functools.cache
def _methods() -> list[tuple[str, Any]]:
    """Every method in the order of the contract, as Rust numbers them; streams without a class."""
    from google.protobuf.message_factory import GetMessageClass

    from lastunit.stock.v1 import (
        journal_service_pb2,
        rehearsal_service_pb2,
        stock_admin_service_pb2,
        stock_service_pb2,
    )

    files = (stock_service_pb2, stock_admin_service_pb2, journal_service_pb2, rehearsal_service_pb2)
    methods: list[tuple[str, Any]] = []
    for file in files:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                is_stream = method.client_streaming or method.server_streaming
                path = f"{service.full_name}/{method.name}"
                message_class = None if is_stream else GetMessageClass(method.input_type)
                methods.append((path, message_class))
    return methods


@functools.cache
def _validator() -> Any:
    import protovalidate

    return protovalidate.Validator()


@functools.cache
def _node() -> Any:
    from lastunit_server._native import Node

    settings = Settings(journal={"durability": "memory"}, clock="manual")
    return Node(native_settings_json(settings, load_policy(None)))


def _verdict_of_node(path: str, message: bytes) -> tuple[str, str]:
    """Returns the reason and the text with which the door refused; nothing if it let it in."""
    code, body = _node().call(path, message, "fuzz", 5_000, 0, "data")
    if code != _INVALID_ARGUMENT:
        return "", ""
    status = status_pb2.Status.FromString(body)
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason, status.message
    raise AssertionError("a refusal without a reason")
