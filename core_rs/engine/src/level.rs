//! Owns what buyers are told of a sku: the level, and when units may come back.
//!
//! Must not count what is not offered. Next: `query.rs`.

use crate::arena::Slot;
use crate::ids::{Millis, Units};
use crate::outcome::Level;
use crate::state::{Ledger, Pool};
use crate::view::Counters;

impl Ledger {
    /// The level of a rack, over its offered pools.
    pub(crate) fn level_of(&self, rack: Slot) -> Level {
        let counters = self.sum_of(rack, |pool| pool.is_offered);
        let percent = self
            .sale_at(self.rack_at(rack).sale)
            .policy
            .low_level_percent;
        level(&counters, percent)
    }

    /// The available units of the offered pools.
    pub(crate) fn offered_units(&self, rack: Slot) -> Units {
        let pools = self
            .rack_at(rack)
            .pools
            .iter()
            .map(|slot| self.pool_at(*slot));
        pools
            .filter(|pool| pool.is_offered)
            .map(|pool| pool.counters.available)
            .sum()
    }

    /// The counters of some of a rack's pools, summed.
    pub(crate) fn sum_of(&self, rack: Slot, is_wanted: impl Fn(&Pool) -> bool) -> Counters {
        let mut sum = Counters::default();
        for slot in &self.rack_at(rack).pools {
            let pool = self.pool_at(*slot);
            if is_wanted(pool) {
                sum.add(&pool.counters);
            }
        }
        sum
    }

    /// When the first held units may come back, but not before `now`.
    pub(crate) fn come_back_at(&self, rack: Slot, now: Millis) -> Option<Millis> {
        self.earliest_expiry(rack)
            .map(|expires_at| expires_at.max(now))
    }

    /// When the first held units of a rack may come back.
    pub(crate) fn earliest_expiry(&self, rack: Slot) -> Option<Millis> {
        self.rack_at(rack)
            .expiries
            .first_key_value()
            .map(|(expires_at, _)| *expires_at)
    }
}

impl Counters {
    /// Adds another pool's counters.
    pub fn add(&mut self, other: &Self) {
        self.supplied += other.supplied;
        self.withdrawn += other.withdrawn;
        self.written_off += other.written_off;
        self.available += other.available;
        self.buffer += other.buffer;
        self.held += other.held;
        self.paying += other.paying;
        self.overdue += other.overdue;
        self.sold += other.sold;
        self.quarantine += other.quarantine;
    }

    /// The units there are: what came in and did not go out.
    #[must_use]
    pub fn present(&self) -> Units {
        self.supplied - self.withdrawn - self.written_off
    }

    /// The sum over the places in which units stand; equals [`Counters::present`].
    #[must_use]
    pub fn placed(&self) -> Units {
        self.available
            + self.buffer
            + self.held
            + self.paying
            + self.overdue
            + self.sold
            + self.quarantine
    }
}

/// The level that these counters make.
pub(crate) fn level(counters: &Counters, low_level_percent: u32) -> Level {
    if counters.available > 0 {
        // 1e12 units of 64 pools times 100 is far below the end of i64.
        let bound = counters.present() * Units::from(low_level_percent);
        if counters.available * 100 <= bound {
            Level::Low
        } else {
            Level::Open
        }
    } else if counters.held > 0 {
        Level::HeldOut
    } else if counters.paying + counters.overdue > 0 {
        Level::PayingOut
    } else {
        Level::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(
        available: Units,
        held: Units,
        paying: Units,
        overdue: Units,
        sold: Units,
    ) -> Counters {
        let supplied = available + held + paying + overdue + sold;
        Counters {
            supplied,
            available,
            held,
            paying,
            overdue,
            sold,
            ..Counters::default()
        }
    }

    #[test]
    fn level_follows_the_first_place_that_has_units() {
        let table = [
            (counters(0, 0, 0, 0, 0), Level::Gone),
            (counters(100, 0, 0, 0, 0), Level::Open),
            (counters(11, 89, 0, 0, 0), Level::Open),
            (counters(10, 90, 0, 0, 0), Level::Low),
            (counters(1, 0, 0, 0, 99), Level::Low),
            (counters(0, 1, 99, 0, 0), Level::HeldOut),
            (counters(0, 0, 1, 0, 99), Level::PayingOut),
            (counters(0, 0, 0, 1, 99), Level::PayingOut),
            (counters(0, 0, 0, 0, 100), Level::Gone),
        ];
        for (counters, expected) in table {
            assert_eq!(expected, level(&counters, 10), "{counters:?}");
        }
    }

    #[test]
    fn low_is_never_told_at_zero_percent_and_always_at_a_hundred() {
        assert_eq!(Level::Open, level(&counters(1, 999, 0, 0, 0), 0));
        assert_eq!(Level::Low, level(&counters(1_000, 0, 0, 0, 0), 100));
    }
}
