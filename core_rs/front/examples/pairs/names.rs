//! The ids of the work. Owns: that every peer is asked for the same kind of pair: an id that never
//! came before, and one of ten million buyers at random.

use std::hash::{BuildHasher, RandomState};

/// How many buyers there are.
const BUYERS: u64 = 10_000_000;

/// Names of one run; another run has other ones.
#[derive(Clone)]
pub(crate) struct Names {
    prefix: String,
    buyers: RandomState,
}

impl Names {
    pub(crate) fn new() -> Self {
        let buyers = RandomState::new();
        let prefix = format!("{:08x}", buyers.hash_one(0) >> 32);
        Self { prefix, buyers }
    }

    /// Names a pair's reservation.
    pub(crate) fn reservation(&self, pair: u64) -> String {
        format!("{}-{pair}", self.prefix)
    }

    /// Names a pair's buyer.
    pub(crate) fn buyer(&self, pair: u64) -> String {
        format!("b{}", self.buyers.hash_one(pair) % BUYERS)
    }
}
