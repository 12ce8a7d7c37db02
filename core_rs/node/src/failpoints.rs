//! Places at which a test can end the process as a power cut would.
//!
//! Owns: their names and the switch, the environment variable `LASTUNIT_FAILPOINT`, read once, as
//! in `after_sync_before_reply` or `after_sync_before_reply:100` for the hundredth time. Without it
//! a place costs one relaxed load.
//!
//! Must not: do anything but end the process; a failure that a node can see is injected in the
//! storage instead. Where next: `flusher.rs`, `keeper.rs`,
//! `open.rs` and `storage.rs`, where the places are.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable that arms one place.
pub const FAILPOINT_VARIABLE: &str = "LASTUNIT_FAILPOINT";

/// A place at which the process can be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// Events are appended in memory, nothing is written.
    AfterAppendBeforeWrite,
    /// Bytes are with the operating system, not on disk.
    AfterWriteBeforeSync,
    /// Bytes are on disk, nobody has been told.
    AfterSyncBeforeReply,
    /// A snapshot is half written.
    DuringSnapshot,
    /// A snapshot is whole and synced and has its temporary name still.
    BeforeSnapshotRename,
    /// The next segment is filled and synced and has its temporary name still.
    BeforeSegmentRename,
    /// Something has its final name, the directory is not synced.
    BeforeDirectorySync,
    /// A file is no longer needed and still there.
    BeforeRemoval,
    /// The ledger is rebuilt and checked, its opening is not among the events.
    DuringOpening,
}

impl Failpoint {
    /// All places.
    pub const ALL: [Self; 9] = [
        Self::AfterAppendBeforeWrite,
        Self::AfterWriteBeforeSync,
        Self::AfterSyncBeforeReply,
        Self::DuringSnapshot,
        Self::BeforeSnapshotRename,
        Self::BeforeSegmentRename,
        Self::BeforeDirectorySync,
        Self::BeforeRemoval,
        Self::DuringOpening,
    ];

    /// Name in the environment variable.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterAppendBeforeWrite => "after_append_before_write",
            Self::AfterWriteBeforeSync => "after_write_before_sync",
            Self::AfterSyncBeforeReply => "after_sync_before_reply",
            Self::DuringSnapshot => "during_snapshot",
            Self::BeforeSnapshotRename => "before_snapshot_rename",
            Self::BeforeSegmentRename => "before_segment_rename",
            Self::BeforeDirectorySync => "before_directory_sync",
            Self::BeforeRemoval => "before_removal",
            Self::DuringOpening => "during_opening",
        }
    }

    fn parse(text: &str) -> Option<(Self, u64)> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let place = Self::ALL.into_iter().find(|it| it.name() == name)?;
        Some((place, count.parse().ok().filter(|count| *count > 0)?))
    }
}

struct Armed {
    place: Failpoint,
    /// Visits left before the end; at zero the process ends.
    left: AtomicU64,
}

/// Set once from the environment, at the first visit of any place.
static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

/// Ends the process if this place is armed and its turn has come.
pub(crate) fn visit(place: Failpoint) {
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var(FAILPOINT_VARIABLE).ok()?;
        let (place, count) = Failpoint::parse(&text)?;
        Some(Armed {
            place,
            left: AtomicU64::new(count),
        })
    });
    let Some(armed) = armed else { return };
    // Relaxed: only the count matters, it orders nothing.
    if armed.place == place && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_a_count() {
        let point = Failpoint::DuringSnapshot;

        assert_eq!(Some((point, 1)), Failpoint::parse("during_snapshot"));
        assert_eq!(Some((point, 7)), Failpoint::parse("during_snapshot:7"));
        assert_eq!(None, Failpoint::parse("during_snapshot:0"));
        assert_eq!(None, Failpoint::parse("elsewhere"));
    }
}
