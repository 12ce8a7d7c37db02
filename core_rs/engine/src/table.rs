//! Owns the look-up from an id to a slot.
//!
//! Must not be iterated: its order is an accident. The seed is fixed because the same events must
//! build the same machine everywhere; ids come from services of ours, not from buyers.
//! Next: `state.rs`.

use alloc::vec::Vec;
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
///
/// A table that grows moves all it has, so it is cut into shards: one that grows moves a small part
/// and no command waits for long.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdTable {
    shards: Vec<HashTable<Entry>>,
    count: usize,
    bytes: usize,
}

/// Shards of a table. With 10 million ids one has 20,000, moved in some 200 microseconds.
const SHARD_COUNT: usize = 512;

impl IdTable {
    /// The slot of `id`, where `id_of` tells the id of a slot.
    pub(crate) fn find<'a>(&self, id: &str, id_of: impl Fn(Slot) -> &'a str) -> Option<Slot> {
        let hash = HASHER.hash_one(id);
        let fingerprint = fingerprint(hash);
        self.shards
            .get(shard_of(hash))?
            .find(spread(fingerprint), |entry| {
                entry.fingerprint == fingerprint && id_of(entry.slot) == id
            })
            .map(|entry| entry.slot)
    }

    /// How many ids there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes room for `count` ids in all.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.ensure_shards();
        for shard in &mut self.shards {
            // Some shards get more than their part: a sixteenth is plenty at these sizes.
            let part = count / SHARD_COUNT;
            shard.reserve((part + part / 16).saturating_sub(shard.len()), spread_of);
        }
        self.bytes = self.shards.iter().map(HashTable::allocation_size).sum();
    }

    /// Adds an id that is not there.
    pub(crate) fn insert(&mut self, id: &str, slot: Slot) {
        self.ensure_shards();
        let hash = HASHER.hash_one(id);
        let fingerprint = fingerprint(hash);
        let shard = &mut self.shards[shard_of(hash)];
        let is_full = shard.len() == shard.capacity();
        let before = if is_full { shard.allocation_size() } else { 0 };
        let entry = Entry { fingerprint, slot };
        shard.insert_unique(spread(fingerprint), entry, spread_of);
        if is_full {
            self.bytes += shard.allocation_size() - before;
        }
        self.count += 1;
    }

    /// Takes out the id of a slot; gives memory back when most of it is unused.
    ///
    /// # Panics
    /// If it is not there.
    pub(crate) fn remove(&mut self, id: &str, slot: Slot) {
        let hash = HASHER.hash_one(id);
        let shard = &mut self.shards[shard_of(hash)];
        let entry = shard.find_entry(spread(fingerprint(hash)), |entry| entry.slot == slot);
        entry.expect("an entity is found by its id").remove();
        self.count -= 1;
        if shard.len() < shard.capacity() / 8 {
            let before = shard.allocation_size();
            shard.shrink_to(shard.len() * 2, spread_of);
            self.bytes -= before - shard.allocation_size();
        }
    }

    /// An empty ledger, of which tests and frozen copies make many, has no shards.
    fn ensure_shards(&mut self) {
        if self.shards.is_empty() {
            self.shards.resize_with(SHARD_COUNT, HashTable::new);
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the table hands out references"
)]
fn spread_of(entry: &Entry) -> u64 {
    spread(entry.fingerprint)
}

fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARD_COUNT
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a fingerprint is the lower half on purpose"
)]
fn fingerprint(hash: u64) -> u32 {
    hash as u32
}

/// The table uses both ends of a hash: the multiplication brings 32 bits to all 64.
fn spread(fingerprint: u32) -> u64 {
    u64::from(fingerprint).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

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

        assert_eq!(ids.len(), table.len());
        for (slot, id) in (0..).zip(&ids) {
            assert_eq!(Some(slot), table.find(id, |slot| &ids[slot as usize]));
        }
        assert_eq!(None, table.find("order-10000", |slot| &ids[slot as usize]));

        let full = table.bytes();
        for (slot, id) in (0..).zip(&ids) {
            table.remove(id, slot);
            assert_eq!(None, table.find(id, |slot| &ids[slot as usize]));
        }
        assert_eq!(0, table.len());
        assert!(
            table.bytes() < full / 3,
            "{} of {full} bytes",
            table.bytes()
        );
        let there: usize = table.shards.iter().map(HashTable::allocation_size).sum();
        assert_eq!(there, table.bytes());
    }
}
