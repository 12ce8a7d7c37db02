"""Owns the values that try a rule: each field of each request at its limits and one past them.

Driven by the declared rules alone, so that a new field is tried without a line being written here;
a field without a rule, or a rule of a new form, stops the tests. Next: `test_rules.py`.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import duration_pb2, message_factory, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor

from buf.validate import validate_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

ID_REFUSED: Final = ("a b", " ", "a/b", "a\n", "\0", "é", "a,b", "@", "[", "`", "{", "a" * 65)
ID_TAKEN: Final = ("a", "._:-", "aZ09", "a" * 64)
# What each pattern takes and refuses, written out, so that no reader of patterns is trusted.
TEXTS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "^[A-Za-z0-9._:-]{1,64}$": (ID_TAKEN, (*ID_REFUSED, "")),
    "^[A-Za-z0-9._:-]{0,64}$": (("", *ID_TAKEN), ID_REFUSED),
    "^[A-Za-z0-9._-]{0,57}$": (("", "a", "A.z_0-9", "x" * 57), ("x" * 58, "a:b", "é", "a b")),
    "^([A-Z]{3})?$": (("EUR", ""), ("E", "EU", "EURO", "eur", "EU1", "EU\n")),
    "^[0-9]{6}$": (
        ("000000", "123456"),
        ("", "12345", "1234567", "12345a", " 12345", "123456\n", "\u0661\u0662\u0663456"),
    ),
    "^[A-Z]{3}$": (("EUR",), ("", "E", "EU", "EURO", "eur", "EU1", "EU\n")),
    r"^\+[1-9][0-9]{6,14}$": (
        ("+1234567", "+123456789012345"),
        ("", "+123456", "+1234567890123456", "1234567", "+0234567", "+12345a7", "+1234567\n"),
    ),
}
NANOS: Final = 1_000_000_000


@dataclass(frozen=True)
class Probe:
    """A request with one field set on purpose.

    Attributes:
        message: The request; every other field keeps its rules.
        broken: Path of the field and the name of the rule it breaks; none if it keeps them.
    """

    message: Message
    broken: tuple[str, str] | None


@dataclass(frozen=True)
class Value:
    """A value for a field, and the rule it breaks; `path` is the place below the field."""

    value: Any
    rule: str = ""
    path: str = ""


def list_probes(descriptor: Descriptor) -> Iterator[Probe]:
    """Gives every probe of a request; the first one has nothing broken.

    Args:
        descriptor: The request's message.

    Raises:
        AssertionError: A field has no rule, or a rule of a form that is not known here.
    """
    valid = make_valid(descriptor)
    yield Probe(valid, None)
    for field in descriptor.fields:
        for value in list_values(field):
            message = type(valid)()
            message.CopyFrom(valid)
            set_field(message, field, value.value)
            path = f"{field.name}{value.path}"
            yield Probe(message, (path, value.rule) if value.rule else None)


def make_valid(descriptor: Descriptor) -> Message:
    """Makes a message whose every field keeps its rules; of a choice the first is taken."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        choice = field.containing_oneof
        # An `optional` field is a choice of its own, whose name starts with an underscore.
        if choice is None or choice.name.startswith("_") or field.index == choice.fields[0].index:
            set_field(message, field, next(v.value for v in list_values(field) if not v.rule))
    return message


def set_field(message: Message, field: FieldDescriptor, value: Any) -> None:
    """Sets a field of any kind."""
    if field.type == FieldDescriptor.TYPE_MESSAGE or field.is_repeated:
        message.ClearField(field.name)
        target = getattr(message, field.name)
        if isinstance(value, dict):
            target.update(value)
        elif isinstance(value, list):
            target.extend(value)
        else:
            target.SetInParent()
            target.CopyFrom(value)
    else:
        setattr(message, field.name, value)


@functools.cache
def list_values(field: FieldDescriptor) -> list[Value]:
    """Gives values of a field at its limits and one past them; the first keeps the rules."""
    rules = field.GetOptions().Extensions[validate_pb2.field]
    if rules.ignore == validate_pb2.IGNORE_ALWAYS:
        return [Value(0), Value(2**63 - 1), Value(-(2**63))]
    if not field.is_repeated:
        return list_scalars(field, rules)
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return list_maps(entry, rules.map)
    return list_lists(field, rules.repeated)


