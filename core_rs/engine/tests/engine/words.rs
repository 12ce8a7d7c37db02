//! One line of a script, split into words: `verb word word key=value flag`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::str::FromStr;

use lastunit_engine::{Millis, Text};

/// The words of a line; a word that nobody asked for is a mistake in the script.
pub(crate) struct Words<'a> {
    line: &'a str,
    plain: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
    used: RefCell<BTreeSet<&'a str>>,
    plain_used: RefCell<usize>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        let mut plain = Vec::new();
        let mut named = Vec::new();
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some(pair) => named.push(pair),
                None => plain.push(word),
            }
        }
        let (used, plain_used) = (RefCell::default(), RefCell::new(0));
        Self {
            line,
            plain,
            named,
            used,
            plain_used,
        }
    }

    /// The next plain word.
    pub(crate) fn next(&self) -> &'a str {
        self.next_if_any()
            .unwrap_or_else(|| panic!("a word is missing: {}", self.line))
    }

    pub(crate) fn next_if_any(&self) -> Option<&'a str> {
        let mut place = self.plain_used.borrow_mut();
        let word = self.plain.get(*place).copied();
        *place += usize::from(word.is_some());
        word
    }

    pub(crate) fn rest(&self) -> Vec<&'a str> {
        std::iter::from_fn(|| self.next_if_any()).collect()
    }

    pub(crate) fn parse<T: FromStr>(&self) -> T {
        parse(self.next())
    }

    /// The value of `key`, if it is there.
    pub(crate) fn get(&self, key: &'a str) -> Option<&'a str> {
        self.used.borrow_mut().insert(key);
        self.named
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    pub(crate) fn number<T: FromStr>(&self, key: &'a str) -> Option<T> {
        self.get(key).map(parse)
    }

    pub(crate) fn millis(&self, key: &'a str) -> Option<Millis> {
        self.number(key)
    }

    pub(crate) fn text(&self, key: &'a str) -> Option<Text> {
        self.get(key).map(Text::from)
    }

    /// Fails if the line has a word that nobody asked for.
    pub(crate) fn end(&self) {
        let used = self.used.borrow();
        for (name, _) in &self.named {
            assert!(
                used.contains(name),
                "nobody knows {name}= in: {}",
                self.line
            );
        }
        let left = &self.plain[*self.plain_used.borrow()..];
        assert!(left.is_empty(), "nobody knows {left:?} in: {}", self.line);
    }
}

pub(crate) fn parse<T: FromStr>(word: &str) -> T {
    word.parse()
        .ok()
        .unwrap_or_else(|| panic!("{word} does not read"))
}

/// The value of an enum by its name on the wire.
pub(crate) fn named<T: Copy>(all: &[T], name_of: impl Fn(T) -> &'static str, word: &str) -> T {
    all.iter()
        .copied()
        .find(|value| name_of(*value) == word)
        .unwrap_or_else(|| {
            let names: Vec<_> = all.iter().map(|value| name_of(*value)).collect();
            panic!("{word} is none of {names:?}")
        })
}
