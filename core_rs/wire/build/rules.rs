//! Owns the reading of `buf.validate` options into the few kinds of rule that the contract uses.
//!
//! Must not drop anything: an option that no kind takes stops the build, so that a declared rule is
//! always an enforced one. Next: `emit.rs`.

use std::collections::BTreeMap;

use protox::prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Value};

use crate::pattern::{self, Pattern};

/// The rules of one field, list item, map key or map value.
#[derive(Debug, Default)]
pub(crate) struct FieldRules {
    /// Whether the field must be set.
    pub(crate) is_required: bool,
    /// Whether nothing of the field is checked, nor what is inside it.
    pub(crate) is_ignored: bool,
    /// What its value must be like.
    pub(crate) kind: Option<Kind>,
}

/// What a value must be like.
#[derive(Debug)]
pub(crate) enum Kind {
    /// `string.pattern`.
    Pattern(Box<Pattern>),
    /// `string.min_bytes` and `string.max_bytes`.
    Bytes { min: Option<u64>, max: Option<u64> },
    /// `int32` or `int64` with `gte` and `lte`; the name is the rule's first part.
    Number {
        name: &'static str,
        min: Option<i64>,
        max: Option<i64>,
    },
    /// `enum.defined_only`, `enum.in` and `enum.not_in`.
    Enum {
        defined: Option<Vec<i32>>,
        among: Vec<i32>,
        not_among: Vec<i32>,
    },
    /// `duration` or `timestamp` with `gte` and `lte`, as whole nanoseconds.
    Time {
        name: &'static str,
        min: i128,
        max: i128,
    },
    /// `repeated`.
    Items {
        min: u64,
        max: Option<u64>,
        item: Box<FieldRules>,
    },
    /// `map`.
    Pairs {
        max: u64,
        key: Box<FieldRules>,
        value: Box<FieldRules>,
    },
}

/// Options that are still to be taken, by name.
struct Options {
    owner: String,
    rest: BTreeMap<String, Value>,
}

impl Options {
    fn of(owner: &str, message: &DynamicMessage) -> Self {
        let rest = message
            .fields()
            .map(|(field, value)| (field.name().to_owned(), value.clone()));
        Self {
            owner: owner.to_owned(),
            rest: rest.collect(),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.rest.remove(name)
    }

    fn take_message(&mut self, name: &str) -> Option<Self> {
        let value = self.take(name)?;
        let message = value.as_message().expect("the option is a message");
        Some(Self::of(&format!("{}.{name}", self.owner), message))
    }

    fn take_number(&mut self, name: &str) -> Option<i64> {
        let value = self.take(name)?;
        value.as_i64().or_else(|| value.as_i32().map(i64::from))
    }

    fn take_count(&mut self, name: &str) -> Option<u64> {
        self.take(name)?.as_u64()
    }

    fn take_list(&mut self, name: &str) -> Vec<i32> {
        let Some(value) = self.take(name) else {
            return Vec::new();
        };
        let items = value.as_list().unwrap_or_default().iter();
        items.filter_map(Value::as_i32).collect()
    }

    fn take_nanos(&mut self, name: &str) -> Option<i128> {
        let value = self.take(name)?;
        let span = value.as_message()?;
        let part = |name: &str| {
            span.get_field_by_name(name)
                .map(std::borrow::Cow::into_owned)
        };
        let seconds = part("seconds")?.as_i64()?;
        let nanos = part("nanos")?.as_i32()?;
        Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
    }

    fn finish(self) -> Result<(), String> {
        match self.rest.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!(
                "{}: rule `{name}` is not understood; extend build/rules.rs",
                self.owner
            )),
        }
    }
}

/// Reads the rules that are declared on a field; none gives the empty set.
///
/// # Errors
///
/// Names the rule that no kind takes.
pub(crate) fn read(pool: &DescriptorPool, field: &FieldDescriptor) -> Result<FieldRules, String> {
    let extension = pool
        .get_extension_by_name("buf.validate.field")
        .ok_or("buf/validate/validate.proto is not imported")?;
    let options = field.options();
    if !options.has_extension(&extension) {
        return Ok(FieldRules::default());
    }
    let value = options.get_extension(&extension).into_owned();
    let message = value.as_message().ok_or("the option is no message")?;
    read_rules(Options::of(field.full_name(), message), field)
}

