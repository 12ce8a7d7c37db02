//! Where in a document something stands, and what is wrong there.
//!
//! Owns: lines and columns. Must not: know what a policy is. Where next: `table.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The setting, with dots between the levels; empty if the text is not TOML.
    pub key: String,
    /// What is wrong and what to do, lowercase.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, .. } = self;
        let space = if key.is_empty() { "" } else { " " };
        write!(formatter, "line {line}: {key}{space}{}", self.message)
    }
}

/// Most mistakes that are told at once.
const PROBLEMS_MAX: usize = 50;

/// What was found so far.
pub(crate) struct Places<'a> {
    text: &'a str,
    starts: BTreeMap<String, usize>,
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            starts: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// Remembers where a setting stands.
    pub(crate) fn note(&mut self, key: &str, span: &Range<usize>) {
        self.starts.insert(key.to_owned(), span.start);
    }

    /// A mistake of a setting, told where it stands, or else where what holds it stands.
    pub(crate) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let mut above = key;
        let start = loop {
            match (self.starts.get(above), above.rfind('.')) {
                (Some(start), _) => break *start,
                (None, Some(end)) => above = &above[..end],
                (None, None) => break 0,
            }
        };
        self.wrong_at(key, start, message);
    }

    pub(crate) fn wrong_at(&mut self, key: &str, start: usize, message: impl Into<String>) {
        if self.problems.len() >= PROBLEMS_MAX {
            return;
        }
        let before = self.text.get(..start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        self.problems.push(Problem {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            message: message.into(),
        });
    }
}
