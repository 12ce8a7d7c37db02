//! What a run met: faults, outcomes, rows of the state machine.
//!
//! Owns: the counters, and the list of what a long run must have met. A simulator that never meets
//! a case proves nothing about it. Must not: steer a run. Where next: `report.rs`.

use std::collections::BTreeMap;

/// How often each thing was met, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    counts: BTreeMap<&'static str, u64>,
}

/// What fifty thousand seeds must have met at least once.
pub const REQUIRED: &[&str] = &[
    // Rows of the reservation's life in docs/concepts, by number.
    "row 1",
    "row 2",
    "row 3",
    "row 4",
    "row 5",
    "row 6",
    "row 7",
    "row 8",
    "row 9",
    "row 10",
    "row 11",
    "row 12",
    "row 13",
    "row 14",
    "row 15",
    "row 16",
    "row 17",
    "row 18",
    "row 19",
    "row 20",
    "row 21",
    "row 22",
    "row 23",
    "row 24",
    "row 25",
    "row 26",
    "row 27",
    "row 28",
    // Outcomes of commands.
    "outcome OK",
    "outcome CONFLICT",
    "outcome UNKNOWN_SALE",
    "outcome UNKNOWN_SKU",
    "outcome UNKNOWN_POOL",
    "outcome UNKNOWN_RESERVATION",
    "outcome UNKNOWN_ATTEMPT",
    "outcome TOO_LATE",
    "outcome SALE_NOT_OPEN",
    "outcome SALE_CLOSED",
    "outcome WRONG_STATE",
    "outcome NOT_ALLOWED",
    "outcome TOO_MANY_ATTEMPTS",
    "outcome COUNTER_MISMATCH",
    "outcome NOT_ENOUGH_UNITS",
    "outcome LIMIT_REACHED",
    "outcome SOLD_OUT",
    // Crashes.
    "crash kill",
    "crash power cut",
    "crash power cut in a write or sync",
    "crash power cut in recovery",
    "crash clean stop",
    "crash after a storage error",
    // Faults of the disk.
    "disk device error",
    "disk short write",
    "disk lying sync",
    "disk full",
    "disk read error",
    "disk bit flip refused",
    "disk bit flip harmless",
    "disk bit flip noticed by a token",
    // Faults of network, clock and provider.
    "net request lost",
    "net request doubled",
    "net reply lost",
    "net message delayed",
    "clock step forward",
    "clock step back",
    "clock step while down",
    "news late",
    "news lost",
    "news doubled",
    "news contradicts",
    "buyer never pays",
    // Ways of the node.
    "snapshot written",
    "batch served",
    "events read",
    "deadline passed",
    "space refused",
    "recovered unacknowledged events",
    "lost unacknowledged events",
    "retaken from buffer",
    "refund recorded",
    "brake held expiry back",
    "split persons",
    "outage credited",
    "settled in liveness mode",
    "fault of a stopped node",
];

impl Cover {
    pub(crate) fn hit(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub(crate) fn add(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            *self.counts.entry(name).or_default() += count;
        }
    }

    /// How often something was met.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Everything that was met, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(name, count)| (*name, *count))
    }

    /// Adds what another run met.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in other.iter() {
            self.add(name, count);
        }
    }

    /// What was required and not met.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let is_missing = |name: &&str| self.count(name) == 0;
        REQUIRED.iter().copied().filter(is_missing).collect()
    }
}
