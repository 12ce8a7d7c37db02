//! Owns the tests' randomness: a seed that is printed and can be given, and values made from it.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Display;

/// A small generator (splitmix64): the same seed gives the same values on every machine.
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// Takes the seed from `LASTUNIT_SEED` or the clock, and prints it.
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var("LASTUNIT_SEED").ok();
        let state = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        });
        println!("LASTUNIT_SEED={state}");
        Self { state }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit - 1`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// An instant from 1970 to 9999, in milliseconds.
    pub(crate) fn millis(&mut self) -> i64 {
        i64::try_from(self.below(253_402_300_800_000)).expect("below the end of time")
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Something or nothing.
    pub(crate) fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    /// An id that is longer or shorter than what fits a small string.
    pub(crate) fn id<T: for<'a> From<&'a str>>(&mut self, kind: impl Display) -> T {
        let number = self.next();
        let long = "x".repeat(usize::try_from(self.below(30)).expect("small"));
        T::from(format!("{kind}-{number:x}{long}").as_str())
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).expect("an index")]
    }

    pub(crate) fn list<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }
}
