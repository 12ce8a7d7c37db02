//! Values of a document, taken out one by one with their types and ranges.
//!
//! Owns: how a wrong type, a number out of its range or an unknown key is told. Must not: know what
//! a setting means. Where next: `document.rs`.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::places::Places;

/// One table of a document, by its path; keys are taken and what is left over is unknown.
pub(crate) struct Table<'t, 'd> {
    path: String,
    held: Option<&'t DeTable<'d>>,
    taken: Vec<&'static str>,
}

impl<'t, 'd> Table<'t, 'd> {
    pub(crate) fn root(held: &'t DeTable<'d>) -> Self {
        Self {
            path: String::new(),
            held: Some(held),
            taken: Vec::new(),
        }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        if self.path.is_empty() {
            return name.to_owned();
        }
        format!("{}.{name}", self.path)
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn is_there(&self) -> bool {
        self.held.is_some()
    }

    fn value(&mut self, name: &'static str, places: &mut Places<'_>) -> Option<&'t DeValue<'d>> {
        self.taken.push(name);
        let (key, value) = self
            .held?
            .iter()
            .find(|(key, _)| key.get_ref().as_ref() == name)?;
        places.note(&self.key(name), &key.span());
        Some(value.get_ref())
    }

    /// The table under a name; one that is not there has nothing in it.
    pub(crate) fn table(&mut self, name: &'static str, places: &mut Places<'_>) -> Self {
        let path = self.key(name);
        let value = self.value(name, places);
        let held = value.and_then(|value| as_table(&path, value, places));
        Self {
            path,
            held,
            taken: Vec::new(),
        }
    }

    /// Every table in it, by name.
    pub(crate) fn tables(&self, places: &mut Places<'_>) -> Vec<(String, Self)> {
        let mut tables = Vec::new();
        for (name, value) in self.entries(places) {
            let path = self.key(&name);
            if let Some(held) = as_table(&path, value.get_ref(), places) {
                let table = Self {
                    path,
                    held: Some(held),
                    taken: Vec::new(),
                };
                tables.push((name, table));
            }
        }
        tables
    }

    /// Every number in it, by name.
    pub(crate) fn numbers(
        &self,
        range: &RangeInclusive<f64>,
        places: &mut Places<'_>,
    ) -> Vec<(String, f64)> {
        let mut numbers = Vec::new();
        for (name, value) in self.entries(places) {
            let key = self.key(&name);
            if let Some(number) = as_number(&key, value.get_ref(), range, places) {
                numbers.push((name, number));
            }
        }
        numbers
    }

    fn entries(&self, places: &mut Places<'_>) -> Vec<(String, &'t Spanned<DeValue<'d>>)> {
        let mut entries = Vec::new();
        for (key, value) in self.held.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref().to_string();
            places.note(&self.key(&name), &key.span());
            entries.push((name, value));
        }
        entries
    }

    pub(crate) fn number(
        &mut self,
        name: &'static str,
        range: &RangeInclusive<f64>,
        places: &mut Places<'_>,
    ) -> Option<f64> {
        let value = self.value(name, places)?;
        as_number(&self.key(name), value, range, places)
    }

    pub(crate) fn whole(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u32>,
        places: &mut Places<'_>,
    ) -> Option<u32> {
        let value = self.value(name, places)?;
        let key = self.key(name);
        let (low, high) = range.into_inner();
        let expected = format!("must be a whole number, {low} to {high}");
        let DeValue::Integer(found) = value else {
            places.wrong(&key, expected);
            return None;
        };
        let number = i64::from_str_radix(found.as_str(), found.radix());
        let number = number.ok().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (low..=high).contains(number));
        if number.is_none() {
            places.wrong(&key, format!("is {}, {expected}", found.as_str()));
        }
        number
    }

    /// Tells of every key that was not asked for.
    pub(crate) fn end(self, places: &mut Places<'_>) {
        let known = self.taken.join(", ");
        for (key, _) in self.held.into_iter().flat_map(DeTable::iter) {
            let name = key.get_ref();
            if !self.taken.contains(&name.as_ref()) {
                let start = key.span().start;
                let message = format!("is no known key; here can be: {known}");
                places.wrong_at(&self.key(name), start, message);
            }
        }
    }
}

fn as_table<'t, 'd>(
    key: &str,
    value: &'t DeValue<'d>,
    places: &mut Places<'_>,
) -> Option<&'t DeTable<'d>> {
    let DeValue::Table(held) = value else {
        places.wrong(key, format!("must be a table; write [{key}]"));
        return None;
    };
    Some(held)
}

fn as_number(
    key: &str,
    value: &DeValue<'_>,
    range: &RangeInclusive<f64>,
    places: &mut Places<'_>,
) -> Option<f64> {
    let expected = format!("must be a number, {} to {}", range.start(), range.end());
    let text = match value {
        DeValue::Integer(found) if found.radix() == 10 => found.as_str(),
        DeValue::Float(found) => found.as_str(),
        _ => {
            places.wrong(key, expected);
            return None;
        }
    };
    let number = text.parse().ok().filter(|number| range.contains(number));
    if number.is_none() {
        places.wrong(key, format!("is {text}, {expected}"));
    }
    number
}
