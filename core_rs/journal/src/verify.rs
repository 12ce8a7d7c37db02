//! Checking a journal at rest: every record of every segment, every snapshot.
//!
//! Goes on behind damage, unlike recovery, so that an operator sees what can still be read and what
//! can be saved. Writes nothing. Where next: `repair.rs`, which copies what can be saved.

use crate::directory::Directory;
use crate::error::JournalError;
use crate::limits::{HEADER_BYTES, SLOT_BYTES, VERIFY_PROBLEM_COUNT_MAX};
use crate::names;
use crate::position::Position;
use crate::recovered::Cut;
use crate::salvage::{Salvage, choose};
use crate::scan::Scan;
use crate::slot::{JournalId, Kind, RecordHeader};
use crate::snapshot::{self, SnapshotHeader};
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

/// Events that stand one after the other without damage between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where its first record stands.
    pub start: Position,
    /// The first event, or the next one if it has none.
    pub first_sequence: i64,
    /// The last event; one less than the first if it has none.
    pub last_sequence: i64,
    /// Records with events.
    pub record_count: u64,
    pub(crate) tail: Tail,
}

/// What a check of every byte found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments found, prepared ones included.
    pub segment_count: u32,
    /// Records with events that can be read, those behind damage included.
    pub record_count: u64,
    /// The first event that is there, 0 if there is none; above 1 once segments were removed.
    pub first_sequence: i64,
    /// Sequence of the last event before any damage to a segment, 0 if there is none.
    pub last_sequence: i64,
    /// The highest sequence that can be read anywhere, behind damage too; 0 if there is none.
    pub highest_sequence: i64,
    /// Last opening, 0 if there was none.
    pub epoch: i64,
    /// Sequences of the snapshots that are whole, in rising order.
    pub snapshot_sequences: Vec<i64>,
    /// Unfinished tail, which the next opening will cut.
    pub cut: Option<Cut>,
    /// What stands between damage, in order; one if the journal is whole and not empty.
    pub runs: Vec<Run>,
    /// What a repaired copy would hold; None if nothing can be saved.
    pub salvage: Option<Salvage>,
    /// Everything that is wrong, in the order in which it was found; empty if the journal is whole.
    pub problems: Vec<Problem>,
    /// Whether the look ended early because there were `VERIFY_PROBLEM_COUNT_MAX` problems.
    pub is_ended_early: bool,
    /// Snapshots that are whole, for choosing what to save.
    pub(crate) snapshots: Vec<SnapshotHeader>,
}

/// Told of the body of each record with events: its first sequence and its bytes. What it says is
/// wrong is a problem at the record's place.
pub type BodyCheck<'a> = dyn FnMut(i64, &[u8]) -> Result<(), String> + 'a;

/// Checks every record of every segment and every snapshot, and writes nothing.
///
/// # Errors
/// `Storage` if a file cannot be read. Damage is not an error but a `Problem` of the report.
pub fn verify(storage: &dyn Storage) -> Result<VerifyReport, JournalError> {
    verify_with(storage, &mut |_, _| Ok(()))
}

/// As `verify`, and asks `check` about the body of every record.
///
/// # Errors
/// As `verify`.
pub fn verify_with(
    storage: &dyn Storage,
    check: &mut BodyCheck<'_>,
) -> Result<VerifyReport, JournalError> {
    let directory = Directory::read_damaged(storage)?;
    let mut report = VerifyReport {
        segment_count: u32::try_from(directory.segments.len()).unwrap_or(u32::MAX),
        problems: directory.problems.clone(),
        ..VerifyReport::default()
    };
    if let Some(id) = directory.id {
        report.check_segments(storage, &directory, id, check)?;
        report.check_snapshots(storage, &directory, id)?;
        report.check_start(&directory);
        report.salvage = choose(&report);
    }
    Ok(report)
}

impl VerifyReport {
    /// Keeps what damage says of itself, and passes on what kept us from looking.
    fn note(&mut self, error: JournalError) -> Result<(), JournalError> {
        self.problems.push(problem_of(error)?);
        Ok(())
    }

    fn check_segments(
        &mut self,
        storage: &dyn Storage,
        directory: &Directory,
        id: JournalId,
        check: &mut BodyCheck<'_>,
    ) -> Result<(), JournalError> {
        let scan = Scan {
            storage,
            directory,
            id,
        };
        let first = directory.first_number();
        let mut start = self.first_tail(&scan, first)?;
        while let Some(tail) = start {
            let mut walk = Walk::new(tail, directory, &scan);
            let outcome = scan.run(tail, &mut |place, header, crc| {
                walk.visit(place, header, crc, check);
            });
            self.record_count += walk.run.record_count;
            self.epoch = i64::from(walk.run.tail.epoch);
            self.highest_sequence = self.highest_sequence.max(walk.run.last_sequence);
            if self.runs.is_empty() {
                self.first_sequence = walk.run.first_sequence.min(walk.run.last_sequence);
                self.last_sequence = walk.run.last_sequence;
            }
            let is_bad_body = !walk.problems.is_empty();
            self.problems.append(&mut walk.problems);
            walk.failure.map_or(Ok(()), Err)?;
            let last = walk.run.tail;
            self.runs.push(walk.run);
            start = None;
            match outcome {
                Ok(end) => self.cut = end.cut,
                Err(error) => {
                    let place = damage_place(&error).unwrap_or(last.position);
                    self.note(error)?;
                    start = next_record(&scan, place)?;
                }
            }
            let is_full = self.problems.len() >= VERIFY_PROBLEM_COUNT_MAX;
            self.is_ended_early |= is_full && (start.is_some() || is_bad_body);
            start = start.filter(|_| !is_full);
        }
        Ok(())
    }

