//! What a call holds from being let in until it is answered.
//!
//! Owns: the way back into admission's count of calls in flight. Must not: decide who comes in.
//! Where next: `door.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lastunit_admission::{Admission, Call, Lane, Nanos, Policy, Refusal, Stats, Verdict};

use crate::clock::instant_now;

/// Admission with its clock.
///
/// One lock of its own, held for one decision (about 100 ns) and never together with the node's
/// lock: calls that are refused must not touch what calls that are let in wait for.
pub(crate) struct Turnstile {
    admission: Mutex<Admission>,
    start: Instant,
    /// Calls not answered yet, of every kind, so that a drain knows when it is done.
    open_count: AtomicU64,
}

impl Turnstile {
    pub(crate) fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self {
            admission: Mutex::new(Admission::new(policy, 0)),
            start: instant_now(),
            open_count: AtomicU64::new(0),
        })
    }

    /// Starts a call: from here on a drain waits for it.
    pub(crate) fn open(self: &Arc<Self>) -> Permit {
        // SeqCst pairs with the node's state: either a drain sees this call, or this call sees that
        // the node drains.
        self.open_count.fetch_add(1, Ordering::SeqCst);
        Permit {
            turnstile: Some(Arc::clone(self)),
            counts: [0; Lane::ALL.len()],
        }
    }

    /// Decides a row of calls in their order, under one lock hold.
    pub(crate) fn admit(
        &self,
        permit: &mut Permit,
        calls: &[Call<'_>],
    ) -> Vec<Result<(), Refusal>> {
        let now = self.now();
        let mut admission = self.admission();
        let decide = |call: &Call<'_>| match admission.admit(call, now) {
            Verdict::Admitted => {
                permit.counts[call.operation.lane().index()] += 1;
                Ok(())
            }
            Verdict::Refused(refusal) => Err(refusal),
        };
        calls.iter().map(decide).collect()
    }

    /// Calls not answered yet.
    pub(crate) fn open_count(&self) -> u64 {
        self.open_count.load(Ordering::SeqCst)
    }

    pub(crate) fn set_policy(&self, policy: Policy) {
        let now = self.now();
        self.admission().set_policy(policy, now);
    }

    pub(crate) fn stats(&self, caller_limit: usize) -> Stats {
        let now = self.now();
        self.admission().stats(caller_limit, now)
    }

    fn now(&self) -> Nanos {
        let elapsed = instant_now().saturating_duration_since(self.start);
        Nanos::try_from(elapsed.as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Admission changes its counters last, so a panic leaves it usable; it only limits.
    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped, so that no way out of a call can forget it.
pub(crate) struct Permit {
    turnstile: Option<Arc<Turnstile>>,
    /// Operations let in, by lane.
    counts: [u32; Lane::ALL.len()],
}

impl Permit {
    /// Belongs to nothing: for the node's own waiting.
    pub(crate) fn free() -> Self {
        Self {
            turnstile: None,
            counts: [0; Lane::ALL.len()],
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(turnstile) = self.turnstile.take() else {
            return;
        };
        if self.counts.iter().any(|count| *count > 0) {
            let mut admission = turnstile.admission();
            for (lane, count) in Lane::ALL.into_iter().zip(self.counts) {
                admission.finish(lane, count);
            }
        }
        turnstile.open_count.fetch_sub(1, Ordering::SeqCst);
    }
}
