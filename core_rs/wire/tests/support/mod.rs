//! Owns what the tests share: the declared contract, and rules read from it independently of the
//! code that the build writes.
#![allow(dead_code, reason = "each test file uses its own part")]

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, MethodDescriptor,
    ReflectMessage as _, Value,
};
use std::collections::HashMap;

use lastunit_wire::Method;

/// The contract as the build found it.
pub(crate) fn contract() -> DescriptorPool {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));
    DescriptorPool::decode(bytes.as_slice()).expect("the build writes a valid set")
}

/// The declaration of a method.
pub(crate) fn declared(pool: &DescriptorPool, method: Method) -> MethodDescriptor {
    let path = method.path().trim_start_matches('/');
    let (service, name) = path.split_once('/').expect("a path has two parts");
    let service = pool
        .get_service_by_name(service)
        .expect("a declared service");
    let found = service.methods().find(|method| method.name() == name);
    found.expect("a declared method")
}

/// One value of a field, with the rule that it breaks, if it breaks one.
pub(crate) struct Probe {
    pub(crate) value: Value,
    /// Path below the field and the rule.
    pub(crate) breaks: Option<(String, &'static str)>,
}

fn good(value: Value) -> Probe {
    Probe {
        value,
        breaks: None,
    }
}

fn bad(value: Value, rule: &'static str) -> Probe {
    Probe {
        value,
        breaks: Some((String::new(), rule)),
    }
}

/// The options that are declared on a field, by dotted name; a list's items are under `items`.
pub(crate) type Rules = HashMap<String, Value>;

/// Reads the rules of a field from the declaration.
pub(crate) fn rules(pool: &DescriptorPool, field: &FieldDescriptor) -> Rules {
    let extension = pool
        .get_extension_by_name("buf.validate.field")
        .expect("the contract imports the rules");
    let options = field.options();
    let mut rules = Rules::new();
    if options.has_extension(&extension) {
        let value = options.get_extension(&extension).into_owned();
        flatten(value.as_message().expect("a message"), "", &mut rules);
    }
    rules
}

fn flatten(message: &DynamicMessage, prefix: &str, rules: &mut Rules) {
    for (field, value) in message.fields() {
        let name = format!("{prefix}{}", field.name());
        match value {
            Value::Message(inner) if !inner.descriptor().full_name().starts_with("google.") => {
                flatten(inner, &format!("{name}."), rules);
            }
            other => {
                rules.insert(name, other.clone());
            }
        }
    }
}

/// The rules below a prefix.
fn below(rules: &Rules, prefix: &str) -> Rules {
    let inner = rules.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), value.clone()))
    });
    inner.collect()
}

/// A message whose every field keeps its rules.
pub(crate) fn valid(pool: &DescriptorPool, descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let is_choice = field
            .containing_oneof()
            .is_some_and(|oneof| !oneof.is_synthetic());
        if is_choice && field.number() != 1 {
            continue;
        }
        let probes = probes(pool, &field);
        let first = probes.into_iter().find(|probe| probe.breaks.is_none());
        message.set_field(&field, first.expect("a rule allows something").value);
    }
    message
}

/// Values of a field at each of its limits and one past it.
pub(crate) fn probes(pool: &DescriptorPool, field: &FieldDescriptor) -> Vec<Probe> {
    let rules = rules(pool, field);
    if field.is_map() {
        return map_probes(pool, field, &rules);
    }
    if field.is_list() {
        return list_probes(pool, field, &rules);
    }
    scalar_probes(pool, field, &rules)
}

fn scalar_probes(pool: &DescriptorPool, field: &FieldDescriptor, rules: &Rules) -> Vec<Probe> {
    use prost_reflect::Kind;

    match field.kind() {
        Kind::Bool => vec![good(Value::Bool(true)), good(Value::Bool(false))],
        Kind::String => text_probes(field, rules),
        Kind::Int32 | Kind::Int64 => number_probes(field, rules),
        Kind::Enum(_) => enum_probes(field, rules),
        Kind::Message(message) if message.full_name() == "google.protobuf.Duration" => {
            time_probes(&message, "duration", "duration.gte_lte", rules)
        }
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            time_probes(&message, "timestamp", "timestamp.gte_lte", rules)
        }
        Kind::Message(message) => nested_probes(pool, &message),
        other => panic!("{}: no probes for {other:?}", field.full_name()),
    }
}