fn read_rules(mut options: Options, field: &FieldDescriptor) -> Result<FieldRules, String> {
    let is_required = options.take("required").and_then(|value| value.as_bool()) == Some(true);
    // The contract uses IGNORE_ALWAYS (3) only.
    let ignore = options
        .take("ignore")
        .and_then(|value| value.as_enum_number());
    if !matches!(ignore, None | Some(0 | 3)) {
        return Err(format!(
            "{}: this `ignore` is not understood",
            options.owner
        ));
    }
    let kind = read_kind(&mut options, field)?;
    options.finish()?;
    Ok(FieldRules {
        is_required,
        is_ignored: ignore == Some(3),
        kind,
    })
}

fn read_kind(options: &mut Options, field: &FieldDescriptor) -> Result<Option<Kind>, String> {
    if let Some(rule) = options.take_message("string") {
        return read_text(rule).map(Some);
    }
    for name in ["int32", "int64"] {
        if let Some(mut rule) = options.take_message(name) {
            let (min, max) = (rule.take_number("gte"), rule.take_number("lte"));
            rule.finish()?;
            return Ok(Some(Kind::Number { name, min, max }));
        }
    }
    for name in ["duration", "timestamp"] {
        if let Some(mut rule) = options.take_message(name) {
            let (min, max) = (rule.take_nanos("gte"), rule.take_nanos("lte"));
            rule.finish()?;
            let bounds = min
                .zip(max)
                .ok_or_else(|| format!("{name} needs gte and lte"))?;
            return Ok(Some(Kind::Time {
                name,
                min: bounds.0,
                max: bounds.1,
            }));
        }
    }
    if let Some(rule) = options.take_message("enum") {
        return read_enum(rule, field).map(Some);
    }
    if let Some(rule) = options.take_message("repeated") {
        return read_items(rule, field).map(Some);
    }
    if let Some(rule) = options.take_message("map") {
        return read_pairs(rule, field).map(Some);
    }
    Ok(None)
}

fn read_text(mut rule: Options) -> Result<Kind, String> {
    let text = rule.take("pattern");
    let (min, max) = (rule.take_count("min_bytes"), rule.take_count("max_bytes"));
    rule.finish()?;
    match text.as_ref().and_then(Value::as_str) {
        None => Ok(Kind::Bytes { min, max }),
        Some(text) if min.is_none() && max.is_none() => {
            Ok(Kind::Pattern(Box::new(pattern::parse(text)?)))
        }
        Some(text) => Err(format!(
            "pattern `{text}` beside other rules is not understood"
        )),
    }
}

fn read_enum(mut rule: Options, field: &FieldDescriptor) -> Result<Kind, String> {
    let is_defined_only = rule.take("defined_only").and_then(|value| value.as_bool());
    let (among, not_among) = (rule.take_list("in"), rule.take_list("not_in"));
    rule.finish()?;
    let kind = field.kind();
    let descriptor = kind.as_enum().ok_or("an enum rule on another type")?;
    let values = descriptor.values().map(|value| value.number()).collect();
    let defined = (is_defined_only == Some(true)).then_some(values);
    Ok(Kind::Enum {
        defined,
        among,
        not_among,
    })
}

fn read_items(mut rule: Options, field: &FieldDescriptor) -> Result<Kind, String> {
    let item = match rule.take_message("items") {
        Some(inner) => read_rules(inner, field)?,
        None => FieldRules::default(),
    };
    let (min, max) = (rule.take_count("min_items"), rule.take_count("max_items"));
    rule.finish()?;
    Ok(Kind::Items {
        min: min.unwrap_or(0),
        max,
        item: Box::new(item),
    })
}

fn read_pairs(mut rule: Options, field: &FieldDescriptor) -> Result<Kind, String> {
    let mut side = |name: &str| match rule.take_message(name) {
        Some(inner) => read_rules(inner, field),
        None => Ok(FieldRules::default()),
    };
    let (key, value) = (side("keys")?, side("values")?);
    let max = rule
        .take_count("max_pairs")
        .ok_or("a map needs max_pairs")?;
    rule.finish()?;
    Ok(Kind::Pairs {
        max,
        key: Box::new(key),
        value: Box::new(value),
    })
}
