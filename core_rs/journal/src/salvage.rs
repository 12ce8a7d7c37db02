//! What can be saved of a damaged journal, and the copy that holds it.
//!
//! Owns the choice: the state that reaches furthest without a gap, from a snapshot or from the
//! first event on. Never writes to the damaged directory. What lies behind damage is not saved:
//! later commands were decided on a state that cannot be rebuilt.

use crate::directory::Directory;
use crate::error::JournalError;
use crate::limits::{CHUNK_BYTES, HEADER_BYTES};
use crate::names;
use crate::position::Position;
use crate::segment::{SegmentHeader, damaged};
use crate::snapshot::SnapshotHeader;
use crate::storage::Storage;
use crate::verify::{Run, VerifyReport, verify};

/// What a repaired copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvage {
    /// The snapshot it starts from; None if it starts with the first event.
    pub snapshot_sequence: Option<i64>,
    /// The last event it holds: the state is as of this one.
    pub last_sequence: i64,
    /// Events that are readable in the damaged journal, or were once written there, and are not in
    /// the copy: those behind the last one.
    pub lost_event_count: i64,
    /// Where it ends; what stands behind is left out.
    pub end: Position,
    /// First segment that is copied.
    pub(crate) first_segment: u32,
    /// Snapshots that are copied with it.
    pub(crate) snapshots: Vec<i64>,
}

/// Chooses what to save: the run of records that reaches furthest among those that a state leads
/// to.
pub(crate) fn choose(report: &VerifyReport) -> Option<Salvage> {
    let candidates = report.runs.iter().filter_map(|run| candidate(report, run));
    candidates.max_by_key(|it| it.last_sequence)
}

fn candidate(report: &VerifyReport, run: &Run) -> Option<Salvage> {
    let inside = |header: &&SnapshotHeader| {
        header.witness >= run.start && header.sequence <= run.last_sequence
    };
    let snapshots: Vec<&SnapshotHeader> = report.snapshots.iter().filter(inside).collect();
    let is_from_start = run.start == Position::new(1, HEADER_BYTES);
    let newest = snapshots.last();
    if newest.is_none() && !is_from_start {
        return None;
    }
    // A run that begins inside a segment is preceded by damage: copy from the next whole segment
    // on, unless a snapshot needs this one.
    let mut first_segment = run.start.segment;
    let needed = newest.map_or(first_segment, |header| header.witness.segment);
    let is_inside = run.start.offset > HEADER_BYTES;
    if is_inside && first_segment < needed {
        first_segment += 1;
    }
    Some(Salvage {
        snapshot_sequence: newest.map(|header| header.sequence),
        last_sequence: run.last_sequence,
        lost_event_count: report.highest_sequence - run.last_sequence,
        end: run.tail.position,
        first_segment,
        snapshots: snapshots
            .iter()
            .filter(|header| header.witness.segment >= first_segment)
            .map(|header| header.sequence)
            .collect(),
    })
}

/// Copies what can be saved of `source` into `target`, an empty directory, and checks the copy.
///
/// Returns what was found in the source and what the copy holds. Nothing is written to the source.
///
/// # Errors
/// `Damaged` if nothing can be saved or the target holds files, `Storage` if a file cannot be read
/// or written; then the target is of no use.
pub fn repair_copy(
    source: &dyn Storage,
    target: &dyn Storage,
) -> Result<(VerifyReport, VerifyReport), JournalError> {
    let report = verify(source)?;
    let nothing = || damaged(&names::segment(1), 0, "no state can be rebuilt from it");
    let salvage = report.salvage.clone().ok_or_else(nothing)?;
    let files = target.list();
    let files = files.map_err(|error| JournalError::storage("list", "the target", error))?;
    if let Some(file) = files.first() {
        let problem = "the target of a repair holds files already: name an empty directory";
        return Err(damaged(&file.name, 0, problem));
    }
    let directory = Directory::read_damaged(source)?;
    let id = directory.id.ok_or_else(nothing)?;
    for number in salvage.first_segment..=salvage.end.segment {
        let kept_bytes = if number == salvage.end.segment {
            salvage.end.offset
        } else {
            directory.segment_bytes(number)
        };
        let header = SegmentHeader {
            id,
            number,
            segment_bytes: directory.whole_bytes(number),
        };
        copy_segment(source, target, header, kept_bytes)?;
    }
    for sequence in &salvage.snapshots {
        let file_bytes = directory.snapshots[sequence];
        copy(source, target, &names::snapshot(*sequence), 0..file_bytes)?;
    }
    let synced = target.sync_directory();
    synced.map_err(|error| JournalError::storage("sync", "the target", error))?;
    let copied = verify(target)?;
    Ok((report, copied))
}

/// Writes a segment with a header of its own, what is kept of the records, and zeros behind.
fn copy_segment(
    source: &dyn Storage,
    target: &dyn Storage,
    header: SegmentHeader,
    kept_bytes: u32,
) -> Result<(), JournalError> {
    let name = names::segment(header.number);
    let on = |error| JournalError::storage("write", &name, error);
    target.write(&name, 0, &header.encode()).map_err(on)?;
    let kept = u64::from(HEADER_BYTES)..u64::from(kept_bytes);
    if !kept.is_empty() {
        copy(source, target, &name, kept.clone())?;
    }
    let zeros = vec![0; CHUNK_BYTES];
    let mut offset = kept.end.max(kept.start);
    while offset < u64::from(header.segment_bytes) {
        let length = (u64::from(header.segment_bytes) - offset).min(CHUNK_BYTES as u64);
        let part = &zeros[..usize::try_from(length).expect("a chunk fits memory")];
        target.write(&name, offset, part).map_err(on)?;
        offset += length;
    }
    let synced = target.sync(&name);
    synced.map_err(|error| JournalError::storage("sync", &name, error))
}

fn copy(
    source: &dyn Storage,
    target: &dyn Storage,
    name: &str,
    range: std::ops::Range<u64>,
) -> Result<(), JournalError> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let length = (range.end - offset).min(CHUNK_BYTES as u64);
        let part = &mut buffer[..usize::try_from(length).expect("a chunk fits memory")];
        let read = source.read(name, offset, part);
        read.map_err(|error| JournalError::storage("read", name, error))?;
        let written = target.write(name, offset, part);
        written.map_err(|error| JournalError::storage("write", name, error))?;
        offset += length;
    }
    let synced = target.sync(name);
    synced.map_err(|error| JournalError::storage("sync", name, error))
}
