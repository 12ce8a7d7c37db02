//! Owns the look-up from an id to a slot.
//!
//! Must not be iterated: its order is an accident. The seed is fixed because the same events must
//! build the same machine everywhere; ids come from services of ours, not from buyers.
//! Next: `state.rs`.

use core::hash::BuildHasher;

use foldhash::quality::FixedState;
use hashbrown::HashTable;

use crate::arena::Slot;

/// Any number serves; a fixed one makes every run the same.
const SEED: u64 = 0x6c61_7374_756e_6974;

/// The hasher of every table.
pub(crate) const HASHER: FixedState = FixedState::with_seed(SEED);

/// The fingerprint lets the table grow without touching the ids themselves.
#[derive(Clone, Copy, Debug)]
struct Entry {
    fingerprint: u32,
    slot: Slot,
}

/// Slots by id; the ids themselves live with their entities.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdTable {
    entries: HashTable<Entry>,
}

impl IdTable {
    /// The slot of `id`, where `id_of` tells the id of a slot.
    pub(crate) fn find<'a>(&self, id: &str, id_of: impl Fn(Slot) -> &'a str) -> Option<Slot> {
        let fingerprint = fingerprint(id);
        self.entries
            .find(spread(fingerprint), |entry| {
                entry.fingerprint == fingerprint && id_of(entry.slot) == id
            })
            .map(|entry| entry.slot)
    }

    /// Adds an id that is not there.
    pub(crate) fn insert(&mut self, id: &str, slot: Slot) {
        let fingerprint = fingerprint(id);
        let entry = Entry { fingerprint, slot };
        self.entries
            .insert_unique(spread(fingerprint), entry, |entry| {
                spread(entry.fingerprint)
            });
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a fingerprint is the lower half on purpose"
)]
fn fingerprint(id: &str) -> u32 {
    HASHER.hash_one(id) as u32
}

/// The table uses both ends of a hash: the multiplication brings 32 bits to all 64.
fn spread(fingerprint: u32) -> u64 {
    u64::from(fingerprint).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn finds_what_was_inserted_and_nothing_else() {
        let ids: Vec<String> = (0..10_000)
            .map(|number| format!("order-{number}"))
            .collect();
        let mut table = IdTable::default();
        for (slot, id) in (0..).zip(&ids) {
            assert_eq!(None, table.find(id, |slot| &ids[slot as usize]));
            table.insert(id, slot);
        }

        assert_eq!(ids.len(), table.entries.len());
        for (slot, id) in (0..).zip(&ids) {
            assert_eq!(Some(slot), table.find(id, |slot| &ids[slot as usize]));
        }
        assert_eq!(None, table.find("order-10000", |slot| &ids[slot as usize]));
    }
}
