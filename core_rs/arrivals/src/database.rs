//! The order database behind the credit window, as far as a recording tells of it.
//!
//! Owns: how fast granted reservations are persisted in a simulated run, and what is reported of
//! it. Must not: decide. Where next: `world.rs`.

use std::collections::VecDeque;

use lastunit_admission::{Nanos, Report};

const SECOND: u128 = 1_000_000_000;
/// Below this wait a report says what was asked of the database and not what it can do.
const BUSY: Nanos = 5_000_000;

/// Reservations that wait to be persisted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    /// Persisted in a second, in thousandths; None: as many as come.
    pace: Option<u64>,
    /// When each that waits was granted, oldest first.
    waiting: VecDeque<Nanos>,
    persisted_count: u64,
    last: Nanos,
    /// Left over from the last step, in thousandths of nanoseconds.
    remainder: u128,
}

impl Database {
    pub(crate) fn new(pace: Option<u64>) -> Self {
        Self {
            pace,
            ..Self::default()
        }
    }

    pub(crate) fn grant(&mut self, now: Nanos) {
        self.waiting.push_back(now);
    }

    /// Learns from two reports that follow each other: what a busy database persists is its pace.
    pub(crate) fn learn(&mut self, before: &Report, after: &Report, elapsed: Nanos) {
        let persisted = after.persisted_count.checked_sub(before.persisted_count);
        let Some(persisted) = persisted.filter(|_| before.generation == after.generation) else {
            return;
        };
        if after.oldest_wait < BUSY {
            self.pace = None;
        } else if elapsed > 0 {
            let pace = u128::from(persisted) * 1_000 * SECOND / u128::from(elapsed);
            self.pace = Some(u64::try_from(pace).unwrap_or(u64::MAX).max(1));
        }
    }

    /// Persists what it can until now, and says so.
    pub(crate) fn report(&mut self, now: Nanos) -> Report {
        let elapsed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        let most = match self.pace {
            None => u64::MAX,
            Some(pace) => {
                let parts = u128::from(pace) * u128::from(elapsed) + self.remainder;
                self.remainder = parts % (1_000 * SECOND);
                u64::try_from(parts / (1_000 * SECOND)).unwrap_or(u64::MAX)
            }
        };
        let count = most.min(self.waiting.len() as u64);
        self.waiting.drain(..usize::try_from(count).unwrap_or(0));
        self.persisted_count += count;
        if self.waiting.is_empty() {
            // A database with nothing to do saves nothing up.
            self.remainder = 0;
        }
        let oldest = self.waiting.front();
        Report {
            generation: 1,
            persisted_count: self.persisted_count,
            oldest_wait: oldest.map_or(0, |since| now.saturating_sub(*since)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_persists_at_its_pace_and_says_how_long_the_oldest_waits() {
        let mut database = Database::new(Some(10_000));
        for _ in 0..25 {
            database.grant(0);
        }
        let first = database.report(1_000_000_000);
        assert_eq!(
            (10, 1_000_000_000),
            (first.persisted_count, first.oldest_wait)
        );

        let last = database.report(3_000_000_000);
        assert_eq!((25, 0), (last.persisted_count, last.oldest_wait));
    }

    #[test]
    fn only_a_busy_database_tells_its_pace() {
        let report = |persisted_count, oldest_wait| Report {
            generation: 1,
            persisted_count,
            oldest_wait,
        };
        let mut database = Database::default();
        database.learn(&report(0, 0), &report(50, BUSY), 1_000_000_000);
        assert_eq!(Some(50_000), database.pace);

        database.learn(&report(50, BUSY), &report(60, 0), 1_000_000_000);
        assert_eq!(None, database.pace);
    }
}
