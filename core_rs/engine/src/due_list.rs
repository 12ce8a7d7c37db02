//! Owns the order of a sale's timers: by time, then by slot.
//!
//! Millions of reservations have one each, so an entry is one word: time is cut into eras of some
//! 17 minutes, and an entry is the time in its era and the slot. Must not know what a timer does.
//! Next: `timers.rs`.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::arena::Slot;
use crate::ids::Millis;

/// Bits of a time within an era; with the 32 of a slot they fit a word.
const ERA_BITS: u32 = 20;

/// Slots by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct DueList {
    eras: BTreeMap<i64, BTreeSet<u64>>,
    count: usize,
}

impl DueList {
    /// Adds an entry; says whether it was not there.
    pub(crate) fn insert(&mut self, time: Millis, slot: Slot) -> bool {
        let (era, entry) = parts(time, slot);
        let is_new = self.eras.entry(era).or_default().insert(entry);
        self.count += usize::from(is_new);
        is_new
    }

    /// Takes an entry out; says whether it was there.
    pub(crate) fn remove(&mut self, time: Millis, slot: Slot) -> bool {
        let (era, entry) = parts(time, slot);
        let Some(entries) = self.eras.get_mut(&era) else {
            return false;
        };
        let was_there = entries.remove(&entry);
        if entries.is_empty() {
            self.eras.remove(&era);
        }
        self.count -= usize::from(was_there);
        was_there
    }

    pub(crate) fn contains(&self, time: Millis, slot: Slot) -> bool {
        let (era, entry) = parts(time, slot);
        let entries = self.eras.get(&era);
        entries.is_some_and(|entries| entries.contains(&entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The first time.
    pub(crate) fn first(&self) -> Option<Millis> {
        self.iter().next().map(|(time, _)| time)
    }

    /// All entries in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Millis, Slot)> {
        self.eras.iter().flat_map(|(era, entries)| {
            let whole = move |entry: &u64| {
                let time = i64::try_from(entry >> 32).expect("the upper half is small");
                let slot = Slot::try_from(entry & u64::from(u32::MAX)).expect("the lower half");
                (era << ERA_BITS | time, slot)
            };
            entries.iter().map(whole)
        })
    }
}

fn parts(time: Millis, slot: Slot) -> (i64, u64) {
    let within = time & ((1 << ERA_BITS) - 1);
    let within = u64::try_from(within).expect("a masked number is not negative");
    (time >> ERA_BITS, within << 32 | u64::from(slot))
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;

    #[test]
    fn is_a_set_of_pairs_in_order() {
        let (mut list, mut plain) = (DueList::default(), BTreeSet::new());
        let mut random = 5_u64;
        for _ in 0..4_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let time = i64::try_from(random >> 40).expect("24 bits") - 100;
            let slot = Slot::try_from(random >> 20 & 3).expect("2 bits");
            let time = time >> (random >> 10 & 15);
            assert_eq!(plain.contains(&(time, slot)), list.contains(time, slot));
            if random >> 30 & 1 == 0 {
                assert_eq!(plain.insert((time, slot)), list.insert(time, slot));
            } else {
                assert_eq!(plain.remove(&(time, slot)), list.remove(time, slot));
            }
            assert_eq!(plain.len(), list.len());
            assert_eq!(plain.first().map(|pair| pair.0), list.first());
        }
        assert!(list.iter().eq(plain));
    }
}
