//! Settings of a journal and their ranges.

use crate::limits::{RESERVE_BYTES_DEFAULT, SEGMENT_BYTES_DEFAULT};

/// Settings given at each opening. All may differ from the last time.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Bytes of each new segment, `SEGMENT_BYTES_MIN` to `SEGMENT_BYTES_MAX`, rounded down to whole slots.
    pub segment_bytes: u32,
    /// Allocated bytes below which `is_space_low` says so, 0 to `RESERVE_BYTES_MAX`.
    pub reserve_bytes: u64,
    /// Ledger time of the opening in milliseconds since the epoch; raised to that of the last record.
    pub time_ms: i64,
    /// Identity of a journal created by this opening; `None` draws one at random.
    pub journal_id: Option<u128>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            time_ms: 0,
            journal_id: None,
        }
    }
}
