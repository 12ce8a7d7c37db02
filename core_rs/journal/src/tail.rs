//! Whether a record continues the journal, and what must come after it.
//!
//! Pure: compares a valid header with the one before it. A valid record that does not continue the
//! journal cannot come from a crash, so whoever asks treats a refusal as damage.

use crate::position::Position;
use crate::slot::{Kind, RecordHeader};

/// The end of the journal as far as it was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where the next record must start.
    pub(crate) position: Position,
    /// Sequence that the next event must have.
    pub(crate) next_sequence: i64,
    /// Checksum that the next record must name, 0 at the start of the journal.
    pub(crate) chain: u32,
    pub(crate) time_ms: i64,
    pub(crate) epoch: u32,
    /// Start of the last record's group: everything before it was durable when the group was
    /// written.
    pub(crate) group: Position,
    /// Where the last record ended, in the same segment as its group.
    pub(crate) group_end: Position,
}

impl Tail {
    /// The end of a journal without a record, whose first segment is `number`.
    pub(crate) fn start(number: u32) -> Self {
        let position = Position::new(number, crate::limits::HEADER_BYTES);
        Self {
            position,
            next_sequence: 1,
            chain: 0,
            time_ms: i64::MIN,
            epoch: 0,
            group: position,
            group_end: position,
        }
    }

    /// The end of a journal whose last record is this one, whatever came before it.
    pub(crate) fn after(position: Position, header: &RecordHeader, crc: u32) -> Self {
        let end = Position::new(position.segment, position.offset + header.bytes());
        Self {
            position: end,
            next_sequence: header.next_sequence(),
            chain: crc,
            time_ms: header.time_ms,
            epoch: header.epoch,
            group: header.durable_position,
            group_end: end,
        }
    }

    /// The end that this record continues, taken at its word: for looking behind damage.
    pub(crate) fn before(position: Position, header: &RecordHeader) -> Self {
        Self {
            position,
            next_sequence: header.first_sequence,
            chain: header.chain,
            time_ms: header.time_ms,
            epoch: header.epoch - u32::from(header.kind == Kind::Epoch),
            group: header.durable_position,
            group_end: position,
        }
    }

    /// Sequence of the last event, 0 if there is none.
    pub(crate) fn last_sequence(&self) -> i64 {
        self.next_sequence - 1
    }

    /// Says why the record does not come next, if it does not.
    pub(crate) fn refuse(&self, header: &RecordHeader) -> Option<&'static str> {
        let is_epoch_next = match header.kind {
            Kind::Epoch => header.epoch > self.epoch,
            _ => header.epoch == self.epoch,
        };
        if header.chain != self.chain {
            Some("the record does not follow the one before it: its chain checksum differs")
        } else if header.first_sequence != self.next_sequence {
            Some("the record does not follow the one before it: its sequence differs")
        } else if !is_epoch_next {
            Some("the record does not follow the one before it: its epoch differs")
        } else if header.time_ms < self.time_ms {
            Some("the record does not follow the one before it: its time is earlier")
        } else if header.durable_position < self.group {
            Some("the record does not follow the one before it: its group started earlier")
        } else {
            None
        }
    }
}
