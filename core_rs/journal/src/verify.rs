//! Checking a journal at rest: every record of every segment, every snapshot.
//!
//! Goes on behind damage, unlike recovery, so that an operator sees what can still be read. Writes
//! nothing.

use crate::directory::Directory;
use crate::error::JournalError;
use crate::limits::{HEADER_BYTES, SLOT_BYTES, VERIFY_PROBLEM_COUNT_MAX};
use crate::names;
use crate::position::Position;
use crate::recovered::Cut;
use crate::scan::Scan;
use crate::slot::{JournalId, Kind};
use crate::snapshot;
use crate::storage::Storage;
use crate::tail::Tail;
use crate::window::{Slot, Window};

/// Something in the directory that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File it is in.
    pub file: String,
    /// Bytes from the start of that file.
    pub offset: u64,
    /// What is wrong.
    pub text: String,
}

/// What a check of every byte found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments found, prepared ones included.
    pub segment_count: u32,
    /// Records with events that can be read, those behind damage included.
    pub record_count: u64,
    /// Sequence of the last event before any damage to a segment, 0 if there is none.
    pub last_sequence: i64,
    /// Last opening, 0 if there was none.
    pub epoch: i64,
    /// Sequences of the snapshots that are whole, in rising order.
    pub snapshot_sequences: Vec<i64>,
    /// Unfinished tail, which the next opening will cut.
    pub cut: Option<Cut>,
    /// Everything that is wrong, `VERIFY_PROBLEM_COUNT_MAX` at most; empty if the journal is whole.
    pub problems: Vec<Problem>,
}

/// Checks every record of every segment and every snapshot, and writes nothing.
///
/// # Errors
/// `Storage` if a file cannot be read. Damage is not an error but a `Problem` of the report.
pub fn verify(storage: &dyn Storage) -> Result<VerifyReport, JournalError> {
    let mut report = VerifyReport::default();
    let directory = match Directory::read(storage) {
        Ok(directory) => directory,
        Err(error) => {
            report.note(error)?;
            return Ok(report);
        }
    };
    report.segment_count = directory.last_number();
    if let Some(id) = directory.id {
        report.check_segments(storage, &directory, id)?;
        report.check_snapshots(storage, &directory, id)?;
    }
    Ok(report)
}

impl VerifyReport {
    /// Keeps what damage says of itself, and passes on what kept us from looking.
    fn note(&mut self, error: JournalError) -> Result<(), JournalError> {
        let problem = match error {
            JournalError::Damaged {
                file,
                offset,
                problem,
            } => Problem {
                file,
                offset,
                text: problem,
            },
            JournalError::UnsupportedVersion { ref file, .. } => Problem {
                file: file.clone(),
                offset: 0,
                text: error.to_string(),
            },
            error => return Err(error),
        };
        self.problems.push(problem);
        Ok(())
    }

    fn check_segments(
        &mut self,
        storage: &dyn Storage,
        directory: &Directory,
        id: JournalId,
    ) -> Result<(), JournalError> {
        let scan = Scan {
            storage,
            directory,
            id,
        };
        let first = directory.first_number();
        let mut start = if first > 1 {
            // What came before was removed: its first record is taken at its word.
            next_record(&scan, Position::new(first, 0))?
        } else {
            Some(Tail::start(first))
        };
        while let Some(tail) = start {
            // The last record accepted, so that the walk behind damage starts after it.
            let (mut last, mut record_count, mut epoch) = (tail, 0, tail.epoch);
            let outcome = scan.run(tail, &mut |place, header, crc| {
                last = Tail::after(place, header, crc);
                record_count += u64::from(header.kind == Kind::Events);
                epoch = header.epoch;
            });
            self.record_count += record_count;
            self.epoch = i64::from(epoch);
            if self.problems.is_empty() {
                self.last_sequence = last.last_sequence();
            }
            start = None;
            match outcome {
                Ok(end) => self.cut = end.cut,
                Err(error) => {
                    let place = damage_place(&error).unwrap_or(last.position);
                    self.note(error)?;
                    if self.problems.len() < VERIFY_PROBLEM_COUNT_MAX {
                        start = next_record(&scan, place)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check_snapshots(
        &mut self,
        storage: &dyn Storage,
        directory: &Directory,
        id: JournalId,
    ) -> Result<(), JournalError> {
        for (sequence, file_bytes) in &directory.snapshots {
            let place = (*sequence, *file_bytes);
            let whole = snapshot::stream(storage, id, place, &mut |_| {}).and_then(|header| {
                let segment_bytes = directory.segment_bytes(header.witness.segment);
                crate::recovery::after_witness(storage, segment_bytes, &header)
            });
            match whole {
                Ok(_) => self.snapshot_sequences.push(*sequence),
                Err(error) => self.note(error)?,
            }
        }
        Ok(())
    }
}

fn damage_place(error: &JournalError) -> Option<Position> {
    let JournalError::Damaged { file, offset, .. } = error else {
        return None;
    };
    Some(Position::new(
        names::parse_segment(file)?,
        u32::try_from(*offset).ok()?,
    ))
}

/// Returns the state from which the next whole record behind `place` can be followed, if there is
/// one.
fn next_record(scan: &Scan<'_>, place: Position) -> Result<Option<Tail>, JournalError> {
    let mut offset = place.offset.max(HEADER_BYTES);
    for (number, segment_bytes) in scan.directory.after(place.segment - 1) {
        let mut window = Window::new(scan.storage, scan.id, number, segment_bytes);
        while offset < segment_bytes {
            let is_behind = Position::new(number, offset) > place;
            if is_behind && let Slot::Record { header, .. } = window.slot(offset)? {
                return Ok(Some(Tail::before(Position::new(number, offset), &header)));
            }
            offset += SLOT_BYTES;
        }
        offset = HEADER_BYTES;
    }
    Ok(None)
}
