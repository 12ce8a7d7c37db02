//! What callers put into the journal and get back from it.

use crate::position::Position;

/// One command's events, about to be appended.
#[derive(Clone, Copy, Debug)]
pub struct RecordInput<'a> {
    /// Sequence of the first event: one more than the last event of the record before.
    pub first_sequence: i64,
    /// Events in the body, 1 to `RECORD_EVENT_COUNT_MAX`.
    pub event_count: u32,
    /// Ledger time in milliseconds since the epoch; never less than that of the record before.
    pub time_ms: i64,
    /// The events, encoded by the caller; up to `RECORD_BODY_BYTES_MAX` bytes. The journal never
    /// looks inside.
    pub body: &'a [u8],
}

/// One command's events, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Sequence of the first event.
    pub first_sequence: i64,
    /// Events in the body, at least 1.
    pub event_count: u32,
    /// Ledger time in milliseconds since the epoch.
    pub time_ms: i64,
    /// Which opening of the journal wrote it, from 1.
    pub epoch: i64,
    /// Where it stands.
    pub position: Position,
    /// The events as they were given.
    pub body: Vec<u8>,
}

impl Record {
    /// Returns the sequence of the last event.
    #[must_use]
    pub fn last_sequence(&self) -> i64 {
        self.first_sequence + i64::from(self.event_count) - 1
    }
}
