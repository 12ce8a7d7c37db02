//! What the writer, the readers and the callers of one open journal share.
//!
//! Owns the durable end, the index that finds a sequence, and the poison. The index is held for a
//! look-up or an insertion, never during disk work.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::JournalError;
use crate::limits::{HEADER_BYTES, MARK_BYTES};
use crate::position::Position;
use crate::slot::JournalId;
use crate::storage::Storage;

/// A record to start a walk from: its place within a segment and its first sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) first_sequence: i64,
    pub(crate) offset: u32,
}

/// Length of a segment and the marks in it, in rising order.
#[derive(Debug)]
pub(crate) struct IndexEntry {
    pub(crate) segment_bytes: u32,
    pub(crate) marks: Vec<Mark>,
}

impl IndexEntry {
    fn marks_up_to(&self, offset: u32) -> usize {
        self.marks.partition_point(|mark| mark.offset <= offset)
    }
}

/// Which sequence stands where, and how far it is durable.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) durable_end: Position,
    pub(crate) durable_sequence: i64,
    pub(crate) segments: BTreeMap<u32, IndexEntry>,
}

impl Index {
    pub(crate) fn new(segments: &BTreeMap<u32, u32>, end: Position) -> Self {
        let mut index = Self {
            durable_end: end,
            durable_sequence: 0,
            segments: BTreeMap::new(),
        };
        for (number, segment_bytes) in segments {
            index.add_segment(*number, *segment_bytes);
        }
        index
    }

    /// Notes a record, unless the walk from the mark before it is short anyway.
    pub(crate) fn mark(&mut self, position: Position, first_sequence: i64) {
        if !self.is_mark_due(position) {
            return;
        }
        if let Some(entry) = self.segments.get_mut(&position.segment) {
            let at = entry.marks_up_to(position.offset);
            let mark = Mark {
                first_sequence,
                offset: position.offset,
            };
            entry.marks.insert(at, mark);
        }
    }

    pub(crate) fn is_mark_due(&self, position: Position) -> bool {
        let Some(entry) = self.segments.get(&position.segment) else {
            return false;
        };
        let before = entry.marks_up_to(position.offset).checked_sub(1);
        before.map_or_else(
            || entry.marks.is_empty() || position.offset == HEADER_BYTES,
            |before| position.offset - entry.marks[before].offset >= MARK_BYTES,
        )
    }

    /// Number of the first segment that is there.
    pub(crate) fn first_segment(&self) -> u32 {
        let first = self.segments.first_key_value();
        first.map_or(1, |(number, _)| *number)
    }

    /// Returns the last known record of the segment that starts at or before the sequence.
    pub(crate) fn nearest(&self, number: u32, sequence: i64) -> Option<Position> {
        let marks = &self.segments.get(&number)?.marks;
        let behind = marks.partition_point(|mark| mark.first_sequence <= sequence);
        let mark = marks[..behind].last()?;
        Some(Position::new(number, mark.offset))
    }

    /// Returns the sequence that the segment starts with, if it is known.
    pub(crate) fn start_sequence(&self, number: u32) -> Option<i64> {
        let mark = self.segments.get(&number)?.marks.first()?;
        (mark.offset == HEADER_BYTES).then_some(mark.first_sequence)
    }

    /// Length of the segment, and how much of it a reader may look at.
    pub(crate) fn readable_bytes(&self, number: u32) -> Option<(u32, u32)> {
        let segment_bytes = self.segments.get(&number)?.segment_bytes;
        let is_last = number == self.durable_end.segment;
        Some((
            segment_bytes,
            if is_last {
                self.durable_end.offset
            } else {
                segment_bytes
            },
        ))
    }

    /// How many segments there are, prepared ones included.
    pub(crate) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Bytes of every segment, prepared ones included.
    pub(crate) fn total_bytes(&self) -> u64 {
        let bytes = self.segments.values();
        bytes.map(|entry| u64::from(entry.segment_bytes)).sum()
    }

    /// Takes in which segments another process has added and removed.
    pub(crate) fn keep_segments(&mut self, segments: &BTreeMap<u32, u32>) {
        self.segments
            .retain(|number, _| segments.contains_key(number));
        for (number, segment_bytes) in segments {
            if !self.segments.contains_key(number) {
                self.add_segment(*number, *segment_bytes);
            }
        }
    }

    pub(crate) fn add_segment(&mut self, number: u32, segment_bytes: u32) {
        let entry = IndexEntry {
            segment_bytes,
            marks: Vec::new(),
        };
        self.segments.insert(number, entry);
    }
}

/// One open (or looked at) journal.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) id: JournalId,
    /// Many readers look up, one writer publishes after each flush.
    index: RwLock<Index>,
    /// The first failure. Set once: a journal that failed never becomes whole again by itself.
    poison: OnceLock<String>,
}

impl Shared {
    pub(crate) fn new(storage: Arc<dyn Storage>, id: JournalId, index: Index) -> Self {
        Self {
            storage,
            id,
            index: RwLock::new(index),
            poison: OnceLock::new(),
        }
    }

    // A panic while the index is held leaves marks that are all true, so the lock's own poison is
    // passed over.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn poison_cause(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    pub(crate) fn check_poison(&self) -> Result<(), JournalError> {
        self.poison_cause().map_or(Ok(()), |cause| {
            Err(JournalError::Poisoned {
                cause: cause.to_owned(),
            })
        })
    }

    /// Stops all writing for the life of this journal, and passes the error on.
    pub(crate) fn fail(&self, error: JournalError) -> JournalError {
        // Only the first cause counts; what follows it is its consequence.
        let _ = self.poison.set(error.to_string());
        error
    }

    /// As `fail`, but a full disk only refuses what does not need to be there yet.
    pub(crate) fn fail_unless_full(&self, error: JournalError) -> JournalError {
        if error.is_disk_full() {
            error
        } else {
            self.fail(error)
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
