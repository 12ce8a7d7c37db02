//! Owns the carrying out of the rules that the contract declares on request fields.
//!
//! Must not hold a rule: the code that `build/emit.rs` writes brings them. Names of rules and paths
//! of fields are those of protovalidate, so that any client can predict them. Next: `fault.rs`.

use std::fmt;

/// The most violations told of one request; the first few are enough to mend it.
pub const VIOLATION_COUNT_MAX: usize = 32;

/// One field that broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field from the request, such as `lines[2].units`.
    pub field: String,
    /// The rule's name, such as `int64.gte_lte`.
    pub rule: &'static str,
    /// What the rule demands.
    pub description: String,
}

/// Checks a message against the rules declared on its fields.
pub(crate) trait Check {
    /// Adds what breaks a rule to `found`; `at` is where the message is.
    fn check(&self, at: &At<'_>, found: &mut Violations);
}

/// Checks a whole request.
///
/// # Errors
///
/// Gives the first [`VIOLATION_COUNT_MAX`] violations in the order of the fields.
pub(crate) fn check(request: &impl Check) -> Result<(), Vec<Violation>> {
    let mut found = Violations::default();
    request.check(&At::root(), &mut found);
    if found.list.is_empty() {
        Ok(())
    } else {
        Err(found.list)
    }
}

/// Where a value is in its request. Lives on the stack: a valid request costs no memory.
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'static str),
    Index(usize),
    Key(&'a str),
}

impl At<'_> {
    pub(crate) const fn root() -> Self {
        Self {
            parent: None,
            step: Step::Root,
        }
    }

    pub(crate) const fn field(&self, name: &'static str) -> At<'_> {
        self.step(Step::Field(name))
    }

    pub(crate) const fn index(&self, index: usize) -> At<'_> {
        self.step(Step::Index(index))
    }

    pub(crate) const fn key<'a>(&'a self, key: &'a str) -> At<'a> {
        self.step(Step::Key(key))
    }

    const fn step<'a>(&'a self, step: Step<'a>) -> At<'a> {
        At {
            parent: Some(self),
            step,
        }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else {
            return Ok(());
        };
        parent.fmt(formatter)?;
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if parent.parent.is_none() => formatter.write_str(name),
            Step::Field(name) => write!(formatter, ".{name}"),
            Step::Index(index) => write!(formatter, "[{index}]"),
            Step::Key(key) => write_key(key, formatter),
        }
    }
}

/// Writes a key of a map as JSON would, so that any client can read it back.
fn write_key(key: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    formatter.write_str("[\"")?;
    for letter in key.chars() {
        match letter {
            '"' | '\\' => write!(formatter, "\\{letter}")?,
            '\n' => formatter.write_str("\\n")?,
            '\r' => formatter.write_str("\\r")?,
            '\t' => formatter.write_str("\\t")?,
            '\0'..' ' => write!(formatter, "\\u{:04x}", u32::from(letter))?,
            _ => write!(formatter, "{letter}")?,
        }
    }
    formatter.write_str("\"]")
}

/// A string of bytes of one class, with bounds on its length.
pub(crate) struct Pattern {
    pub(crate) text: &'static str,
    pub(crate) class: [bool; 256],
    pub(crate) bytes_min: usize,
    pub(crate) bytes_max: usize,
    pub(crate) is_empty_fine: bool,
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let has_length = (self.bytes_min..=self.bytes_max).contains(&text.len());
        (has_length || (self.is_empty_fine && text.is_empty()))
            && text.bytes().all(|byte| self.class[usize::from(byte)])
    }
}

/// How many items a list may have.
#[derive(Clone, Copy)]
pub(crate) struct Items {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// The violations found so far.
#[derive(Default)]
pub(crate) struct Violations {
    list: Vec<Violation>,
}

impl Violations {
    /// Kept out of line: a valid request never comes here.
    #[cold]
    fn add(&mut self, at: &At<'_>, rule: &'static str, description: String) {
        if self.list.len() < VIOLATION_COUNT_MAX {
            self.list.push(Violation {
                field: at.to_string(),
                rule,
                description,
            });
        }
    }

    pub(crate) fn missing(&mut self, at: &At<'_>) {
        self.add(at, "required", "must be set".to_owned());
    }

