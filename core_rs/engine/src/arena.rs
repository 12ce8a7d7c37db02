//! Owns the growing array in which entities live: a slot number never changes, growth moves
//! nothing, and a frozen copy costs a step a chunk, so that no command waits for a copy of
//! everything.
//!
//! Must not know what it holds. Next: `table.rs`.

use alloc::sync::Arc;
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

/// Entities in a chunk: some 50 KiB of reservations. A freeze takes a step for each, and the first
/// write into each after a freeze copies it, so neither may be large.
const CHUNK_LEN: usize = 512;

/// A run of entities, the ledger's alone or shared with a frozen copy.
///
/// A chunk of the ledger's own is written without an atomic instruction; that is why sharing is a
/// variant and not always an `Arc`.
#[derive(Clone, Debug)]
enum Chunk<T> {
    Owned(Vec<T>),
    Shared(Arc<Vec<T>>),
}

impl<T> Chunk<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::Owned(values) => values,
            Self::Shared(values) => values,
        }
    }
}

impl<T: Clone> Chunk<T> {
    /// The values to write; copies them if a frozen copy still reads them.
    fn to_mut(&mut self) -> &mut Vec<T> {
        if let Self::Shared(values) = self {
            let values = core::mem::take(values);
            *self = Self::Owned(Arc::try_unwrap(values).unwrap_or_else(|kept| copy(&kept)));
        }
        match self {
            Self::Owned(values) => values,
            Self::Shared(_) => unreachable!("it was just made the ledger's own"),
        }
    }

    /// Another holder of the same values.
    fn share(&mut self) -> Self {
        if let Self::Owned(values) = self {
            *self = Self::Shared(Arc::new(core::mem::take(values)));
        }
        match self {
            Self::Shared(values) => Self::Shared(Arc::clone(values)),
            Self::Owned(_) => unreachable!("it was just made to be shared"),
        }
    }
}

/// A copy with the room of a whole chunk, because the last chunk still grows.
fn copy<T: Clone>(values: &[T]) -> Vec<T> {
    let mut copy = Vec::with_capacity(CHUNK_LEN);
    copy.extend_from_slice(values);
    copy
}

/// An array that grows by whole chunks.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Chunk<T>>,
    len: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Arena<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The slot that the next push fills.
    pub(crate) fn next_slot(&self) -> Slot {
        Slot::try_from(self.len).expect("limits keep every count under 2^31")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(Chunk::as_slice)
    }

    /// Entities with their slots, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Slot, &T)> {
        (0..).zip(self.iter())
    }
}

impl<T: Clone> Arena<T> {
    pub(crate) fn push(&mut self, value: T) -> Slot {
        let slot = self.next_slot();
        if self.len.is_multiple_of(CHUNK_LEN) {
            self.chunks
                .push(Chunk::Owned(Vec::with_capacity(CHUNK_LEN)));
        }
        self.chunks
            .last_mut()
            .expect("a chunk with room was just ensured")
            .to_mut()
            .push(value);
        self.len += 1;
        slot
    }

    /// The same entities, kept as they are while this array goes on; takes a step a chunk.
    pub(crate) fn freeze(&mut self) -> Self {
        Self {
            chunks: self.chunks.iter_mut().map(Chunk::share).collect(),
            len: self.len,
        }
    }
}

impl<T> Index<Slot> for Arena<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        let place = slot as usize;
        &self.chunks[place / CHUNK_LEN].as_slice()[place % CHUNK_LEN]
    }
}

impl<T: Clone> IndexMut<Slot> for Arena<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        let place = slot as usize;
        &mut self.chunks[place / CHUNK_LEN].to_mut()[place % CHUNK_LEN]
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

impl<'de, T: Clone + Deserialize<'de>> Deserialize<'de> for Arena<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Filler<T>(PhantomData<T>);

        impl<'de, T: Clone + Deserialize<'de>> Visitor<'de> for Filler<T> {
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

    #[test]
    fn a_frozen_copy_stays_as_it_was() {
        let mut arena = Arena::default();
        let count = Slot::try_from(CHUNK_LEN).expect("small") + 7;
        for value in 0..count {
            arena.push(value);
        }
        let frozen = arena.freeze();
        let frozen_again = arena.freeze();
        for slot in (0..count).step_by(3) {
            arena[slot] += 1_000;
        }
        arena.push(5);

        for frozen in [frozen, frozen_again] {
            assert_eq!(count as usize, frozen.len());
            assert!(frozen.entries().all(|(slot, value)| slot == *value));
        }
        assert_eq!(1_000, arena[0]);
        assert_eq!(1, arena[1]);
        assert_eq!(5, arena[count]);
    }

    #[test]
    fn a_chunk_that_nobody_else_reads_any_more_is_written_in_place() {
        let mut arena = Arena::default();
        arena.push(1_u64);
        drop(arena.freeze());
        let before = core::ptr::from_ref(&arena[0]);
        arena[0] = 2;

        assert_eq!(before, core::ptr::from_ref(&arena[0]));
    }
}
