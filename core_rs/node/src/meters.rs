//! Counters of the node, and their form as JSON.
//!
//! Owns: what is counted outside admission. Must not: cost a lock on the way of a call, but for
//! faults, which are rare. Where next: `README.md` of this crate draws the JSON.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lastunit_engine::{Action, Command, Millis, Outcome, Sequence};
use serde_json::{Value, json};

use crate::clock::instant_now;
use crate::core::Decided;
use crate::node::Listener;
use crate::serve::Context;
use crate::spans::Spans;

/// From below 64 µs to above 1 s: the length of a flush.
type FlushSpans = Spans<6>;
/// From below 8 µs to above 0.1 s: how long a call waits for its decision.
type WaitSpans = Spans<3>;
/// From below 128 ms to above 35 minutes: how late payment news is.
type LagSpans = Spans<7>;

/// Counters; relaxed everywhere: each is a number of its own and orders nothing.
#[derive(Default)]
pub(crate) struct Meters {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    replayed: AtomicU64,
    faults: Mutex<BTreeMap<&'static str, u64>>,
    timers: AtomicU64,
    flushed_events: AtomicU64,
    flush_spans: FlushSpans,
    /// By listener: data, settlement.
    wait_spans: [WaitSpans; 2],
    lag_spans: LagSpans,
    snapshots: AtomicU64,
    snapshot_bytes: AtomicU64,
    snapshot_micros: AtomicU64,
    snapshot_time: AtomicI64,
    freeze_micros: AtomicU64,
    freeze_micros_max: AtomicU64,
    audits: AtomicU64,
    audit_micros: AtomicU64,
    audit_findings: AtomicU64,
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
        add(&self.flushed_events, events.unsigned_abs());
        self.flush_spans.count(micros(elapsed));
    }

    /// Counts how long a call, or a chunk of a batch, waited from its arrival to the node's lock.
    pub(crate) fn count_wait(&self, context: Context) {
        let elapsed = instant_now().saturating_duration_since(context.arrived);
        let spans = match context.listener {
            Listener::Data => &self.wait_spans[0],
            Listener::Settlement => &self.wait_spans[1],
        };
        spans.count(micros(elapsed));
    }

    /// Counts a decided command; of payment news also how late it came.
    pub(crate) fn count_decided(&self, command: &Command, decided: &Decided) {
        let reply = &decided.reply;
        self.count_outcome(reply.outcome, reply.replayed);
        if let Action::SettlePayment(settle) = &command.action
            && let Some(occurred_at) = settle.occurred_at
            && reply.outcome == Outcome::Ok
            && !reply.replayed
        {
            let lag = (decided.now - occurred_at).max(0);
            self.lag_spans.count(lag.unsigned_abs());
        }
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

    /// Ledger time of what the last snapshot shows.
    pub(crate) fn note_snapshot_time(&self, time: Millis) {
        self.snapshot_time.store(time, Ordering::Relaxed);
    }

    pub(crate) fn count_audit(&self, elapsed: Duration, findings: usize) {
        add(&self.audits, 1);
        self.audit_findings
            .store(findings as u64, Ordering::Relaxed);
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

    pub(crate) fn to_json(&self) -> Value {
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
        let mut flush = self.flush_spans.to_json("micros");
        flush.insert("event_count".into(), json!(load(&self.flushed_events)));
        let [data, settlement] = &self.wait_spans;
        json!({
            "outcomes": outcomes,
            "replayed_count": load(&self.replayed),
            "faults": faults,
            "timer_count": load(&self.timers),
            "flush": flush,
            "queue": {
                "data": data.to_json("micros"),
                "settlement": settlement.to_json("micros"),
            },
            "settlement_lag": self.lag_spans.to_json("millis"),
            "snapshot": {
                "count": load(&self.snapshots),
                "bytes_last": load(&self.snapshot_bytes),
                "time_ms": self.snapshot_time.load(Ordering::Relaxed),
                "write_micros_last": load(&self.snapshot_micros),
                "freeze_micros_last": load(&self.freeze_micros),
                "freeze_micros_max": load(&self.freeze_micros_max),
            },
            "audit": {
                "count": load(&self.audits),
                "micros_last": load(&self.audit_micros),
                "finding_count_last": load(&self.audit_findings),
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
