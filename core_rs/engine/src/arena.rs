//! Owns the growing array in which entities live: a slot number never changes while its entity
//! lives, growth moves nothing, and a frozen copy costs a step a chunk, so that no command waits
//! for a copy of everything.
//!
//! A slot that fell vacant is filled again, the lowest first: which slot an entity gets follows
//! from which are in use and nothing else. Must not know what it holds. Next: `table.rs`.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Index, IndexMut};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::footprint::HeapBytes;

/// The number of an entity; [`NONE`] is "none".
pub(crate) type Slot = u32;

/// No entity. Half of four bytes is more than memory holds, so it is never a slot.
pub(crate) const NONE: Slot = Slot::MAX;

/// Entities in a chunk: some 64 KiB of reservations. A freeze takes a step for each, and the first
/// write into each after a freeze copies it, so neither may be large.
const CHUNK_LEN: usize = 512;

/// Slots, vacant ones in between.
type Places<T> = Vec<Option<T>>;

/// A run of slots, the ledger's alone or shared with a frozen copy. One that is wholly vacant is
/// empty and takes no memory.
///
/// A chunk of the ledger's own is written without an atomic instruction; that is why sharing is a
/// variant and not always an `Arc`.
#[derive(Clone, Debug)]
enum Chunk<T> {
    Owned(Places<T>),
    Shared(Arc<Places<T>>),
}

impl<T> Chunk<T> {
    fn as_slice(&self) -> &[Option<T>] {
        match self {
            Self::Owned(places) => places,
            Self::Shared(places) => places,
        }
    }
}

impl<T: Clone> Chunk<T> {
    /// The places to write; copies them if a frozen copy still reads them.
    #[inline]
    fn to_mut(&mut self) -> &mut Places<T> {
        if let Self::Shared(places) = self {
            let places = core::mem::take(places);
            *self = Self::Owned(Arc::try_unwrap(places).unwrap_or_else(|kept| copy(&kept)));
        }
        match self {
            Self::Owned(places) => places,
            Self::Shared(_) => unreachable!("it was just made the ledger's own"),
        }
    }

    /// Another holder of the same places.
    fn share(&mut self) -> Self {
        if let Self::Owned(places) = self {
            *self = Self::Shared(Arc::new(core::mem::take(places)));
        }
        match self {
            Self::Shared(places) => Self::Shared(Arc::clone(places)),
            Self::Owned(_) => unreachable!("it was just made to be shared"),
        }
    }
}

/// A copy with the room of a whole chunk, because the last chunk still grows.
#[cold]
fn copy<T: Clone>(places: &[Option<T>]) -> Places<T> {
    let mut copy = Vec::with_capacity(CHUNK_LEN);
    copy.extend_from_slice(places);
    copy
}

/// The vacant places of a chunk, a bit each.
type Vacancies = [u64; CHUNK_LEN / 64];

/// An array that grows by whole chunks.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T> {
    chunks: Vec<Chunk<T>>,
    /// Slots up to the last in use.
    extent: usize,
    /// Slots in use.
    count: usize,
    /// Chunks that take memory.
    chunk_count: usize,
    /// What the entities have outside of their slots.
    heap_bytes: usize,
    /// Vacant places under `extent`, by chunk.
    vacancies: BTreeMap<usize, Vacancies>,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            extent: 0,
            count: 0,
            chunk_count: 0,
            heap_bytes: 0,
            vacancies: BTreeMap::new(),
        }
    }
}

impl<T> Arena<T> {
    /// How many entities there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The slot after the last in use.
    pub(crate) fn end(&self) -> Slot {
        slot_of(self.extent)
    }

    /// The slot that the next insertion fills.
    pub(crate) fn next_slot(&self) -> Slot {
        match self.vacancies.first_key_value() {
            Some((chunk, vacancies)) => slot_of(chunk * CHUNK_LEN + lowest(vacancies)),
            None => slot_of(self.extent),
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.heap_bytes
            + self.chunk_count * CHUNK_LEN * size_of::<Option<T>>()
            + self.chunks.capacity() * size_of::<Chunk<T>>()
            + self.vacancies.len() * size_of::<(usize, Vacancies)>()
    }

    /// The entity in a slot, if there is one.
    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        let place = slot as usize;
        let chunk = self.chunks.get(place / CHUNK_LEN)?;
        chunk.as_slice().get(place % CHUNK_LEN)?.as_ref()
    }

    /// Entities with their slots, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Slot, &T)> {
        let starts = (0..).step_by(CHUNK_LEN);
        starts.zip(&self.chunks).flat_map(|(start, chunk)| {
            let places = (start..).zip(chunk.as_slice());
            places.filter_map(|(slot, place)| place.as_ref().map(|value| (slot, value)))
        })
    }

    /// Entities in order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries().map(|(_, value)| value)
    }
}

