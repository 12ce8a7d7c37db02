//! Owns the writing of `checks.rs`: one `Check` implementation for each message that a request can
//! hold.
//!
//! Must not leave a request field unchecked: a number, text or time without a declared rule stops
//! the build. Next: `../src/check.rs`, which the written code calls.

use std::collections::BTreeMap;
use std::fmt::Write;

use protox::prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind as Type, MessageDescriptor, OneofDescriptor,
};

use crate::pattern::Pattern;
use crate::rules::{self, FieldRules, Kind};

/// Writes the checks of every message that the services of a package take in.
///
/// # Errors
///
/// Names the first field whose rule is missing or not understood.
pub(crate) fn emit_checks(pool: &DescriptorPool, package: &str) -> Result<String, String> {
    let mut emitter = Emitter {
        pool,
        code: String::new(),
        patterns: BTreeMap::new(),
    };
    for message in request_messages(pool, package) {
        emitter.message(&message)?;
    }
    let Emitter {
        mut code, patterns, ..
    } = emitter;
    for (text, (name, pattern)) in &patterns {
        write_pattern(&mut code, name, text, pattern);
    }
    Ok(code)
}

/// Lists the messages that requests consist of, by full name.
fn request_messages(pool: &DescriptorPool, package: &str) -> Vec<MessageDescriptor> {
    let mut waiting: Vec<_> = pool
        .services()
        .filter(|service| service.package_name() == package)
        .flat_map(|service| {
            service
                .methods()
                .map(|method| method.input())
                .collect::<Vec<_>>()
        })
        .collect();
    let mut known = BTreeMap::new();
    while let Some(message) = waiting.pop() {
        if message.package_name() != package || message.is_map_entry() {
            continue;
        }
        if known
            .insert(message.full_name().to_owned(), message.clone())
            .is_none()
        {
            let kinds = message.fields().map(|field| field.kind());
            waiting.extend(kinds.filter_map(|kind| kind.as_message().cloned()));
        }
    }
    known.into_values().collect()
}

fn write_pattern(code: &mut String, name: &str, text: &str, pattern: &Pattern) {
    let Pattern {
        class,
        bytes_min,
        bytes_max,
        is_empty_fine,
        ..
    } = pattern;
    // Writing to a string cannot fail.
    let _ = writeln!(
        code,
        "static {name}: Pattern = Pattern {{ text: {text:?}, class: {class:?}, \
         bytes_min: {bytes_min}, bytes_max: {bytes_max}, is_empty_fine: {is_empty_fine} }};",
    );
}

struct Emitter<'a> {
    pool: &'a DescriptorPool,
    code: String,
    patterns: BTreeMap<String, (String, Pattern)>,
}