fn text_probes(field: &FieldDescriptor, rules: &Rules) -> Vec<Probe> {
    let text = |text: &str| Value::String(text.to_owned());
    if let Some(pattern) = rules.get("string.pattern").and_then(Value::as_str) {
        let (fine, broken) = texts_of(pattern);
        let fine = fine.iter().map(|value| good(text(value)));
        let broken = broken
            .iter()
            .map(|value| bad(text(value), "string.pattern"));
        return fine.chain(broken).collect();
    }
    let count = |name: &str| rules.get(name).and_then(Value::as_u64);
    let max = count("string.max_bytes");
    let max = usize::try_from(max.unwrap_or_else(|| panic!("{} has no rule", field.full_name())));
    let max = max.expect("a small bound");
    let mut probes = vec![
        good(text(&"x".repeat(max))),
        good(text(&"é".repeat(max / 2))),
        bad(text(&"x".repeat(max + 1)), "string.max_bytes"),
        bad(text(&"é".repeat(max / 2 + 1)), "string.max_bytes"),
    ];
    probes.push(match count("string.min_bytes") {
        None => good(text("")),
        Some(1) => bad(text(""), "string.min_bytes"),
        Some(_) => panic!("{}: no probe for this bound", field.full_name()),
    });
    probes
}

/// Texts that a pattern takes and refuses, written out, so that no reader of patterns is trusted.
fn texts_of(pattern: &str) -> (Vec<String>, Vec<String>) {
    let own = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let mut fine = own(&["a", "Z", "0", "._:-", "0123456789"]);
    let mut broken = own(&[
        "a b", " ", "a/b", "a\n", "\0", "é", "a,b", "@", "[", "`", "{", "a;",
    ]);
    fine.push("a".repeat(64));
    broken.push("a".repeat(65));
    match pattern {
        "^[A-Za-z0-9._:-]{1,64}$" => broken.push(String::new()),
        "^[A-Za-z0-9._:-]{0,64}$" => fine.insert(0, String::new()),
        "^([A-Z]{3})?$" => {
            fine = own(&["EUR", ""]);
            broken = own(&["E", "EU", "EURO", "eur", "EU1", "EU\n"]);
        }
        other => panic!("write texts for the pattern {other}"),
    }
    (fine, broken)
}

fn number_probes(field: &FieldDescriptor, rules: &Rules) -> Vec<Probe> {
    let is_small = field.kind() == prost_reflect::Kind::Int32;
    let kind = if is_small { "int32" } else { "int64" };
    let make = |number: i64| {
        if is_small {
            Value::I32(i32::try_from(number).expect("a bound of its type"))
        } else {
            Value::I64(number)
        }
    };
    let bound = |name: &str| {
        let value = rules.get(&format!("{kind}.{name}"))?;
        value.as_i64().or_else(|| value.as_i32().map(i64::from))
    };
    if rules.contains_key("ignore") {
        return vec![good(make(0)), good(make(i64::MAX)), good(make(i64::MIN))];
    }
    let min = bound("gte").unwrap_or_else(|| panic!("{} has no rule", field.full_name()));
    let max = bound("lte");
    let rule = match (is_small, max) {
        (true, _) => "int32.gte_lte",
        (false, Some(_)) => "int64.gte_lte",
        (false, None) => "int64.gte",
    };
    let mut probes = vec![good(make(min)), bad(make(min - 1), rule)];
    match max {
        Some(max) => probes.extend([good(make(max)), bad(make(max + 1), rule)]),
        None => probes.push(good(make(i64::MAX))),
    }
    probes
}

fn enum_probes(field: &FieldDescriptor, rules: &Rules) -> Vec<Probe> {
    let numbers = |name: &str| -> Vec<i32> {
        let list = rules.get(name).and_then(Value::as_list).unwrap_or_default();
        list.iter().filter_map(Value::as_i32).collect()
    };
    let (among, not_among) = (numbers("enum.in"), numbers("enum.not_in"));
    let is_defined_only = rules.contains_key("enum.defined_only");
    assert!(
        is_defined_only || !among.is_empty(),
        "{} has no rule",
        field.full_name()
    );
    let kind = field.kind();
    let values = kind.as_enum().expect("an enum").values();
    let mut probes: Vec<Probe> = values
        .map(|value| value.number())
        .map(|number| {
            let value = Value::EnumNumber(number);
            if !among.is_empty() && !among.contains(&number) {
                bad(value, "enum.in")
            } else if not_among.contains(&number) {
                bad(value, "enum.not_in")
            } else {
                good(value)
            }
        })
        .collect();
    let rule = if is_defined_only {
        "enum.defined_only"
    } else {
        "enum.in"
    };
    for number in [-1, 99, i32::MAX] {
        probes.push(bad(Value::EnumNumber(number), rule));
    }
    probes
}