impl<T: Clone + HeapBytes> Arena<T> {
    /// Puts an entity into [`Arena::next_slot`].
    pub(crate) fn insert(&mut self, value: T) -> Slot {
        self.count += 1;
        self.heap_bytes += value.heap_bytes();
        if self.vacancies.is_empty() {
            return self.push(Some(value));
        }
        let slot = self.next_slot();
        let (chunk, place) = place_of(slot);
        let mut entry = self
            .vacancies
            .first_entry()
            .expect("a vacancy was just found");
        let vacancies = entry.get_mut();
        vacancies[place / 64] &= !(1 << (place % 64));
        if vacancies.iter().all(|word| *word == 0) {
            entry.remove();
        }
        let places = self.chunks[chunk].to_mut();
        if places.is_empty() {
            // It was wholly vacant; only the last chunk is shorter than a chunk.
            places.reserve_exact(CHUNK_LEN);
            places.resize(CHUNK_LEN, None);
            self.chunk_count += 1;
        }
        places[place] = Some(value);
        slot
    }

    fn push(&mut self, value: Option<T>) -> Slot {
        let slot = slot_of(self.extent);
        if self.extent.is_multiple_of(CHUNK_LEN) {
            self.chunks
                .push(Chunk::Owned(Vec::with_capacity(CHUNK_LEN)));
            self.chunk_count += 1;
        }
        self.chunks
            .last_mut()
            .expect("a chunk with room was just ensured")
            .to_mut()
            .push(value);
        self.extent += 1;
        slot
    }

    /// Takes an entity out; its slot falls vacant.
    ///
    /// # Panics
    /// If there is none in the slot.
    pub(crate) fn remove(&mut self, slot: Slot) -> T {
        let (chunk, place) = place_of(slot);
        let places = self.chunks[chunk].to_mut();
        let value = places[place].take().expect("a slot in use");
        self.count -= 1;
        self.heap_bytes -= value.heap_bytes();
        let vacancies = self.vacancies.entry(chunk).or_default();
        vacancies[place / 64] |= 1 << (place % 64);
        if vacancies.iter().all(|word| *word == u64::MAX) {
            *places = Vec::new();
            self.chunk_count -= 1;
        }
        if slot_of(self.extent) == slot + 1 {
            self.trim();
        }
        value
    }

    /// Takes vacant places off the end, so that `extent` follows from the slots in use.
    fn trim(&mut self) {
        while self.extent > 0 {
            let (chunk, place) = place_of(slot_of(self.extent - 1));
            let Some(vacancies) = self.vacancies.get_mut(&chunk) else {
                return;
            };
            if vacancies[place / 64] & (1 << (place % 64)) == 0 {
                return;
            }
            let is_released = self.chunks[chunk].as_slice().is_empty();
            if !is_released {
                vacancies[place / 64] &= !(1 << (place % 64));
                self.chunks[chunk].to_mut().pop();
                self.extent -= 1;
            }
            if is_released || place == 0 {
                self.extent = chunk * CHUNK_LEN;
                self.chunks.pop();
                self.chunk_count -= usize::from(!is_released);
                self.vacancies.remove(&chunk);
            } else if vacancies.iter().all(|word| *word == 0) {
                self.vacancies.remove(&chunk);
            }
        }
    }

    /// The same entities, kept as they are while this array goes on; takes a step a chunk.
    pub(crate) fn freeze(&mut self) -> Self {
        Self {
            chunks: self.chunks.iter_mut().map(Chunk::share).collect(),
            extent: self.extent,
            count: self.count,
            chunk_count: self.chunk_count,
            heap_bytes: self.heap_bytes,
            vacancies: BTreeMap::new(),
        }
    }

    /// Finds the vacant places after a snapshot was read.
    fn find_vacancies(&mut self) {
        for chunk in 0..self.chunks.len() {
            let places = self.chunks[chunk].to_mut();
            let mut vacancies = Vacancies::default();
            for place in (0..places.len()).filter(|place| places[*place].is_none()) {
                vacancies[place / 64] |= 1 << (place % 64);
            }
            if vacancies.iter().all(|word| *word == u64::MAX) {
                *places = Vec::new();
                self.chunk_count -= 1;
            }
            if vacancies.iter().any(|word| *word != 0) {
                self.vacancies.insert(chunk, vacancies);
            }
        }
        self.trim();
    }
}

fn slot_of(place: usize) -> Slot {
    Slot::try_from(place).expect("limits keep every count under 2^31")
}

#[inline]
fn place_of(slot: Slot) -> (usize, usize) {
    (slot as usize / CHUNK_LEN, slot as usize % CHUNK_LEN)
}

fn lowest(vacancies: &Vacancies) -> usize {
    let word = vacancies.iter().position(|word| *word != 0);
    let word = word.expect("a chunk without a vacancy is not listed");
    word * 64 + vacancies[word].trailing_zeros() as usize
}

impl<T> Index<Slot> for Arena<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: Slot) -> &T {
        let (chunk, place) = place_of(slot);
        self.chunks[chunk].as_slice()[place]
            .as_ref()
            .expect("a slot in use")
    }
}

