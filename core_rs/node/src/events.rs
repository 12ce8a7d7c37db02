//! Durable events for readers: whole commands, in order, without a gap.
//!
//! Owns: the bounds of one read. Must not: hold any lock of the node; readers and the flusher do
//! not meet. Where next: `lastunit-journal`'s reader.

use lastunit_engine::Sequence;
use lastunit_journal::{JournalError, Reader};
use lastunit_wire::{EventError, JournalExtent};

/// Most events that one read can be asked for.
pub const READ_LIMIT_MAX: i64 = 4_096;

/// A read that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The limit is out of range.
    #[error("the limit is {limit}, it must be 1 to {READ_LIMIT_MAX}")]
    Limit {
        /// What was asked for.
        limit: i64,
    },
    /// The reader has events that this journal has not.
    #[error(
        "sequence {after} lies beyond the journal's end at {durable}: an older copy is served, or \
         the reader's position belongs to another journal"
    )]
    NotReached {
        /// What was asked for.
        after: Sequence,
        /// The last durable event.
        durable: Sequence,
    },
    /// The events were removed, because a snapshot holds what they did.
    #[error(
        "events up to sequence {} were removed, the journal starts at {first_sequence}: compare \
         your own state with the ledger's, then read after {}",
        first_sequence - 1, first_sequence - 1
    )]
    Removed {
        /// What was asked for.
        after: Sequence,
        /// The first event that is there.
        first_sequence: Sequence,
    },
    /// The journal cannot be read.
    #[error("{0}")]
    Journal(JournalError),
    /// A record does not hold events.
    #[error("{0}")]
    Events(#[from] EventError),
}

impl From<JournalError> for ReadError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Removed {
                after_sequence,
                first_sequence,
            } => Self::Removed {
                after: after_sequence,
                first_sequence,
            },
            error => Self::Journal(error),
        }
    }
}

impl ReadError {
    /// Stable name of the kind of failure.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Limit { .. } => "LIMIT_INVALID",
            Self::NotReached { .. } => "SEQUENCE_NOT_REACHED",
            Self::Removed { .. } => "EVENTS_REMOVED",
            Self::Journal(error) => error.reason(),
            Self::Events(_) => "JOURNAL_CORRUPT",
        }
    }
}

/// Reads events after a sequence as one ReadEventsResponse, and the sequence to go on after.
pub(crate) fn read(
    reader: &Reader,
    epoch: i64,
    after: Sequence,
    limit: i64,
) -> Result<(Vec<u8>, Sequence), ReadError> {
    let limit_count = usize::try_from(limit).unwrap_or(0);
    if !(1..=READ_LIMIT_MAX).contains(&limit) {
        return Err(ReadError::Limit { limit });
    }
    let durable = reader.durable_sequence();
    if after < 0 || after > durable {
        return Err(ReadError::NotReached { after, durable });
    }
    let records = reader.read_after(after, limit_count)?;
    let first_sequence = reader.first_sequence()?;
    let mut count = 0;
    let mut last = after;
    let mut bodies = Vec::with_capacity(records.len());
    for record in &records {
        if count >= limit {
            break;
        }
        count += record.last_sequence() - last;
        last = record.last_sequence();
        bodies.push(record.body.as_slice());
    }
    let extent = JournalExtent {
        first_sequence,
        durable_sequence: durable.max(last),
        epoch,
    };
    let (body, _) = lastunit_wire::encode_record_events(bodies, after, extent)?;
    Ok((body, last))
}