fn time_probes(
    message: &MessageDescriptor,
    kind: &str,
    rule: &'static str,
    rules: &Rules,
) -> Vec<Probe> {
    let make = |seconds: i64, nanos: i32| {
        let mut time = DynamicMessage::new(message.clone());
        time.set_field_by_name("seconds", Value::I64(seconds));
        time.set_field_by_name("nanos", Value::I32(nanos));
        Value::Message(time)
    };
    let bound = |name: &str| {
        let value = rules
            .get(&format!("{kind}.{name}"))
            .expect("a time has both bounds");
        let time = value.as_message().expect("a time").clone();
        let seconds = time
            .get_field_by_name("seconds")
            .and_then(|value| value.as_i64());
        let nanos = time
            .get_field_by_name("nanos")
            .and_then(|value| value.as_i32());
        (seconds.unwrap_or_default(), nanos.unwrap_or_default())
    };
    let (min, max) = (bound("gte"), bound("lte"));
    assert_eq!(0, max.1, "write a probe for a bound with a fraction");
    vec![
        good(make(min.0, min.1)),
        good(make(max.0, 0)),
        bad(
            if min.1 > 0 {
                make(min.0, min.1 - 1)
            } else {
                make(min.0 - 1, 999_999_999)
            },
            rule,
        ),
        bad(make(max.0, 1), rule),
        bad(make(max.0 + 1, 0), rule),
        bad(make(1, -1), rule),
        bad(make(1, 1_000_000_000), rule),
        bad(make(i64::MIN, i32::MIN), rule),
        bad(make(i64::MAX, i32::MAX), rule),
    ]
}

fn nested_probes(pool: &DescriptorPool, message: &MessageDescriptor) -> Vec<Probe> {
    let base = valid(pool, message);
    let mut made = vec![good(Value::Message(base.clone()))];
    for field in message.fields() {
        for probe in probes(pool, &field) {
            let mut nested = base.clone();
            nested.set_field(&field, probe.value);
            let breaks = probe
                .breaks
                .map(|(path, rule)| (format!(".{}{path}", field.name()), rule));
            made.push(Probe {
                value: Value::Message(nested),
                breaks,
            });
        }
    }
    made
}

fn list_probes(pool: &DescriptorPool, field: &FieldDescriptor, rules: &Rules) -> Vec<Probe> {
    let count = |name: &str| {
        let value = rules.get(name).and_then(Value::as_u64)?;
        usize::try_from(value).ok()
    };
    let max = count("repeated.max_items");
    let max = max.unwrap_or_else(|| panic!("{} has no bound", field.full_name()));
    let min = count("repeated.min_items").unwrap_or(0);
    let items = scalar_probes(pool, field, &below(rules, "repeated.items."));
    let fine = items
        .iter()
        .find(|probe| probe.breaks.is_none())
        .expect("a rule allows something");
    let fine = fine.value.clone();
    let list = |length: usize| Value::List(vec![fine.clone(); length]);
    let mut probes = vec![
        good(list(min.max(1))),
        good(list(max)),
        bad(list(max + 1), "repeated.max_items"),
        match min {
            0 => good(list(0)),
            _ => bad(list(min - 1), "repeated.min_items"),
        },
    ];
    if rules.contains_key("repeated.items.ignore") {
        return probes;
    }
    for item in items {
        // The item stands second, so that its index is part of the path.
        let breaks = item.breaks.map(|(path, rule)| (format!("[1]{path}"), rule));
        let value = Value::List(vec![fine.clone(), item.value]);
        probes.push(Probe { value, breaks });
    }
    probes
}

fn map_probes(pool: &DescriptorPool, field: &FieldDescriptor, rules: &Rules) -> Vec<Probe> {
    let kind = field.kind();
    let entry = kind.as_message().expect("a map has entries");
    let max = rules
        .get("map.max_pairs")
        .and_then(Value::as_u64)
        .expect("a map has a bound");
    let keys = scalar_probes(
        pool,
        &entry.map_entry_key_field(),
        &below(rules, "map.keys."),
    );
    let values = scalar_probes(
        pool,
        &entry.map_entry_value_field(),
        &below(rules, "map.values."),
    );
    let map = |pairs: Vec<(String, Value)>| {
        let pairs = pairs.into_iter();
        Value::Map(
            pairs
                .map(|(key, value)| (MapKey::String(key), value))
                .collect(),
        )
    };
    let some = |count: u64| {
        let pairs = (0..count).map(|at| (format!("key{at}"), Value::String("x".to_owned())));
        map(pairs.collect())
    };
    let mut probes = vec![
        good(some(max)),
        good(some(0)),
        bad(some(max + 1), "map.max_pairs"),
    ];
    for key in keys {
        let text = key.value.as_str().expect("a text").to_owned();
        let breaks = key
            .breaks
            .map(|(_, rule)| (format!("[{}]", quote(&text)), rule));
        let value = map(vec![(text, Value::String("x".to_owned()))]);
        probes.push(Probe { value, breaks });
    }
    for value in values {
        let breaks = value.breaks.map(|(_, rule)| ("[\"k\"]".to_owned(), rule));
        let value = map(vec![("k".to_owned(), value.value)]);
        probes.push(Probe { value, breaks });
    }
    probes
}

/// Writes the keys that the probes use as JSON does.
fn quote(key: &str) -> String {
    let escaped = match key {
        "\0" => "\\u0000",
        "a\n" => "a\\n",
        other => other,
    };
    format!("\"{escaped}\"")
}