impl<T: Clone> IndexMut<Slot> for Arena<T> {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        let (chunk, place) = place_of(slot);
        self.chunks[chunk].to_mut()[place]
            .as_mut()
            .expect("a slot in use")
    }
}

impl<T: Serialize> Serialize for Arena<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut sequence = serializer.serialize_seq(Some(self.extent))?;
        for (number, chunk) in self.chunks.iter().enumerate() {
            let places = chunk.as_slice();
            for place in places {
                sequence.serialize_element(place)?;
            }
            // A wholly vacant chunk keeps no places.
            let length = CHUNK_LEN.min(self.extent - number * CHUNK_LEN);
            for _ in places.len()..length {
                sequence.serialize_element(&None::<T>)?;
            }
        }
        sequence.end()
    }
}

impl<'de, T: Clone + HeapBytes + Deserialize<'de>> Deserialize<'de> for Arena<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Filler<T>(PhantomData<T>);

        impl<'de, T: Clone + HeapBytes + Deserialize<'de>> Visitor<'de> for Filler<T> {
            type Value = Arena<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a sequence of entities")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Arena<T>, A::Error> {
                let mut arena = Arena::default();
                while let Some(place) = access.next_element::<Option<T>>()? {
                    if let Some(value) = &place {
                        arena.count += 1;
                        arena.heap_bytes += value.heap_bytes();
                    }
                    arena.push(place);
                }
                if arena.count < arena.extent {
                    arena.find_vacancies();
                }
                Ok(arena)
            }
        }

        deserializer.deserialize_seq(Filler(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;

    impl HeapBytes for Slot {
        fn heap_bytes(&self) -> usize {
            1
        }
    }

    impl HeapBytes for u64 {
        fn heap_bytes(&self) -> usize {
            2
        }
    }

    #[test]
    fn slots_stay_put_across_chunks() {
        let mut arena = Arena::default();
        let count = Slot::try_from(CHUNK_LEN).expect("small") * 2 + 1;
        for value in 0..count {
            assert_eq!(value, arena.insert(value));
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
            arena.insert(value);
        }
        let frozen = arena.freeze();
        let frozen_again = arena.freeze();
        for slot in (0..count).step_by(3) {
            arena[slot] += 1_000;
        }
        arena.remove(1);
        arena.insert(5);
        arena.insert(6);

        for frozen in [frozen, frozen_again] {
            assert_eq!(count as usize, frozen.len());
            assert!(frozen.entries().all(|(slot, value)| slot == *value));
        }
        assert_eq!((1_000, 5, 6), (arena[0], arena[1], arena[count]));
    }

    #[test]
    fn a_chunk_that_nobody_else_reads_any_more_is_written_in_place() {
        let mut arena = Arena::default();
        arena.insert(1_u64);
        drop(arena.freeze());
        let before = core::ptr::from_ref(&arena[0]);
        arena[0] = 2;

        assert_eq!(before, core::ptr::from_ref(&arena[0]));
    }

    #[test]
    fn the_lowest_vacant_slot_is_filled_whatever_happened_before() {
        let mut arena = Arena::default();
        let mut plain = BTreeMap::new();
        let mut random = 7_u64;
        // It fills and empties several chunks a few times over.
        for step in 0..12_000_u64 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let is_filling = (step / 3_000) % 2 == 0;
            if (random >> 33) % 10 < if is_filling { 7 } else { 2 } {
                let lowest = (0..=12_000)
                    .find(|slot| !plain.contains_key(slot))
                    .expect("endless");
                assert_eq!(lowest, arena.next_slot());
                assert_eq!(lowest, arena.insert(step));
                plain.insert(lowest, step);
            } else if let Some(slot) = plain
                .keys()
                .nth((random >> 40) as usize % plain.len().max(1))
            {
                let slot = *slot;
                assert_eq!(plain.remove(&slot), Some(arena.remove(slot)));
            }
            assert_eq!(plain.len(), arena.len());
            assert_eq!(
                plain.last_key_value().map_or(0, |(slot, _)| slot + 1),
                arena.end()
            );
            if step % 500 == 0 {
                check_whole(&arena, &plain);
                let bytes = postcard::to_allocvec(&arena).expect("has a form in bytes");
                let read: Arena<u64> = postcard::from_bytes(&bytes).expect("was just written");
                check_whole(&read, &plain);
                assert_eq!(
                    (arena.chunk_count, &arena.vacancies),
                    (read.chunk_count, &read.vacancies)
                );
            }
        }
    }

    fn check_whole(arena: &Arena<u64>, plain: &BTreeMap<Slot, u64>) {
        let entries = arena.entries().map(|(slot, value)| (slot, *value));
        assert!(entries.eq(plain.iter().map(|(slot, value)| (*slot, *value))));
        assert_eq!(2 * plain.len(), arena.heap_bytes);
        let held = arena
            .chunks
            .iter()
            .filter(|chunk| !chunk.as_slice().is_empty());
        assert_eq!(held.count(), arena.chunk_count);
    }
}
