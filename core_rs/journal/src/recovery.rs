//! Opening a directory: first decide what the journal is, then make it so.
//!
//! `decide` writes nothing. `repair` may be cut short anywhere and done again: it clears what the
//! decision left out and makes durable what it kept, and neither changes the next decision.

use std::io;
use std::sync::Arc;

use crate::directory::Directory;
use crate::error::JournalError;
use crate::limits::{CHUNK_BYTES, HEADER_BYTES};
use crate::names;
use crate::position::Position;
use crate::reader::{Reader, Records};
use crate::recovered::{Recovered, Snapshot};
use crate::scan::{End, Scan};
use crate::segment::damaged;
use crate::shared::{Index, Shared};
use crate::slot::JournalId;
use crate::snapshot::{self, SnapshotHeader};
use crate::storage::Storage;
use crate::tail::Tail;
use crate::window::{Slot, Window};

/// What the journal is, before a byte of it was changed.
pub(crate) struct Decision {
    pub(crate) directory: Directory,
    /// Identity; that of a journal without a segment means nothing.
    pub(crate) id: JournalId,
    pub(crate) end: End,
    pub(crate) index: Index,
    /// The end of the journal as of the snapshot.
    pub(crate) start: Tail,
    snapshot: Option<Snapshot>,
    pub(crate) notes: Vec<String>,
}

pub(crate) fn decide(storage: &dyn Storage) -> Result<Decision, JournalError> {
    decide_from(storage, i64::MAX)
}

/// As `decide`, from a snapshot that is not later than `as_of`.
pub(crate) fn decide_from(storage: &dyn Storage, as_of: i64) -> Result<Decision, JournalError> {
    let mut directory = Directory::read(storage)?;
    let oldest = directory.snapshots.first_key_value().map(|it| *it.0);
    directory.snapshots.retain(|sequence, _| *sequence <= as_of);
    let mut notes = Vec::new();
    for name in &directory.strangers {
        notes.push(format!(
            "{name} is no file of the journal; it was left alone"
        ));
    }
    let mut tail = Tail::start(1);
    let mut index = Index::new(&directory.segments, tail.position);
    let Some(id) = directory.id else {
        let (id, end) = (JournalId(0), End { tail, cut: None });
        return Ok(Decision {
            directory,
            id,
            end,
            index,
            start: tail,
            snapshot: None,
            notes,
        });
    };
    let mut snapshot = None;
    if let Some((header, bytes)) = newest_snapshot(storage, &directory, id, &mut notes)? {
        tail = after_witness(
            storage,
            directory.segment_bytes(header.witness.segment),
            &header,
        )?;
        snapshot = Some(Snapshot {
            sequence: header.sequence,
            bytes,
        });
    }
    if let Some(first_sequence) = oldest.filter(|_| directory.snapshots.is_empty())
        && directory.first_number() > 1
    {
        return Err(JournalError::Removed {
            after_sequence: as_of,
            first_sequence,
        });
    }
    directory.check_start(snapshot.is_some())?;
    let start = tail;
    let scan = Scan {
        storage,
        directory: &directory,
        id,
    };
    let end = scan.run(tail, &mut |place, header, _| {
        index.mark(place, header.first_sequence);
    })?;
    index.durable_end = end.tail.position;
    index.durable_sequence = end.tail.last_sequence();
    Ok(Decision {
        directory,
        id,
        end,
        index,
        start,
        snapshot,
        notes,
    })
}

impl Decision {
    /// Turns the decision into what the caller gets, and what the open journal shares.
    pub(crate) fn into_recovered(
        self,
        storage: Arc<dyn Storage>,
        epoch: i64,
    ) -> (Arc<Shared>, Recovered) {
        let tail = self.end.tail;
        let shared = Arc::new(Shared::new(storage, self.id, self.index));
        let after = self
            .snapshot
            .as_ref()
            .map_or(0, |snapshot| snapshot.sequence);
        let reader = Reader::new(Arc::clone(&shared));
        let recovered = Recovered {
            snapshot: self.snapshot,
            records: Records::new(reader, after, tail.last_sequence()),
            last_sequence: tail.last_sequence(),
            last_time_ms: tail.time_ms,
            epoch,
            cut: self.end.cut,
            notes: self.notes,
        };
        (shared, recovered)
    }
}

