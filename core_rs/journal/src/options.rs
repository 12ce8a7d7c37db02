//! Settings of a journal and their ranges.

use crate::error::JournalError;
use crate::limits::{
    HEADER_BYTES, PREPARED_SEGMENT_COUNT_MAX, RESERVE_BYTES_DEFAULT, RESERVE_BYTES_MAX,
    SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SLOT_BYTES,
};

/// Settings given at each opening. All may differ from the last time.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Bytes of each new segment, `SEGMENT_BYTES_MIN` to `SEGMENT_BYTES_MAX`, rounded down to whole
    /// slots.
    pub segment_bytes: u32,
    /// Allocated bytes below which `is_space_low` says so: 0 to `RESERVE_BYTES_MAX`, and no more
    /// than `PREPARED_SEGMENT_COUNT_MAX` segments hold.
    pub reserve_bytes: u64,
    /// Ledger time at which a new journal begins, in milliseconds since the epoch. A journal that
    /// exists goes on at the time of its last record.
    pub time_ms: i64,
    /// Identity of a journal created by this opening; `None` draws one at random.
    pub journal_id: Option<u128>,
    /// How far this opening raises the epoch, at least 1; `None` draws 1 to 65,535 at random, so
    /// that an opening after a rollback does not take the number of one that was lost.
    pub epoch_step: Option<u16>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            reserve_bytes: RESERVE_BYTES_DEFAULT,
            time_ms: 0,
            journal_id: None,
            epoch_step: None,
        }
    }
}

impl JournalOptions {
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        let (minimum, maximum) = (u64::from(SEGMENT_BYTES_MIN), u64::from(SEGMENT_BYTES_MAX));
        check(
            "segment_bytes",
            u64::from(self.segment_bytes),
            minimum,
            maximum,
        )?;
        check(
            "reserve_bytes",
            self.reserve_bytes,
            0,
            self.reserve_bytes_max(),
        )
    }

    /// Bytes of a new segment: whole slots.
    pub(crate) fn slot_segment_bytes(&self) -> u32 {
        self.segment_bytes / SLOT_BYTES * SLOT_BYTES
    }

    /// Most bytes that prepared segments of this length can keep back.
    pub(crate) fn reserve_bytes_max(&self) -> u64 {
        let each = self.slot_segment_bytes() - 2 * HEADER_BYTES;
        RESERVE_BYTES_MAX.min(u64::from(PREPARED_SEGMENT_COUNT_MAX) * u64::from(each))
    }
}

fn check(option: &'static str, found: u64, minimum: u64, maximum: u64) -> Result<(), JournalError> {
    if (minimum..=maximum).contains(&found) {
        return Ok(());
    }
    Err(JournalError::Option {
        option,
        found,
        minimum,
        maximum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(segment_bytes: u32, reserve_bytes: u64) -> JournalOptions {
        JournalOptions {
            segment_bytes,
            reserve_bytes,
            ..JournalOptions::default()
        }
    }

    #[test]
    fn default_options_are_in_range() {
        assert!(JournalOptions::default().check().is_ok());
    }

    #[test]
    fn options_at_their_limits_pass_and_one_past_is_refused() {
        assert!(options(SEGMENT_BYTES_MIN, 0).check().is_ok());
        assert!(options(SEGMENT_BYTES_MIN - 1, 0).check().is_err());
        assert!(
            options(SEGMENT_BYTES_MAX, RESERVE_BYTES_MAX)
                .check()
                .is_ok()
        );
        assert!(options(SEGMENT_BYTES_MAX + 1, 0).check().is_err());
        assert!(
            options(SEGMENT_BYTES_MAX, RESERVE_BYTES_MAX + 1)
                .check()
                .is_err()
        );
    }

    #[test]
    fn reserve_is_refused_where_prepared_segments_cannot_hold_it() {
        let most = options(SEGMENT_BYTES_MIN, 0).reserve_bytes_max();

        assert!(options(SEGMENT_BYTES_MIN, most).check().is_ok());
        assert!(options(SEGMENT_BYTES_MIN, most + 1).check().is_err());
    }
}
