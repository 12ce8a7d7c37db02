//! What recovery hands to the caller.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::JournalError;
use crate::position::Position;
use crate::reader::{Reader, Records};
use crate::recovery::{self, Decision};
use crate::storage::Storage;

/// How often a directory that changes under our eyes is read before damage in it is believed.
const INSPECT_TRY_COUNT: u32 = 3;

/// State as of a sequence, as the caller encoded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Sequence of the last event that the state contains.
    pub sequence: i64,
    /// The state.
    pub bytes: Vec<u8>,
}

/// An unfinished tail that was left out: nothing in it was ever acknowledged, or it is the last
/// unsealed group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the readable journal ends.
    pub position: Position,
    /// Bytes from there to the end of the last slot that was not zero.
    pub bytes: u64,
}

/// What was found in the directory.
#[derive(Debug)]
pub struct Recovered {
    /// The newest snapshot that can be read, if any.
    pub snapshot: Option<Snapshot>,
    /// Every record after the snapshot (after 0 without one).
    pub records: Records,
    /// Sequence of the last event in the journal, 0 if there is none.
    pub last_sequence: i64,
    /// Time of the last record found, seals and openings included; `i64::MIN` in a new journal.
    pub last_time_ms: i64,
    /// This opening's number, from 1. From `inspect`: that of the last opening, 0 if there was
    /// none.
    pub epoch: i64,
    /// The tail that was cut, if there was one.
    pub cut: Option<Cut>,
    /// What an operator should know: a damaged snapshot that was passed over, files that do not
    /// belong, a disk too full to prepare a segment.
    pub notes: Vec<String>,
}

impl Recovered {
    /// Returns a reader of the whole journal, records before the snapshot included. From
    /// `Journal::open` it is the same as `Journal::reader`; from `inspect` it ends where the
    /// journal ended then.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.records.reader()
    }

    /// Ends with the record that ends at or before `sequence`.
    fn up_to(self, sequence: i64) -> Result<Self, JournalError> {
        let reader = self.reader();
        let from = self.snapshot.as_ref().map_or(0, |it| it.sequence);
        let found = match sequence {
            ..=0 => None,
            sequence => reader.record_with(sequence)?,
        };
        let (last_sequence, last_time_ms, epoch) = match found.map(|(record, _)| record) {
            None => (0, i64::MIN, 0),
            Some(record) if record.last_sequence() > sequence => {
                (record.first_sequence - 1, i64::MIN, record.epoch)
            }
            Some(record) => (sequence, record.time_ms, record.epoch),
        };
        Ok(Self {
            records: Records::new(reader, from, last_sequence),
            last_sequence,
            last_time_ms,
            epoch,
            cut: None,
            ..self
        })
    }
}

/// Looks at a directory as recovery would, without owning it and without writing a byte.
///
/// The directory may be in use: what is found is then true of some moment while it was looked at,
/// and the tail that is being written may show as a cut.
///
/// # Errors
/// As `Journal::open`.
pub fn inspect(storage: Arc<dyn Storage>) -> Result<Recovered, JournalError> {
    inspect_as_of(storage, i64::MAX)
}

/// As `inspect`, up to the last record that ends at or before `sequence`: with it, the state as it
/// was then can be rebuilt.
///
/// # Errors
/// As `inspect`; `Removed` if neither a snapshot nor the first event lies at or before `sequence`.
pub fn inspect_as_of(storage: Arc<dyn Storage>, sequence: i64) -> Result<Recovered, JournalError> {
    let decision = decide_in_use(&*storage, sequence)?;
    let epoch = i64::from(decision.end.tail.epoch);
    let recovered = decision.into_recovered(storage, epoch).1;
    if sequence >= recovered.last_sequence {
        return Ok(recovered);
    }
    recovered.up_to(sequence)
}

/// Decides again where the directory was changed by its owner meanwhile: a segment that was not
/// listed would look like a missing one.
pub(crate) fn decide_in_use(storage: &dyn Storage, as_of: i64) -> Result<Decision, JournalError> {
    for _ in 1..INSPECT_TRY_COUNT {
        let before = names_of(storage)?;
        let decided = recovery::decide_from(storage, as_of);
        let is_suspect = match &decided {
            Err(JournalError::Damaged { .. }) => true,
            Err(error) => error.is_file_missing(),
            Ok(_) => false,
        };
        if !is_suspect || before == names_of(storage)? {
            return decided;
        }
    }
    recovery::decide_from(storage, as_of)
}

fn names_of(storage: &dyn Storage) -> Result<BTreeSet<String>, JournalError> {
    let files = storage.list();
    let files =
        files.map_err(|source| JournalError::storage("list", "the journal directory", source))?;
    Ok(files.into_iter().map(|file| file.name).collect())
}
