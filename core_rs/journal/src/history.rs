//! Removing segments that no recovery needs any more: the oldest first, one at a time.
//!
//! Owns the proof that a segment may go: the snapshots that are kept are whole and end behind it.
//! Must not decide who else still wants to read it; the caller does. Every removal is durable
//! before the next is begun, so that what is left never has a gap.

use std::collections::BTreeMap;

use crate::error::JournalError;
use crate::limits::{HEADER_BYTES, SNAPSHOT_COUNT_KEPT};
use crate::names;
use crate::position::Position;
use crate::recovery::after_witness;
use crate::shared::Shared;
use crate::slot::RecordHeader;
use crate::snapshot;
use crate::window::{Slot, Window};

/// The oldest segment of a journal, which recovery does not need any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldSegment {
    /// Its number.
    pub number: u32,
    /// Bytes that its removal frees.
    pub bytes: u32,
    /// The last event in it or before it, 0 if there is none.
    pub last_sequence: i64,
    /// Time of the record that follows it: nothing in it is younger.
    pub end_time_ms: i64,
}

/// What is known of the snapshots: where each ends, once every byte of it was checked.
#[derive(Debug, Default)]
pub(crate) struct History {
    checked: BTreeMap<i64, Position>,
}

impl History {
    /// Returns the oldest segment if recovery can do without it: it lies before the record that the
    /// older of the kept snapshots ends with, and both snapshots are whole.
    pub(crate) fn removable(
        &mut self,
        shared: &Shared,
    ) -> Result<Option<OldSegment>, JournalError> {
        let (first, entry_bytes) = {
            let index = shared.index();
            let first = index.first_segment();
            (
                first,
                index.readable_bytes(first).map_or(0, |bytes| bytes.0),
            )
        };
        let Some(bound) = self.bound(shared)? else {
            return Ok(None);
        };
        if first >= bound.segment {
            return Ok(None);
        }
        let next = first_record(shared, first + 1)?;
        Ok(Some(OldSegment {
            number: first,
            bytes: entry_bytes,
            last_sequence: next.first_sequence - 1,
            end_time_ms: next.time_ms,
        }))
    }

    /// Returns where the older of the kept snapshots ends; None while there are too few of them.
    fn bound(&mut self, shared: &Shared) -> Result<Option<Position>, JournalError> {
        let files = shared.storage.list();
        let files = files
            .map_err(|source| JournalError::storage("list", "the journal directory", source))?;
        let found: BTreeMap<i64, u64> = files
            .iter()
            .filter_map(|file| Some((names::parse_snapshot(&file.name)?, file.bytes)))
            .collect();
        self.checked
            .retain(|sequence, _| found.contains_key(sequence));
        let newest = found.iter().rev().take(SNAPSHOT_COUNT_KEPT);
        let mut ends = Vec::with_capacity(SNAPSHOT_COUNT_KEPT);
        for (sequence, file_bytes) in newest {
            ends.push(self.check(shared, *sequence, *file_bytes)?);
        }
        let is_enough = ends.len() == SNAPSHOT_COUNT_KEPT;
        Ok(ends.into_iter().min().filter(|_| is_enough))
    }

    /// Reads a snapshot back, once, before anything is removed because of it.
    fn check(
        &mut self,
        shared: &Shared,
        sequence: i64,
        file_bytes: u64,
    ) -> Result<Position, JournalError> {
        if let Some(end) = self.checked.get(&sequence) {
            return Ok(*end);
        }
        let storage = &*shared.storage;
        let place = (sequence, file_bytes);
        let header = snapshot::stream(storage, shared.id, place, &mut |_| {})?;
        let segment_bytes = {
            let index = shared.index();
            let bytes = index.readable_bytes(header.witness.segment);
            bytes.map_or(0, |bytes| bytes.0)
        };
        after_witness(storage, segment_bytes, &header)?;
        self.checked.insert(sequence, header.witness);
        Ok(header.witness)
    }
}

/// Removes a segment that was just found removable; durable when this returns.
///
/// First out of the index, so that no reader begins with it; a reader that is inside is told that
/// it was removed.
pub(crate) fn remove(shared: &Shared, number: u32) -> Result<(), JournalError> {
    shared.index_mut().segments.remove(&number);
    let name = names::segment(number);
    let fail = |operation| {
        let name = &name;
        move |source| shared.fail(JournalError::storage(operation, name, source))
    };
    shared.storage.remove(&name).map_err(fail("remove"))?;
    let synced = shared.storage.sync_directory();
    synced.map_err(fail("sync the directory of"))
}

fn first_record(shared: &Shared, number: u32) -> Result<RecordHeader, JournalError> {
    let readable = shared.index().readable_bytes(number);
    let (segment_bytes, _) = readable.unwrap_or_default();
    let mut window = Window::new(&*shared.storage, shared.id, number, segment_bytes);
    match window.slot(HEADER_BYTES)? {
        Slot::Record { header, .. } => Ok(header),
        Slot::Zero => Err(damaged_start(number, "no record, only zeros")),
        Slot::Bad(problem) => Err(damaged_start(number, problem)),
    }
}

fn damaged_start(number: u32, problem: &str) -> JournalError {
    let name = names::segment(number);
    crate::segment::damaged(&name, u64::from(HEADER_BYTES), problem)
}