impl Emitter<'_> {
    fn line(&mut self, line: &str) {
        self.code.push_str(line);
        self.code.push('\n');
    }

    fn message(&mut self, message: &MessageDescriptor) -> Result<(), String> {
        self.line(&format!("impl Check for contract::{} {{", message.name()));
        self.line("fn check(&self, at: &At<'_>, found: &mut Violations) {");
        self.line("let _ = (&at, &found);");
        for field in message.fields() {
            if field
                .containing_oneof()
                .is_some_and(|oneof| !oneof.is_synthetic())
            {
                continue;
            }
            self.field(&field)?;
        }
        for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            self.oneof(message, &oneof)?;
        }
        self.line("}\n}");
        Ok(())
    }

    fn field(&mut self, field: &FieldDescriptor) -> Result<(), String> {
        let declared = rules::read(self.pool, field)?;
        // A truth value has no wrong value.
        if declared.is_ignored || field.kind() == Type::Bool {
            return Ok(());
        }
        let name = field.name();
        self.line(&format!("let at_field = at.field({name:?});"));
        if field.is_list() || field.is_map() {
            return self.collection(field, &declared);
        }
        if !field.supports_presence() {
            return self.value(field, &declared, &format!("self.{name}"), "at_field");
        }
        self.line(&format!("if let Some(value) = &self.{name} {{"));
        self.value(field, &declared, "(*value)", "at_field")?;
        self.line("}");
        if declared.is_required {
            self.line(&format!(
                "if self.{name}.is_none() {{ found.missing(&at_field); }}"
            ));
        }
        Ok(())
    }

    fn collection(&mut self, field: &FieldDescriptor, declared: &FieldRules) -> Result<(), String> {
        let name = field.name();
        match &declared.kind {
            Some(Kind::Items {
                min,
                max: Some(max),
                item,
            }) => {
                let bounds = format!("{}_{}", snake(field.parent_message().name()), name);
                let constant = bounds.to_uppercase();
                self.code.insert_str(
                    0,
                    &format!(
                        "pub(crate) const {constant}: Items = Items {{ min: {min}, max: {max} }};\n"
                    ),
                );
                self.line(&format!(
                    "found.items(self.{name}.len(), {constant}, &at_field);"
                ));
                if item.is_ignored {
                    return Ok(());
                }
                self.line(&format!(
                    "for (index, item) in self.{name}.iter().enumerate() {{"
                ));
                self.value(field, item, "(*item)", "at_field.index(index)")?;
            }
            Some(Kind::Pairs { max, key, value }) => {
                let kind = field.kind();
                let entry = kind.as_message().ok_or("a map has entries")?;
                self.line(&format!(
                    "found.pairs(self.{name}.len(), {max}, &at_field);"
                ));
                self.line(&format!("for (key, value) in &self.{name} {{"));
                let at = "at_field.key(key)";
                self.value(&entry.map_entry_key_field(), key, "(*key)", at)?;
                self.value(&entry.map_entry_value_field(), value, "(*value)", at)?;
            }
            _ => {
                return Err(format!(
                    "{}: a list or map needs a bound",
                    field.full_name()
                ));
            }
        }
        self.line("}");
        Ok(())
    }

    /// Checks one value; `place` is a place expression of its type.
    fn value(
        &mut self,
        field: &FieldDescriptor,
        declared: &FieldRules,
        place: &str,
        at: &str,
    ) -> Result<(), String> {
        let Some(kind) = &declared.kind else {
            return self.value_without_rule(field, place, at);
        };
        let call = match kind {
            Kind::Pattern(pattern) => {
                let constant = self.pattern_name(pattern);
                format!("found.pattern(&{place}, &{constant}, &{at});")
            }
            Kind::Bytes { min, max } => {
                let bounds = format!("{}, {}", min.unwrap_or(0), max.ok_or("text needs a bound")?);
                format!("found.bytes(&{place}, {bounds}, &{at});")
            }
            Kind::Number { name, min, max } => {
                format!("found.number({place}.into(), {name:?}, {min:?}, {max:?}, &{at});")
            }
            Kind::Enum {
                defined,
                among,
                not_among,
            } => {
                let defined = match defined {
                    Some(values) => format!("Some(&{values:?})"),
                    None => "None".to_owned(),
                };
                format!("found.choice({place}, {defined}, &{among:?}, &{not_among:?}, &{at});")
            }
            Kind::Time { name, min, max } => {
                let parts = format!("{place}.seconds, {place}.nanos");
                format!("found.time({name:?}, ({parts}), ({min}, {max}), &{at});")
            }
            Kind::Items { .. } | Kind::Pairs { .. } => {
                return Err(format!("{}: a list rule on a value", field.full_name()));
            }
        };
        self.line(&call);
        Ok(())
    }

    /// A message of ours brings rules of its own; anything else must have one.
    fn value_without_rule(
        &mut self,
        field: &FieldDescriptor,
        place: &str,
        at: &str,
    ) -> Result<(), String> {
        match field.kind() {
            Type::Message(message) if message.package_name() != "google.protobuf" => {
                self.line(&format!("{place}.check(&{at}, found);"));
                Ok(())
            }
            _ => Err(format!(
                "{}: a request field needs a rule",
                field.full_name()
            )),
        }
    }

    fn oneof(
        &mut self,
        message: &MessageDescriptor,
        oneof: &OneofDescriptor,
    ) -> Result<(), String> {
        let module = snake(message.name());
        let path = format!("contract::{module}::{}", camel(oneof.name()));
        self.line(&format!("match &self.{} {{", oneof.name()));
        // The contract declares every choice of its requests as required.
        self.line(&format!(
            "None => found.missing(&at.field({:?})),",
            oneof.name()
        ));
        for field in oneof.fields() {
            let (name, variant) = (field.name(), camel(field.name()));
            self.line(&format!("Some({path}::{variant}(value)) => {{"));
            self.value(
                &field,
                &rules::read(self.pool, &field)?,
                "(*value)",
                &format!("at.field({name:?})"),
            )?;
            self.line("}");
        }
        self.line("}");
        Ok(())
    }

    fn pattern_name(&mut self, pattern: &Pattern) -> String {
        let next = format!("PATTERN_{}", self.patterns.len());
        let copy = Pattern {
            text: pattern.text.clone(),
            ..*pattern
        };
        let entry = self
            .patterns
            .entry(pattern.text.clone())
            .or_insert((next, copy));
        entry.0.clone()
    }
}

/// `ReserveRequest` becomes `reserve_request`.
fn snake(name: &str) -> String {
    let mut made = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_uppercase() && at > 0 {
            made.push('_');
        }
        made.push(letter.to_ascii_lowercase());
    }
    made
}

/// `begin_payment` becomes `BeginPayment`.
fn camel(name: &str) -> String {
    let words = name
        .split('_')
        .map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}