    pub(crate) fn pattern(&mut self, text: &str, pattern: &Pattern, at: &At<'_>) {
        if !pattern.matches(text) {
            let description = format!("must match the pattern {}", pattern.text);
            self.add(at, "string.pattern", description);
        }
    }

    pub(crate) fn bytes(&mut self, text: &str, min: usize, max: usize, at: &At<'_>) {
        if text.len() < min {
            self.add(
                at,
                "string.min_bytes",
                format!("must have at least {min} bytes"),
            );
        }
        if text.len() > max {
            self.add(
                at,
                "string.max_bytes",
                format!("must have at most {max} bytes"),
            );
        }
    }

    pub(crate) fn number(
        &mut self,
        value: i64,
        kind: &'static str,
        min: Option<i64>,
        max: Option<i64>,
        at: &At<'_>,
    ) {
        if min.is_none_or(|min| min <= value) && max.is_none_or(|max| value <= max) {
            return;
        }
        let rule = match (kind, min, max) {
            ("int32", Some(_), Some(_)) => "int32.gte_lte",
            ("int32", Some(_), None) => "int32.gte",
            ("int32", ..) => "int32.lte",
            (_, Some(_), Some(_)) => "int64.gte_lte",
            (_, Some(_), None) => "int64.gte",
            _ => "int64.lte",
        };
        let bounds = [
            min.map(|min| format!("at least {min}")),
            max.map(|max| format!("at most {max}")),
        ];
        let bounds: Vec<_> = bounds.into_iter().flatten().collect();
        self.add(at, rule, format!("must be {}", bounds.join(" and ")));
    }

    pub(crate) fn choice(
        &mut self,
        value: i32,
        defined: Option<&[i32]>,
        among: &[i32],
        not_among: &[i32],
        at: &At<'_>,
    ) {
        if defined.is_some_and(|defined| !defined.contains(&value)) {
            self.add(
                at,
                "enum.defined_only",
                "must be a value of the enum".to_owned(),
            );
        }
        if !among.is_empty() && !among.contains(&value) {
            self.add(at, "enum.in", format!("must be one of {among:?}"));
        }
        if not_among.contains(&value) {
            self.add(at, "enum.not_in", format!("must be none of {not_among:?}"));
        }
    }

    /// `parts` are seconds and nanoseconds, `bounds` whole nanoseconds, both ends included.
    pub(crate) fn time(
        &mut self,
        kind: &'static str,
        parts: (i64, i32),
        bounds: (i128, i128),
        at: &At<'_>,
    ) {
        // Every bound of the contract is 0 or more, so nanoseconds below 0 are never well formed.
        let is_well_formed = (0..1_000_000_000).contains(&parts.1);
        let nanos = i128::from(parts.0) * 1_000_000_000 + i128::from(parts.1);
        if is_well_formed && (bounds.0..=bounds.1).contains(&nanos) {
            return;
        }
        let rule = if kind == "duration" {
            "duration.gte_lte"
        } else {
            "timestamp.gte_lte"
        };
        let (min, max) = (seconds_text(bounds.0), seconds_text(bounds.1));
        self.add(at, rule, format!("must be from {min} to {max} s"));
    }

    pub(crate) fn items(&mut self, count: usize, bounds: Items, at: &At<'_>) {
        if count < bounds.min {
            let description = format!("must have at least {} items", bounds.min);
            self.add(at, "repeated.min_items", description);
        }
        if count > bounds.max {
            let description = format!("must have at most {} items", bounds.max);
            self.add(at, "repeated.max_items", description);
        }
    }

    pub(crate) fn pairs(&mut self, count: usize, max: usize, at: &At<'_>) {
        if count > max {
            self.add(
                at,
                "map.max_pairs",
                format!("must have at most {max} pairs"),
            );
        }
    }
}

/// Writes whole nanoseconds as seconds, without zeros at the end.
fn seconds_text(nanos: i128) -> String {
    let text = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Gives the violations of a list's length alone, for lists whose items are checked one by one.
pub(crate) fn check_length(
    name: &'static str,
    count: usize,
    bounds: Items,
) -> Result<(), Vec<Violation>> {
    let mut found = Violations::default();
    found.items(count, bounds, &At::root().field(name));
    if found.list.is_empty() {
        Ok(())
    } else {
        Err(found.list)
    }
}
