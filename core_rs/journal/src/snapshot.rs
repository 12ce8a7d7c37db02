//! skeleton

use crate::JournalError;

/// A snapshot that is being written in chunks. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
#[must_use = "a snapshot counts only once it is finished"]
pub struct SnapshotWriter {}

impl SnapshotWriter {
    /// Adds the next chunk of the state, of any length.
    ///
    /// # Errors
    /// `Storage` on a full disk (the journal lives on) or another failure (the journal is poisoned),
    /// `Snapshot` past `SNAPSHOT_BYTES_MAX`.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), JournalError> {
        unimplemented!("{}", chunk.len())
    }

    /// Makes the snapshot durable under its name and removes all but the newest two.
    ///
    /// # Errors
    /// As `write`.
    pub fn finish(self) -> Result<(), JournalError> {
        unimplemented!()
    }
}
