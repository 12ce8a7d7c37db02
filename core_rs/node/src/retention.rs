//! How long events are kept on disk: which of the segments that recovery can do without go.
//!
//! Owns: the rule. Must not: judge what recovery needs; the journal does, and never offers that.
//! Where next: `readers.rs`; `docs/operating/retention.md` explains the settings.

use lastunit_engine::{Millis, Sequence};
use lastunit_journal::{JournalError, OldSegment};

use crate::lane_lock::Urgency;
use crate::settings::NodeSettings;
use crate::shared::Shared;

/// Milliseconds in a second.
const SECOND: Millis = 1_000;

/// Removes the oldest segments as far as the rule allows.
pub(crate) fn remove_old(shared: &Shared) -> Result<(), JournalError> {
    let Ok(mut core) = shared.lock(Urgency::Ordinary) else {
        return Ok(());
    };
    let now = core.clock.now();
    drop(core);
    let settings = &shared.settings;
    let forgotten = now.saturating_sub(settings.reader_seconds_max.saturating_mul(SECOND));
    shared.readers.forget_before(forgotten);
    while let Some(segment) = shared.journal.removable_segment()? {
        let view = View {
            now,
            total_bytes: shared.journal.total_bytes(),
            slowest: shared.readers.slowest(),
        };
        if !may_go(&segment, view, settings) {
            break;
        }
        shared.journal.remove_segment(segment)?;
        shared.meters.count_removed_segment(segment.bytes);
    }
    Ok(())
}

/// What the rule looks at beside the segment.
#[derive(Clone, Copy)]
struct View {
    now: Millis,
    total_bytes: u64,
    /// The last event that every named reader has.
    slowest: Option<Sequence>,
}

/// A segment goes when it is older than the time that history is kept and every named reader has
/// read it; or whatever it is, when the journal is larger than it may be.
fn may_go(segment: &OldSegment, view: View, settings: &NodeSettings) -> bool {
    if view.total_bytes > settings.history_bytes_max {
        return true;
    }
    let age = view.now.saturating_sub(segment.end_time_ms);
    let is_old = age >= settings.history_seconds_min.saturating_mul(SECOND);
    let is_read = view.slowest.is_none_or(|it| segment.last_sequence <= it);
    is_old && is_read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_goes_when_it_is_old_and_read_or_when_there_is_too_much() {
        let mut settings = NodeSettings::new("unused".into());
        settings.history_seconds_min = 60;
        settings.history_bytes_max = 1_000;
        let segment = OldSegment {
            number: 1,
            bytes: 100,
            last_sequence: 50,
            end_time_ms: 10_000,
        };
        // Now, bytes of the journal, slowest reader, expected.
        let table = [
            (70_000, 1_000, None, true),
            (69_999, 1_000, None, false),
            (70_000, 1_000, Some(50), true),
            (70_000, 1_000, Some(49), false),
            (10_000, 1_001, Some(0), true),
        ];
        for (now, total_bytes, slowest, expected) in table {
            let view = View {
                now,
                total_bytes,
                slowest,
            };
            assert_eq!(
                expected,
                may_go(&segment, view, &settings),
                "{now} {slowest:?}"
            );
        }
    }
}
