//! What is counted of arrivals, for the live policy and for the other one.
//!
//! Owns: the shapes. Must not: decide. Where next: `simulation.rs`.

use lastunit_admission::{Lane, Limit, Nanos};

use crate::arrival::Outcome;

/// What became of arrivals under one policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Let in.
    pub served: u64,
    /// Of these, reservations that the ledger granted, as far as that is known.
    pub granted: u64,
    /// Told at once that there is nothing left.
    pub hopeless: u64,
    /// Refused, by limit in the order of [`Limit::ALL`].
    pub refused: [u64; Limit::ALL.len()],
    /// Of all, those that waited for their lane before, let in or refused.
    pub waited: u64,
    /// How long these waited, added up.
    pub wait_total: Nanos,
    /// The longest that one of them waited.
    pub wait_max: Nanos,
}

impl Tally {
    /// Counts an arrival and how long it waited, 0 if it did not.
    pub(crate) fn count(&mut self, outcome: Outcome, waited: Nanos) {
        if waited > 0 {
            self.waited += 1;
            self.wait_total = self.wait_total.saturating_add(waited);
            self.wait_max = self.wait_max.max(waited);
        }
        match outcome {
            Outcome::Granted => {
                self.served += 1;
                self.granted += 1;
            }
            Outcome::NoEffect => self.served += 1,
            Outcome::Hopeless => self.hopeless += 1,
            Outcome::Refused(limit) => self.refused[limit as usize] += 1,
            Outcome::HopelessRefused => self.refused[Limit::LaneInFlight as usize] += 1,
        }
    }

    /// All that came.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.served + self.hopeless + self.refused_count()
    }

    /// All that were refused.
    #[must_use]
    pub fn refused_count(&self) -> u64 {
        self.refused.iter().sum()
    }
}

/// One lane under both policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRow {
    /// Which.
    pub lane: Lane,
    /// As recorded.
    pub live: Tally,
    /// As the other policy decides.
    pub forecast: Tally,
    /// The most that the other policy ever has in flight.
    pub in_flight_peak: u32,
    /// Recorded as let in, refused by the other policy.
    pub newly_refused: u64,
    /// Recorded as refused, let in by the other policy.
    pub newly_served: u64,
}

/// One caller under both policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRow {
    /// Who.
    pub name: Box<str>,
    /// As recorded.
    pub live: Tally,
    /// As the other policy decides.
    pub forecast: Tally,
}
