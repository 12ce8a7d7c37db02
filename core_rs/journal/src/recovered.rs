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
}

/// Looks at a directory as recovery would, without owning it and without writing a byte.
///
/// The directory may be in use: what is found is then true of some moment while it was looked at,
/// and the tail that is being written may show as a cut.
///
/// # Errors
/// As `Journal::open`.
pub fn inspect(storage: Arc<dyn Storage>) -> Result<Recovered, JournalError> {
    let decision = decide_in_use(&*storage)?;
    let epoch = i64::from(decision.end.tail.epoch);
    Ok(decision.into_recovered(storage, epoch).1)
}

/// Decides again where the directory was changed by its owner meanwhile: a segment that was not
/// listed would look like a missing one.
fn decide_in_use(storage: &dyn Storage) -> Result<Decision, JournalError> {
    for _ in 1..INSPECT_TRY_COUNT {
        let before = names_of(storage)?;
        match recovery::decide(storage) {
            Err(JournalError::Damaged { .. }) if before != names_of(storage)? => {}
            decided => return decided,
        }
    }
    recovery::decide(storage)
}

fn names_of(storage: &dyn Storage) -> Result<BTreeSet<String>, JournalError> {
    let files = storage.list();
    let files =
        files.map_err(|source| JournalError::storage("list", "the journal directory", source))?;
    Ok(files.into_iter().map(|file| file.name).collect())
}