def list_scalars(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> list[Value]:
    """Gives values for a field, or an item of it, that is no list."""
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return [Value(value=True), Value(value=False)]
        case FieldDescriptor.TYPE_STRING:
            return list_texts(field, rules.string)
        case FieldDescriptor.TYPE_INT32:
            return list_numbers("int32", rules.int32)
        case FieldDescriptor.TYPE_INT64:
            return list_numbers("int64", rules.int64)
        case FieldDescriptor.TYPE_ENUM:
            return list_choices(field, rules.enum)
        case _:
            return list_messages(field, rules)


def list_messages(field: FieldDescriptor, rules: validate_pb2.FieldRules) -> list[Value]:
    """Gives messages: spans and instants by their own rule, ours by the rules of their fields."""
    message = field.message_type
    assert message is not None, f"{field.full_name} is of an unknown type"
    if message.full_name == "google.protobuf.Duration":
        return list_times(duration_pb2.Duration, "duration", rules.duration)
    if message.full_name == "google.protobuf.Timestamp":
        return list_times(timestamp_pb2.Timestamp, "timestamp", rules.timestamp)
    tried = [(probe, probe.broken or ("", "")) for probe in list_probes(message)]
    return [Value(probe.message, rule, f".{path}" if rule else "") for probe, (path, rule) in tried]


def list_texts(field: FieldDescriptor, rules: validate_pb2.StringRules) -> list[Value]:
    """Gives texts; of those with an address rule only what that rule says."""
    if rules.pattern:
        taken, refused = TEXTS[rules.pattern]
        return [Value(t) for t in taken] + [Value(t, "string.pattern") for t in refused]
    assert rules.max_bytes, f"{field.full_name} has no rule"
    if rules.email:
        return [Value("a@b.example"), Value("ab.example", "string.email")]
    size = rules.max_bytes
    values = [
        Value("x" * size),
        Value("é" * (size // 2)),
        Value("x" * (size + 1), "string.max_bytes"),
        Value("é" * (size // 2 + 1), "string.max_bytes"),
    ]
    assert rules.min_bytes in {0, 1}
    return [*values, Value("", "string.min_bytes" if rules.min_bytes else "")]


def list_numbers(
    kind: str, rules: validate_pb2.Int32Rules | validate_pb2.Int64Rules
) -> list[Value]:
    """Gives numbers at the declared ends and one past them."""
    assert rules.HasField("gte"), "a number needs a rule"
    if not rules.HasField("lte"):
        rule = f"{kind}.gte"
        return [Value(rules.gte), Value(2**63 - 1), Value(rules.gte - 1, rule)]
    rule = f"{kind}.gte_lte"
    return [
        Value(rules.gte),
        Value(rules.lte),
        Value(rules.gte - 1, rule),
        Value(rules.lte + 1, rule),
    ]


def list_choices(field: FieldDescriptor, rules: validate_pb2.EnumRules) -> list[Value]:
    """Gives every declared value and some that are not."""
    assert field.enum_type is not None, f"{field.full_name} is no enum"
    among, not_among = set(getattr(rules, "in")), set(rules.not_in)
    assert rules.defined_only or among, f"{field.full_name} has no rule"
    values = []
    for number in sorted(value.number for value in field.enum_type.values):
        rule = ""
        if among and number not in among:
            rule = "enum.in"
        elif number in not_among:
            rule = "enum.not_in"
        values.append(Value(number, rule))
    unknown = "enum.defined_only" if rules.defined_only else "enum.in"
    values += [Value(number, unknown) for number in (-1, 99, 2**31 - 1)]
    return sorted(values, key=lambda value: bool(value.rule))


def list_times(
    make: type[duration_pb2.Duration | timestamp_pb2.Timestamp],
    kind: str,
    rules: validate_pb2.DurationRules | validate_pb2.TimestampRules,
) -> list[Value]:
    """Gives spans or instants at the declared ends and a nanosecond past them."""
    low, high = (end.seconds * NANOS + end.nanos for end in (rules.gte, rules.lte))
    rule = f"{kind}.gte_lte"

    def at(nanos: int) -> Any:
        # A span below zero has both parts below zero; an instant has nanoseconds of 0 or more.
        sign = -1 if nanos < 0 and kind == "duration" else 1
        return make(seconds=sign * (sign * nanos // NANOS), nanos=sign * (sign * nanos % NANOS))

    return [Value(at(low)), Value(at(high)), Value(at(low - 1), rule), Value(at(high + 1), rule)]


def list_lists(field: FieldDescriptor, rules: validate_pb2.RepeatedRules) -> list[Value]:
    """Gives lists at their lengths' ends, and lists with one item that tries its rule."""
    assert rules.max_items, f"{field.full_name} has no bound"
    items = list_scalars(field, rules.items)
    fine = next(item.value for item in items if not item.rule)
    values = [
        Value([fine] * max(1, rules.min_items)),
        Value([fine] * rules.max_items),
        Value([fine] * (rules.max_items + 1), "repeated.max_items"),
        Value([], "repeated.min_items" if rules.min_items else ""),
    ]
    assert rules.min_items in {0, 1}
    if rules.items.ignore == validate_pb2.IGNORE_ALWAYS:
        return values
    # The item stands second, so that its index is part of the path.
    tried = [Value([fine, i.value], i.rule, f"[1]{i.path}" if i.rule else "") for i in items]
    return values + tried


def list_maps(entry: Descriptor, rules: validate_pb2.MapRules) -> list[Value]:
    """Gives maps at their size's end, and maps with one key or value that tries its rule."""
    keys = list_scalars(entry.fields_by_name["key"], getattr(rules, "keys"))  # noqa: B009
    values = list_scalars(entry.fields_by_name["value"], getattr(rules, "values"))  # noqa: B009
    fine = {f"key{at}": "x" for at in range(rules.max_pairs)}
    tried_keys = [Value({k.value: "x"}, k.rule, f"[{quote(k.value)}]") for k in keys]
    tried_values = [Value({"k": v.value}, v.rule, '["k"]') for v in values]
    return [
        Value({}),
        Value(fine),
        Value({**fine, "more": "x"}, "map.max_pairs"),
        *tried_keys,
        *tried_values,
    ]


def quote(key: str) -> str:
    """Writes a key of a map as both validators do in a path."""
    return json.dumps(key, ensure_ascii=False)
