//! skeleton

use crate::{JournalError, Record};

/// Reads durable records while others are written. Cheap to clone, free to share between threads.
#[derive(Clone, Debug)]
pub struct Reader {}

impl Reader {
    /// Returns records in order, from the one that holds the event `sequence + 1` on.
    ///
    /// Stops at what is durable now, after `record_count_max` records (1 or more), or after
    /// `READ_BODY_BYTES_MAX` bytes of bodies. Empty if nothing after `sequence` is durable. The first record
    /// starts at or before `sequence + 1`: a caller inside a record skips the events it has.
    ///
    /// # Errors
    /// `Damaged` if a record is not what was written, `Storage` if it cannot be read. Neither poisons.
    pub fn read_after(&self, sequence: i64, record_count_max: usize) -> Result<Vec<Record>, JournalError> {
        unimplemented!("{sequence} {record_count_max}")
    }

    /// Returns the sequence of the last durable event, 0 if there is none.
    #[must_use]
    pub fn durable_sequence(&self) -> i64 {
        unimplemented!()
    }
}

/// Records to replay, in order, read as they are asked for.
#[derive(Debug)]
pub struct Records {}

impl Iterator for Records {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}
