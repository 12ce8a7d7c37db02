"""Finds the edges of every request from the rules that the protos declare.

Owns: which values lie at a limit and which one past it. A rule that it does not know, or a field
without a rule, is an error: nothing may be left out in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    # The two implementations of descriptors share no type that checkers know.
    Descriptor = Any
    Field = Any
    Setter = Callable[[Any], None]

DURATION = "google.protobuf.Duration"
TIMESTAMP = "google.protobuf.Timestamp"
NANOS = 1_000_000_000
INTEGER_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
}
CLASS_PATTERN = re.compile(r"\^\[A-Za-z0-9\._:-\]\{(\d+),(\d+)\}\$")
CURRENCY_PATTERN = "^([A-Z]{3})?$"
UNDEFINED_ENUM = 999


@dataclass(frozen=True)
class Case:
    """One request with one field at an edge.

    Attributes:
        path: The field, as a violation names it.
        request: The whole request, valid but for that field.
        is_valid: Whether the edge is inside.
        note: What the value is, for a failure's text.
    """

    path: str
    request: Message
    is_valid: bool
    note: str


def cases(kind: type[Message]) -> Iterator[Case]:
    """Yields each field of a request at each of its limits and one past it."""
    for path, edit, is_valid, note in _message_edges(kind.DESCRIPTOR, "", lambda request: request):
        request = valid(kind)
        edit(request)
        yield Case(path, request, is_valid, note)


def valid(kind: type[Message]) -> Message:
    """Returns a request that breaks no rule, with each message inside it present."""
    message = kind()
    _fill(message)
    return message


def _rules(field: Field) -> validate_pb2.FieldRules:
    rules: validate_pb2.FieldRules = field.GetOptions().Extensions[validate_pb2.field]
    return rules


def _fill(message: Message) -> None:
    for field in message.DESCRIPTOR.fields:
        rules = _rules(field)
        if _is_map(field):
            continue
        if field.message_type is not None:
            _fill_message(message, field, rules)
        elif field.is_repeated:
            _resized(field, rules.repeated.min_items)(message)
        elif field.enum_type is not None:
            setattr(message, field.name, next(iter(_enum_values(field, rules, is_valid=True))))
        elif rules.string.HasField("pattern"):
            match = CLASS_PATTERN.fullmatch(rules.string.pattern)
            setattr(message, field.name, "x" * int(match[1]) if match else "")
        elif rules.string.HasField("min_bytes"):
            setattr(message, field.name, "x" * rules.string.min_bytes)
        elif rules.HasField("int32") or rules.HasField("int64"):
            setattr(message, field.name, max(_number_rules(rules).gte, 0))


def _fill_message(message: Message, field: Field, rules: Any) -> None:
    if field.message_type.full_name in {DURATION, TIMESTAMP}:
        if rules.required:
            _set_span(getattr(message, field.name), _span_bounds(rules)[0])
    elif field.is_repeated:
        _fill(getattr(message, field.name).add())
    elif field.containing_oneof is None:
        getattr(message, field.name).SetInParent()
        _fill(getattr(message, field.name))


def _message_edges(
    kind: Descriptor, prefix: str, find: Callable[[Any], Any]
) -> Iterator[tuple[str, Setter, bool, str]]:
    for field in kind.fields:
        path = f"{prefix}{field.name}"
        for edit, is_valid, note in _field_edges(field):
            yield path, _at(find, edit), is_valid, note
        if field.message_type is None or _is_map(field):
            continue
        if field.message_type.full_name in {DURATION, TIMESTAMP} or field.containing_oneof:
            continue
        name = field.name
        if field.is_repeated:
            inner = _first_of(find, name)
            yield from _message_edges(field.message_type, f"{path}[0].", inner)
        else:
            yield from _message_edges(field.message_type, f"{path}.", _child_of(find, name))


def _at(find: Callable[[Any], Any], edit: Setter) -> Setter:
    return lambda request: edit(find(request))


def _first_of(find: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    return lambda request: getattr(find(request), name)[0]


def _child_of(find: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    return lambda request: getattr(find(request), name)


def _field_edges(field: Field) -> Iterator[tuple[Setter, bool, str]]:
    rules = _rules(field)
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return
    if rules.HasField("required") and rules.required:
        yield (lambda message: message.ClearField(field.name)), False, "unset"
    kind = rules.WhichOneof("type")
    if kind is None:
        is_free = field.type == FieldDescriptor.TYPE_BOOL or field.message_type is not None
        assert is_free, f"{field.full_name} has no rule: declare its range in the proto"
        return
    finder = _FINDERS.get(kind)
    assert finder is not None, f"{field.full_name}: no edges are known for rules of {kind}"
    yield from finder(field, rules)


def _put(name: str, value: Any) -> Setter:
    return lambda message: setattr(message, name, value)


def _scalar(
    field: Field, inside: list[Any], outside: list[Any]
) -> Iterator[tuple[Setter, bool, str]]:
    for is_valid, values in ((True, inside), (False, outside)):
        for value in values:
            yield _put(field.name, value), is_valid, repr(value)[:40]


def _text_values(rules: validate_pb2.StringRules) -> tuple[list[str], list[str]]:
    if rules.HasField("pattern"):
        if rules.pattern == CURRENCY_PATTERN:
            return ["", "USD"], ["US", "USDT", "usd", "US1", "USD\n"]
        match = CLASS_PATTERN.fullmatch(rules.pattern)
        assert match, f"no edges are known for the pattern {rules.pattern}"
        low, high = int(match[1]), int(match[2])
        past = ["a" * (high + 1), "a b", "é", "a\n", "a/b", *([""] if low else [])]
        return ["a" * low, "a" * high, "aZ09._:-"], past
    low, high = rules.min_bytes, rules.max_bytes
    assert high, "a text without a longest length"
    inside = ["a" * low, "a" * high, "é" * (high // 2)]
    return inside, ["a" * (high + 1), "é" * (high // 2) + "a", *(["a" * (low - 1)] if low else [])]


def _text_edges(field: Field, rules: Any) -> Iterator[tuple[Setter, bool, str]]:
    yield from _scalar(field, *_text_values(rules.string))


def _number_rules(rules: Any) -> Any:
    return rules.int32 if rules.HasField("int32") else rules.int64


def _number_edges(field: Field, rules: Any) -> Iterator[tuple[Setter, bool, str]]:
    numbers = _number_rules(rules)
    least, most = INTEGER_RANGES[field.type]
    assert numbers.HasField("gte"), f"{field.full_name} has no least value"
    inside, outside = [numbers.gte], [numbers.gte - 1, least]
    if numbers.HasField("lte"):
        inside.append(numbers.lte)
        outside += [numbers.lte + 1, most]
    else:
        inside.append(most)
    yield from _scalar(field, inside, outside)


def _enum_values(field: Field, rules: Any, *, is_valid: bool) -> list[int]:
    assert field.enum_type is not None
    every = {value.number for value in field.enum_type.values}
    listed = set(getattr(rules.enum, "in"))
    allowed = (listed or every) - set(rules.enum.not_in)
    return sorted(allowed) if is_valid else sorted((every - allowed) | {UNDEFINED_ENUM})


def _enum_edges(field: Field, rules: Any) -> Iterator[tuple[Setter, bool, str]]:
    inside = _enum_values(field, rules, is_valid=True)
    yield from _scalar(field, inside, _enum_values(field, rules, is_valid=False))


def _span_bounds(rules: Any) -> tuple[int, int]:
    """Returns least and most, in nanoseconds."""
    spans = rules.duration if rules.HasField("duration") else rules.timestamp
    assert spans.HasField("gte"), "a time without a least value"
    assert spans.HasField("lte"), "a time without a largest value"
    low = spans.gte.seconds * NANOS + spans.gte.nanos
    return low, spans.lte.seconds * NANOS + spans.lte.nanos


def _set_span(message: Any, nanos: int) -> None:
    # Duration wants both parts of one sign, Timestamp wants nanos of 0 or more.
    sign = -1 if nanos < 0 and message.DESCRIPTOR.full_name == DURATION else 1
    seconds, rest = divmod(nanos * sign, NANOS)
    message.seconds, message.nanos = seconds * sign, rest * sign
    message.SetInParent()


def _span_edges(field: Field, rules: Any) -> Iterator[tuple[Setter, bool, str]]:
    low, high = _span_bounds(rules)
    for is_valid, values in ((True, (low, high)), (False, (low - 1, high + 1))):
        for nanos in values:
            yield _put_span(field.name, nanos), is_valid, f"{nanos} ns"


def _put_span(name: str, nanos: int) -> Setter:
    return lambda message: _set_span(getattr(message, name), nanos)


def _list_edges(field: Field, rules: Any) -> Iterator[tuple[Setter, bool, str]]:
    counts = rules.repeated
    assert counts.HasField("max_items"), f"{field.full_name} may be of any length"
    low, high = counts.min_items, counts.max_items
    for count in {low, high}:
        yield _resized(field, count), True, f"{count} items"
    for count in {high + 1, *([low - 1] if low else [])}:
        yield _resized(field, count), False, f"{count} items"
    if counts.items.HasField("string"):
        inside, outside = _text_values(counts.items.string)
        for is_valid, values in ((True, inside), (False, outside)):
            for value in values:
                yield _listed(field.name, [value]), is_valid, f"item {value!r}"[:40]


def _resized(field: Field, count: int) -> Setter:
    def edit(message: Any) -> None:
        items = getattr(message, field.name)
        del items[:]
        for index in range(count):
            if field.message_type is None:
                items.append(f"item-{index}")
            else:
                _fill(items.add())

    return edit


def _listed(name: str, values: list[str]) -> Setter:
    def edit(message: Any) -> None:
        items = getattr(message, name)
        del items[:]
        items.extend(values)

    return edit


def _map_edges(field: Field, rules: Any) -> Iterator[tuple[Setter, bool, str]]:
    pairs = rules.map
    assert pairs.HasField("max_pairs"), f"{field.full_name} may hold any number of pairs"
    for count, is_valid in ((pairs.max_pairs, True), (pairs.max_pairs + 1, False)):
        filled = {f"key-{index}": "v" for index in range(count)}
        yield _mapped(field.name, filled), is_valid, f"{count} pairs"
    for is_valid, keys in zip((True, False), _text_values(pairs.keys.string), strict=True):
        for key in keys:
            yield _mapped(field.name, {key: "v"}), is_valid, f"key {key!r}"[:40]
    for is_valid, values in zip((True, False), _text_values(pairs.values.string), strict=True):
        for value in values:
            yield _mapped(field.name, {"key": value}), is_valid, f"value {value!r}"[:40]


def _mapped(name: str, pairs: dict[str, str]) -> Setter:
    return lambda message: getattr(message, name).update(pairs)


def _is_map(field: Field) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


_FINDERS: dict[str, Callable[..., Iterator[tuple[Setter, bool, str]]]] = {
    "string": _text_edges,
    "int32": _number_edges,
    "int64": _number_edges,
    "enum": _enum_edges,
    "duration": _span_edges,
    "timestamp": _span_edges,
    "repeated": _list_edges,
    "map": _map_edges,
}
