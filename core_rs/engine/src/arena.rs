//! Owns the growing array in which entities live: a slot number never changes and growth moves
//! nothing, so that no command waits for a copy of everything.
//!
//! Must not know what it holds. Next: `table.rs`.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of an entity; [`NONE`] is "none".
pub(crate) type Slot = u32;

/// No entity. Half of four bytes is more than memory holds, so it is never a slot.
pub(crate) const NONE: Slot = Slot::MAX;

/// Entities in a chunk: some 100 KiB of reservations, small beside what a ledger holds.
const CHUNK_LEN: usize = 1_024;

/// An array that grows by whole chunks.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Arena<T> {
    pub(crate) fn len(&self) -> usize {
        self.chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK_LEN + last.len())
    }

    /// The slot that the next push fills.
    pub(crate) fn next_slot(&self) -> Slot {
        Slot::try_from(self.len()).expect("limits keep every count under 2^31")
    }

    pub(crate) fn push(&mut self, value: T) -> Slot {
        let slot = self.next_slot();
        if self
            .chunks
            .last()
            .is_none_or(|last| last.len() == CHUNK_LEN)
        {
            self.chunks.push(Vec::with_capacity(CHUNK_LEN));
        }
        self.chunks
            .last_mut()
            .expect("a chunk with room was just ensured")
            .push(value);
        slot
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Entities with their slots, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Slot, &T)> {
        (0..).zip(self.iter())
    }
}

impl<T> Index<Slot> for Arena<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        let place = slot as usize;
        &self.chunks[place / CHUNK_LEN][place % CHUNK_LEN]
    }
}

impl<T> IndexMut<Slot> for Arena<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        let place = slot as usize;
        &mut self.chunks[place / CHUNK_LEN][place % CHUNK_LEN]
    }
}

impl<T: Serialize> Serialize for Arena<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        for value in self.iter() {
            sequence.serialize_element(value)?;
        }
        sequence.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Arena<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Filler<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Filler<T> {
            type Value = Arena<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a sequence of entities")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Arena<T>, A::Error> {
                let mut arena = Arena::default();
                while let Some(value) = access.next_element()? {
                    arena.push(value);
                }
                Ok(arena)
            }
        }

        deserializer.deserialize_seq(Filler(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_stay_put_across_chunks() {
        let mut arena = Arena::default();
        let count = Slot::try_from(CHUNK_LEN).expect("small") * 2 + 1;
        for value in 0..count {
            assert_eq!(value, arena.push(value));
        }

        assert_eq!(count as usize, arena.len());
        assert!((0..count).all(|slot| arena[slot] == slot));
        assert!(arena.entries().all(|(slot, value)| slot == *value));
    }
}
