//! Counters of the node, and their form as JSON.
//!
//! Owns: what is counted outside admission. Must not: cost a lock on the way of a call, but for
//! faults, which are rare. Where next: `README.md` of this crate draws the JSON.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lastunit_engine::{Outcome, Sequence};

/// Powers of two of microseconds, from below 64 µs to above 2 s, for the length of a flush.
const SPAN_COUNT: usize = 16;
/// Log2 of the first bound in microseconds.
const SPAN_SHIFT: u32 = 6;

/// Counters; relaxed everywhere: each is a number of its own and orders nothing.
#[derive(Default)]
pub(crate) struct Meters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    replayed: AtomicU64,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    timers: AtomicU64,
    flushes: AtomicU64,
    flushed_events: AtomicU64,
    flush_micros: AtomicU64,
    flush_spans: [AtomicU64; SPAN_COUNT],
    snapshots: AtomicU64,
    snapshot_bytes: AtomicU64,
    snapshot_micros: AtomicU64,
    freeze_micros: AtomicU64,
    freeze_micros_max: AtomicU64,
    audits: AtomicU64,
    audit_micros: AtomicU64,
    removed_segments: AtomicU64,
    removed_bytes: AtomicU64,
    keeper_failures: AtomicU64,
    keeper_failure: Mutex<String>,
    recovery_micros: AtomicU64,
    recovered_events: AtomicU64,
}

impl Meters {
    pub(crate) fn count_outcome(&self, outcome: Outcome, is_replayed: bool) {
        if let Some(index) = Outcome::ALL.iter().position(|it| *it == outcome) {
            add(&self.outcomes[index], 1);
        }
        add(&self.replayed, u64::from(is_replayed));
    }

    pub(crate) fn count_fault(&self, reason: &'static str) {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        *faults.entry(reason).or_default() += 1;
    }

    pub(crate) fn count_timers(&self, count: usize) {
        add(&self.timers, count as u64);
    }

    pub(crate) fn count_flush(&self, elapsed: Duration, events: Sequence) {
        let micros = micros(elapsed);
        add(&self.flushes, 1);
        add(&self.flushed_events, events.unsigned_abs());
        add(&self.flush_micros, micros);
        let bits = u64::BITS - (micros >> SPAN_SHIFT).leading_zeros();
        let span = (bits as usize).min(SPAN_COUNT - 1);
        add(&self.flush_spans[span], 1);
    }

    pub(crate) fn count_snapshot(&self, bytes: usize, elapsed: Duration) {
        add(&self.snapshots, 1);
        self.snapshot_bytes.store(bytes as u64, Ordering::Relaxed);
        self.snapshot_micros
            .store(micros(elapsed), Ordering::Relaxed);
    }

    /// How long the node's lock was held to freeze the ledger.
    pub(crate) fn note_freeze(&self, elapsed: Duration) {
        let micros = micros(elapsed);
        self.freeze_micros.store(micros, Ordering::Relaxed);
        self.freeze_micros_max.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn count_audit(&self, elapsed: Duration) {
        add(&self.audits, 1);
        self.audit_micros.store(micros(elapsed), Ordering::Relaxed);
    }

    pub(crate) fn count_removed_segment(&self, bytes: u32) {
        add(&self.removed_segments, 1);
        add(&self.removed_bytes, u64::from(bytes));
    }

    pub(crate) fn count_keeper_failure(&self) {
        add(&self.keeper_failures, 1);
    }

    pub(crate) fn note_keeper_failure(&self, text: &str) {
        let mut last = self
            .keeper_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        text.clone_into(&mut last);
    }

    pub(crate) fn note_recovery(&self, elapsed: Duration, events: u64) {
        self.recovery_micros
            .store(micros(elapsed), Ordering::Relaxed);
        self.recovered_events.store(events, Ordering::Relaxed);
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let outcomes: BTreeMap<&str, u64> = Outcome::ALL
            .iter()
            .zip(&self.outcomes)
            .map(|(outcome, count)| (outcome.name(), load(count)))
            .collect();
        let faults = self
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let failure = self
            .keeper_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let spans: Vec<(u64, u64)> = self
            .flush_spans
            .iter()
            .enumerate()
            .map(|(index, count)| (1 << (SPAN_SHIFT as usize + index), load(count)))
            .collect();
        serde_json::json!({
            "outcomes": outcomes,
            "replayed_count": load(&self.replayed),
            "faults": faults,
            "timer_count": load(&self.timers),
            "flush": {
                "count": load(&self.flushes),
                "event_count": load(&self.flushed_events),
                "micros_total": load(&self.flush_micros),
                "count_by_micros_below": spans,
            },
            "snapshot": {
                "count": load(&self.snapshots),
                "bytes_last": load(&self.snapshot_bytes),
                "write_micros_last": load(&self.snapshot_micros),
                "freeze_micros_last": load(&self.freeze_micros),
                "freeze_micros_max": load(&self.freeze_micros_max),
            },
            "audit": {
                "count": load(&self.audits),
                "micros_last": load(&self.audit_micros),
            },
            "removed": {
                "segment_count": load(&self.removed_segments),
                "bytes": load(&self.removed_bytes),
            },
            "keeper_failure": {"count": load(&self.keeper_failures), "last": failure},
            "recovery": {
                "micros": load(&self.recovery_micros),
                "event_count": load(&self.recovered_events),
            },
        })
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flushes_are_counted_in_the_span_they_belong_to() {
        let meters = Meters::default();
        for micros in [0, 63, 64, 127, 128, u64::MAX / 2] {
            meters.count_flush(Duration::from_micros(micros), 1);
        }
        let json = meters.to_json();
        let spans = json["flush"]["count_by_micros_below"]
            .as_array()
            .expect("a list");

        assert_eq!(serde_json::json!([64, 2]), spans[0]);
        assert_eq!(serde_json::json!([128, 2]), spans[1]);
        assert_eq!(serde_json::json!([256, 1]), spans[2]);
        assert_eq!(serde_json::json!(1), spans[SPAN_COUNT - 1][1]);
    }

    #[test]
    fn outcomes_and_faults_are_counted_by_name() {
        let meters = Meters::default();
        meters.count_outcome(Outcome::SoldOut, false);
        meters.count_outcome(Outcome::Ok, true);
        meters.count_fault("DRAINING");
        let json = meters.to_json();

        assert_eq!(1, json["outcomes"]["SOLD_OUT"]);
        assert_eq!(1, json["replayed_count"]);
        assert_eq!(1, json["faults"]["DRAINING"]);
    }
}
