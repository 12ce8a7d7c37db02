//! Every way the journal says no.
//!
//! Text may change; `reason()` may not. Whatever is in the text is a field.

use std::io;

/// Why a call of the journal failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process (or another `FileStorage` of this one) owns the directory.
    #[error(
        "journal directory {directory} is owned by {}: stop it, or serve another directory",
        owner_text(*.pid)
    )]
    Owned {
        /// The directory asked for.
        directory: String,
        /// Process id that the owner wrote, if it can be read.
        pid: Option<u32>,
    },

    /// The system refused a call. After a failed write or sync the journal is poisoned.
    #[error("cannot {operation} {file}: {source}")]
    Storage {
        /// What was tried: `read`, `write`, `sync`, `rename` …
        operation: &'static str,
        /// File or directory it was tried on.
        file: String,
        /// What the system said.
        source: io::Error,
    },

    /// Bytes that were acknowledged are not what was written. Nothing was changed on disk.
    #[error(
        "acknowledged data is damaged in {file} at offset {offset}: {problem}; nothing was \
         changed: restore the journal directory from a copy, or verify it to see what can be read"
    )]
    Damaged {
        /// File that holds the damage.
        file: String,
        /// Bytes from the start of that file.
        offset: u64,
        /// What is wrong, and what proves that it was acknowledged.
        problem: String,
    },

    /// The file was written by a version of the format that this one cannot read.
    #[error(
        "{file} has format version {found}, this program reads {supported}: \
         start a program that knows it"
    )]
    UnsupportedVersion {
        /// File whose header was read.
        file: String,
        /// Version found there.
        found: u32,
        /// Version that is read and written here.
        supported: u32,
    },

    /// A write or a sync failed earlier. Every write is refused until the journal is opened again.
    #[error(
        "the journal stopped after a failure ({cause}): restart the process, \
         it will recover what was acknowledged"
    )]
    Poisoned {
        /// The first failure.
        cause: String,
    },

    /// The record's body is longer than a record or a segment can hold; it will never fit.
    #[error("a record of {bytes} bytes is over the limit of {limit}: split the command")]
    RecordTooLarge {
        /// Bytes of the body.
        bytes: u64,
        /// Most bytes of a body in this journal.
        limit: u64,
    },

    /// The record has no event or too many.
    #[error("a record of {found} events is outside 1 to {limit}: split the command")]
    EventCount {
        /// Events it claims.
        found: u32,
        /// Most events of a record.
        limit: u32,
    },

    /// The open batch is full; there is room again after the next flush.
    #[error("the open batch holds its limit of {limit} bytes: try again after the next flush")]
    BatchFull {
        /// Most bytes of the open batch.
        limit: u64,
    },

    /// The journal was opened so often that no number is left for another opening.
    #[error(
        "no epoch is left for another opening of this journal: keep it for reading and start in \
         an empty directory"
    )]
    EpochsUsedUp,
    /// No allocated space is left. There is room again once a segment could be prepared.
    #[error(
        "no journal space is left: {free_bytes} bytes are allocated, {needed_bytes} are needed: \
         free disk space"
    )]
    NoRoom {
        /// Bytes still allocated to the journal.
        free_bytes: u64,
        /// Bytes that the record takes.
        needed_bytes: u64,
    },

    /// The record does not continue the journal. A bug of the caller.
    #[error("the next sequence is {expected}, not {found}")]
    SequenceGap {
        /// Sequence that has to come next.
        expected: i64,
        /// Sequence given.
        found: i64,
    },

    /// The record is older than the one before it. A bug of the caller.
    #[error("time went back from {last_ms} ms to {found_ms} ms")]
    TimeWentBack {
        /// Time of the last record, milliseconds since the epoch.
        last_ms: i64,
        /// Time given.
        found_ms: i64,
    },

    /// The events asked for lie in segments that were removed.
    #[error(
        "events up to sequence {} were removed from the journal, which starts at {first_sequence}: \
         start again from there, with a state that is not older",
        first_sequence - 1
    )]
    Removed {
        /// The sequence after which events were asked for.
        after_sequence: i64,
        /// The first event that the journal still has.
        first_sequence: i64,
    },

    /// Batches were written in another order than they were taken, or one was dropped. A bug of the
    /// caller.
    #[error("batch {found} was handed in where batch {expected} was due")]
    BatchOrder {
        /// Number of the batch that is due.
        expected: u64,
        /// Number of the batch handed in.
        found: u64,
    },

    /// A snapshot cannot be taken at this sequence.
    #[error("cannot take a snapshot at sequence {sequence}: {problem}")]
    Snapshot {
        /// Sequence asked for.
        sequence: i64,
        /// Why not.
        problem: String,
    },

    /// A setting is out of its range.
    #[error("{option} is {found}, it must be {minimum} to {maximum}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Value given.
        found: u64,
        /// Least value.
        minimum: u64,
        /// Greatest value.
        maximum: u64,
    },
}

impl JournalError {
    /// Returns the stable machine name of the error.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Owned { .. } => "JOURNAL_OWNED",
            Self::Storage { .. } => "JOURNAL_STORAGE",
            Self::Damaged { .. } => "JOURNAL_DAMAGED",
            Self::UnsupportedVersion { .. } => "JOURNAL_UNSUPPORTED_VERSION",
            Self::Poisoned { .. } => "JOURNAL_POISONED",
            Self::RecordTooLarge { .. } => "JOURNAL_RECORD_TOO_LARGE",
            Self::EventCount { .. } => "JOURNAL_EVENT_COUNT",
            Self::BatchFull { .. } => "JOURNAL_BATCH_FULL",
            Self::EpochsUsedUp => "JOURNAL_EPOCHS",
            Self::NoRoom { .. } => "JOURNAL_SPACE",
            Self::SequenceGap { .. } => "JOURNAL_SEQUENCE_GAP",
            Self::TimeWentBack { .. } => "JOURNAL_TIME_WENT_BACK",
            Self::Removed { .. } => "EVENTS_REMOVED",
            Self::BatchOrder { .. } => "JOURNAL_BATCH_ORDER",
            Self::Snapshot { .. } => "JOURNAL_SNAPSHOT",
            Self::Option { .. } => "JOURNAL_OPTION",
        }
    }

    pub(crate) fn storage(operation: &'static str, file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        Self::Storage {
            operation,
            file,
            source,
        }
    }

    /// Whether a file was not there: its owner removed it while we looked.
    pub(crate) fn is_file_missing(&self) -> bool {
        matches!(self, Self::Storage { source, .. }
            if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the disk was full: that refuses one call and leaves the journal alive.
    pub(crate) fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Storage { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

fn owner_text(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}
