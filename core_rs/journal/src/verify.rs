//! skeleton

use crate::{Cut, JournalError, Storage};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments found, prepared ones included.
    pub segment_count: u32,
    /// Records with events.
    pub record_count: u64,
    /// Sequence of the last event that can be trusted.
    pub last_sequence: i64,
    /// Last opening.
    pub epoch: i64,
    /// Sequences of the snapshots that are whole, in rising order.
    pub snapshot_sequences: Vec<i64>,
    /// Unfinished tail, which the next opening will cut.
    pub cut: Option<Cut>,
    /// Everything that is wrong; empty if the journal is whole.
    pub problems: Vec<Problem>,
}

/// Checks every record of every segment and every snapshot, and writes nothing.
///
/// # Errors
/// `Storage` if a file cannot be read. Damage is not an error but a `Problem` of the report.
pub fn verify(storage: &dyn Storage) -> Result<VerifyReport, JournalError> {
    unimplemented!("{:?}", storage.list())
}