    /// Where the walk begins: at the first event, or behind removed segments at the first record.
    fn first_tail(&mut self, scan: &Scan<'_>, first: u32) -> Result<Option<Tail>, JournalError> {
        if first <= 1 {
            return Ok(Some(Tail::start(1)));
        }
        // What came before was removed: its first record is taken at its word.
        let start = Position::new(first, HEADER_BYTES);
        let found = next_record(scan, Position::new(first, 0))?;
        if found.is_none_or(|tail| tail.position != start) {
            self.problems.push(Problem {
                file: names::segment(first),
                offset: u64::from(HEADER_BYTES),
                text: "the segment does not start with a record".to_owned(),
            });
        }
        Ok(found)
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
                crate::recovery::after_witness(storage, segment_bytes, &header)?;
                Ok(header)
            });
            match whole {
                Ok(header) => {
                    self.snapshot_sequences.push(*sequence);
                    self.snapshots.push(header);
                }
                Err(error) => self.note(error)?,
            }
        }
        Ok(())
    }

    /// Segments that were removed are no damage, unless no snapshot holds what they said.
    fn check_start(&mut self, directory: &Directory) {
        if let Err(JournalError::Damaged {
            file,
            offset,
            problem,
        }) = directory.check_start(!self.snapshots.is_empty())
        {
            self.problems.push(Problem {
                file,
                offset,
                text: problem,
            });
        }
    }
}

/// One way along the records, up to damage.
struct Walk<'a> {
    run: Run,
    window: Option<(u32, Window<'a>)>,
    directory: &'a Directory,
    storage: &'a dyn Storage,
    id: JournalId,
    problems: Vec<Problem>,
    failure: Option<JournalError>,
}

impl<'a> Walk<'a> {
    fn new(tail: Tail, directory: &'a Directory, scan: &Scan<'a>) -> Self {
        Self {
            run: Run {
                start: tail.position,
                first_sequence: tail.next_sequence,
                last_sequence: tail.last_sequence(),
                record_count: 0,
                tail,
            },
            window: None,
            directory,
            storage: scan.storage,
            id: scan.id,
            problems: Vec::new(),
            failure: None,
        }
    }

    fn visit(
        &mut self,
        place: Position,
        header: &RecordHeader,
        crc: u32,
        check: &mut BodyCheck<'_>,
    ) {
        self.run.tail = Tail::after(place, header, crc);
        self.run.last_sequence = self.run.tail.last_sequence();
        if header.kind == Kind::End {
            self.run.tail.position = Position::new(place.segment + 1, HEADER_BYTES);
        }
        if header.kind != Kind::Events {
            return;
        }
        self.run.record_count += 1;
        if self.problems.len() >= VERIFY_PROBLEM_COUNT_MAX {
            return;
        }
        let first_sequence = header.first_sequence;
        match self.body(place, header.body_bytes) {
            Ok(body) => {
                if let Err(text) = check(first_sequence, body) {
                    self.problems.push(Problem {
                        file: names::segment(place.segment),
                        offset: u64::from(place.offset),
                        text: format!("the record is as it was written, but {text}"),
                    });
                }
            }
            Err(error) => self.failure = Some(error),
        }
    }

    fn body(&mut self, place: Position, bytes: u32) -> Result<&[u8], JournalError> {
        if self.window.as_ref().is_none_or(|it| it.0 != place.segment) {
            let segment_bytes = self.directory.segment_bytes(place.segment);
            let window = Window::new(self.storage, self.id, place.segment, segment_bytes);
            self.window = Some((place.segment, window));
        }
        let (_, window) = self.window.as_mut().expect("it was just put there");
        window.bytes(place.offset + HEADER_BYTES, bytes)
    }
}

/// What damage says of itself; any other error is passed on.
pub(crate) fn problem_of(error: JournalError) -> Result<Problem, JournalError> {
    match error {
        JournalError::Damaged {
            file,
            offset,
            problem,
        } => Ok(Problem {
            file,
            offset,
            text: problem,
        }),
        JournalError::UnsupportedVersion { ref file, .. } => Ok(Problem {
            file: file.clone(),
            offset: 0,
            text: error.to_string(),
        }),
        error => Err(error),
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
        if number != place.segment {
            offset = HEADER_BYTES;
        }
        while offset < segment_bytes {
            let is_behind = Position::new(number, offset) > place;
            if is_behind && let Slot::Record { header, .. } = window.slot(offset)? {
                return Ok(Some(Tail::before(Position::new(number, offset), &header)));
            }
            offset += SLOT_BYTES;
        }
    }
    Ok(None)
}