/// Returns the newest snapshot that is whole. One that is not costs a longer replay and a note.
fn newest_snapshot(
    storage: &dyn Storage,
    directory: &Directory,
    id: JournalId,
    notes: &mut Vec<String>,
) -> Result<Option<(SnapshotHeader, Vec<u8>)>, JournalError> {
    for (sequence, file_bytes) in directory.snapshots.iter().rev() {
        match snapshot::load(storage, id, *sequence, *file_bytes) {
            Ok(loaded) => return Ok(Some(loaded)),
            // Only one that its owner removed while we look is passed over as well.
            Err(JournalError::Storage {
                operation,
                file,
                source,
            }) if source.kind() != io::ErrorKind::NotFound => {
                return Err(JournalError::Storage {
                    operation,
                    file,
                    source,
                });
            }
            Err(error) => notes.push(format!("snapshot {sequence} was passed over: {error}")),
        }
    }
    Ok(None)
}

/// Returns the end of the journal as of the snapshot, if the record it names stands where it says.
///
/// `segment_bytes` is the length of the segment it names, 0 if that is not there.
pub(crate) fn after_witness(
    storage: &dyn Storage,
    segment_bytes: u32,
    snapshot: &SnapshotHeader,
) -> Result<Tail, JournalError> {
    let place = snapshot.witness;
    if place.offset >= HEADER_BYTES && place.offset < segment_bytes.saturating_sub(HEADER_BYTES) {
        let mut window = Window::new(storage, snapshot.id, place.segment, segment_bytes);
        if let Slot::Record { header, crc } = window.slot(place.offset)?
            && crc == snapshot.witness_crc
            && header.next_sequence() - 1 == snapshot.sequence
        {
            return Ok(Tail::after(place, &header, crc));
        }
    }
    let sequence = snapshot.sequence;
    let problem =
        format!("snapshot {sequence} was taken after the record here, which is not there");
    Err(damaged(
        &names::segment(place.segment),
        u64::from(place.offset),
        &problem,
    ))
}

/// Clears the tail that was left out and writes the last group once more.
///
/// The last group may stand in the system's memory only: its flush may have failed in a process
/// that then died, and a later sync that succeeds proves nothing about it. Writing the same bytes
/// again does.
pub(crate) fn repair(storage: &dyn Storage, decision: &Decision) -> Result<(), JournalError> {
    for name in &decision.directory.temporaries {
        let removed = storage.remove(name);
        removed.map_err(|source| JournalError::storage("remove", name, source))?;
    }
    // A name may be visible only: the sync of the directory may have failed in a process that died.
    if !decision.directory.segments.is_empty() {
        let synced = storage.sync_directory();
        synced.map_err(|source| JournalError::storage("sync", "the directory", source))?;
    }
    let tail = decision.end.tail;
    rewrite(storage, tail.group, tail.group_end)?;
    if let Some(cut) = decision.end.cut {
        clear(storage, cut.position, cut.bytes)?;
    }
    Ok(())
}

fn rewrite(storage: &dyn Storage, start: Position, end: Position) -> Result<(), JournalError> {
    debug_assert_eq!(start.segment, end.segment);
    let name = names::segment(start.segment);
    let fail = |operation| {
        let name = &name;
        move |source| JournalError::storage(operation, name, source)
    };
    let mut bytes = vec![0; (end.offset - start.offset) as usize];
    if bytes.is_empty() {
        return Ok(());
    }
    storage
        .read(&name, u64::from(start.offset), &mut bytes)
        .map_err(fail("read"))?;
    storage
        .write(&name, u64::from(start.offset), &bytes)
        .map_err(fail("write"))?;
    storage.sync(&name).map_err(fail("sync"))
}

fn clear(storage: &dyn Storage, start: Position, bytes: u64) -> Result<(), JournalError> {
    debug_assert!(start.offset >= HEADER_BYTES);
    let name = names::segment(start.segment);
    let fail = |operation| {
        let name = &name;
        move |source| JournalError::storage(operation, name, source)
    };
    let end = u64::from(start.offset) + bytes;
    let mut offset = u64::from(start.offset);
    let zeros = vec![0; CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES))];
    while offset < end {
        let length = usize::try_from(end - offset)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        storage
            .write(&name, offset, &zeros[..length])
            .map_err(fail("write"))?;
        offset += length as u64;
    }
    storage.sync(&name).map_err(fail("sync"))
}
