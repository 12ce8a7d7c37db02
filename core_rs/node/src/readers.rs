//! Named readers of the events and how far each has come, so that what they need is kept.
//!
//! Owns: the list, bounded. Must not: remove anything. Where next: `retention.rs`, which asks for
//! the slowest; `snapshots.rs`, with which the list survives a restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastunit_engine::{Millis, Sequence, is_id};
use lastunit_wire::Fault;

use crate::faults;
use crate::lane_lock::Urgency;
use crate::shared::Shared;

/// Readers that can be kept; each is a service of ours, so there are a handful.
pub(crate) const READER_COUNT_MAX: usize = 64;

/// How far one reader has come, and when it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    /// The last event that it has.
    pub(crate) sequence: Sequence,
    /// Ledger time of its last request.
    pub(crate) seen_at: Millis,
}

/// No room for another reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadersFull;

/// Notes a reader that asks for events after `after`.
pub(crate) fn note(shared: &Shared, reader_id: &str, after: Sequence) -> Result<(), Fault> {
    if !is_id(reader_id) {
        return Err(faults::reader_invalid());
    }
    let mut core = shared.lock(Urgency::Ordinary)?;
    let now = core.clock.now();
    drop(core);
    let noted = shared.readers.note(reader_id, after, now);
    noted.map_err(|ReadersFull| faults::readers_full(READER_COUNT_MAX))
}

/// The named readers, by name.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    /// Held for a look or a change; a panic cannot leave it half changed.
    list: Mutex<BTreeMap<String, Reader>>,
}

impl Readers {
    /// Notes how far a reader has come. It may have gone back, to a copy of its own state.
    pub(crate) fn note(
        &self,
        name: &str,
        sequence: Sequence,
        seen_at: Millis,
    ) -> Result<(), ReadersFull> {
        let mut list = self.list();
        if list.len() >= READER_COUNT_MAX && !list.contains_key(name) {
            return Err(ReadersFull);
        }
        list.insert(name.to_owned(), Reader { sequence, seen_at });
        Ok(())
    }

    /// Forgets readers that were not seen since.
    pub(crate) fn forget_before(&self, seen_at: Millis) {
        self.list().retain(|_, reader| reader.seen_at >= seen_at);
    }

    /// The last event that every reader has; None without a reader.
    pub(crate) fn slowest(&self) -> Option<Sequence> {
        self.list().values().map(|reader| reader.sequence).min()
    }

    /// All readers, by name.
    pub(crate) fn all(&self) -> BTreeMap<String, Reader> {
        self.list().clone()
    }

    /// Takes over what a snapshot kept.
    pub(crate) fn take_over(&self, other: &Self) {
        self.list().clone_from(&other.list());
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, reader) in self.list().iter() {
            bytes.push(u8::try_from(name.len()).expect("a name has 64 bytes at most"));
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&reader.sequence.to_le_bytes());
            bytes.extend_from_slice(&reader.seen_at.to_le_bytes());
        }
        bytes
    }

    /// Reads what `to_bytes` wrote; None if it is something else.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let readers = Self::default();
        while let Some((length, rest)) = bytes.split_first() {
            let (name, rest) = rest.split_at_checked(usize::from(*length))?;
            let (sequence, rest) = rest.split_first_chunk()?;
            let (seen_at, rest) = rest.split_first_chunk()?;
            let name = std::str::from_utf8(name).ok()?;
            let sequence = Sequence::from_le_bytes(*sequence);
            readers
                .note(name, sequence, Millis::from_le_bytes(*seen_at))
                .ok()?;
            bytes = rest;
        }
        Some(readers)
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<String, Reader>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowest_reader_counts_until_it_is_forgotten() {
        let readers = Readers::default();
        assert_eq!(None, readers.slowest());
        readers.note("order", 50, 1_000).expect("room");
        readers.note("payment", 30, 500).expect("room");
        assert_eq!(Some(30), readers.slowest());

        readers.forget_before(501);
        assert_eq!(Some(50), readers.slowest());
        readers.note("order", 20, 1_001).expect("it went back");
        assert_eq!(Some(20), readers.slowest());
    }

    #[test]
    fn readers_at_their_limit_pass_and_one_more_is_refused() {
        let readers = Readers::default();
        for number in 0..READER_COUNT_MAX {
            readers.note(&number.to_string(), 1, 1).expect("room");
        }
        assert_eq!(Err(ReadersFull), readers.note("another", 1, 1));
        assert_eq!(Ok(()), readers.note("7", 2, 2));
    }

    #[test]
    fn bytes_give_back_what_was_written() {
        let readers = Readers::default();
        readers.note("order", 50, 1_000).expect("room");
        readers.note("payment.2", 0, -3).expect("room");
        let bytes = readers.to_bytes();
        let read = Readers::from_bytes(&bytes).expect("was just written");

        assert_eq!(readers.all(), read.all());
        assert!(Readers::from_bytes(&bytes[..bytes.len() - 1]).is_none());
    }
}
