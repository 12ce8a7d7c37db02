//! Where calls wait whose lane has no room for them now, if the policy says that they may.
//!
//! Owns: who waits, and the thread that calls them. Must not: decide who is let in, or whose turn
//! it is; calls of a batch never wait. Where next: `serve.rs`; `lines.rs` of the admission crate
//! for the order.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lastunit_admission::{DoorPolicy, Lane, Nanos, WaitingLines};
use serde_json::{Map, Value, json};

use crate::serve::{Entry, Job};
use crate::shared::Shared;

type Called = lastunit_admission::Called<Box<Job>>;

/// All calls that wait.
pub(crate) struct WaitingRoom {
    /// By lane, whether the policy lets calls wait; read without the lock by every call.
    is_open: [AtomicBool; 4],
    /// By lane, how many wait.
    counts: [AtomicUsize; 4],
    rows: Mutex<Rows>,
    bell: Condvar,
}

struct Rows {
    lines: WaitingLines<Box<Job>>,
    is_stopping: bool,
    served_counts: [u64; 4],
    late_counts: [u64; 4],
}

impl WaitingRoom {
    pub(crate) fn new(policy: &DoorPolicy) -> Self {
        let room = Self {
            is_open: Default::default(),
            counts: Default::default(),
            rows: Mutex::new(Rows {
                lines: WaitingLines::new(&policy.limits),
                is_stopping: false,
                served_counts: [0; 4],
                late_counts: [0; 4],
            }),
            bell: Condvar::new(),
        };
        room.set_policy(policy, 0);
        room
    }

    /// Applies a policy; who waits where nobody may any more waits on.
    pub(crate) fn set_policy(&self, policy: &DoorPolicy, now: Nanos) {
        let mut rows = self.rows();
        for lane in Lane::ALL {
            let is_open = policy.limits.lane(lane).queue.is_some();
            self.is_open[lane.index()].store(is_open, Ordering::Relaxed);
        }
        rows.lines.set_policy(&policy.limits, now);
        drop(rows);
        self.bell.notify_one();
    }

    /// Whether calls of this lane may wait.
    pub(crate) fn is_open(&self, lane: Lane) -> bool {
        // Relaxed: a policy holds for a call or for the next one.
        self.is_open[lane.index()].load(Ordering::Relaxed)
    }

    /// Whether somebody waits for this lane: who comes now goes behind.
    pub(crate) fn has_any(&self, lane: Lane) -> bool {
        self.counts[lane.index()].load(Ordering::Relaxed) > 0
    }

    /// Lets a call wait; gives it back if there is no place.
    pub(crate) fn enter(&self, job: Box<Job>, lane: Lane, now: Nanos) -> Result<(), Box<Job>> {
        let mut rows = self.rows();
        if rows.is_stopping {
            return Err(job);
        }
        rows.lines.push(job, lane, now)?;
        let was_empty = self.note_count(&rows, lane) == 1;
        drop(rows);
        if was_empty {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Whether nobody may wait any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.rows().is_stopping
    }

    /// Sends away whoever waits, and whoever would; then the thread ends.
    pub(crate) fn end(&self) {
        self.rows().is_stopping = true;
        self.bell.notify_one();
    }

    /// Counters by lane.
    pub(crate) fn json(&self) -> Value {
        let rows = self.rows();
        let mut lanes = Map::new();
        for lane in Lane::ALL {
            let at = lane.index();
            let row = json!({
                "waiting_count": rows.lines.len(lane),
                "served_count": rows.served_counts[at],
                "late_count": rows.late_counts[at],
            });
            lanes.insert(lane.name().to_owned(), row);
        }
        Value::Object(lanes)
    }

    /// Counts a call for which there was no place.
    pub(crate) fn count_late(&self, lane: Lane) {
        self.rows().late_counts[lane.index()] += 1;
    }

    /// The next call whose turn it is or whose time is over; waits for one. None at the end.
    fn next(&self, shared: &Shared) -> Option<Called> {
        let mut rows = self.rows();
        loop {
            let now = shared.turnstile.now();
            let is_over = rows.is_stopping;
            if let Some(called) = rows.lines.call(now, is_over) {
                self.note_count(&rows, called.lane);
                return Some(called);
            }
            if rows.is_stopping {
                return None;
            }
            rows = match rows.lines.next_look() {
                None => self.bell.wait(rows).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let wait = Duration::from_nanos(at.saturating_sub(now));
                    let woken = self.bell.wait_timeout(rows, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Puts a call back for which there was no room after all.
    fn put_back(&self, called: Called, wait: Nanos, now: Nanos) {
        let mut rows = self.rows();
        let lane = called.lane;
        rows.lines.put_back(called, wait, now);
        self.note_count(&rows, lane);
    }

    fn note_served(&self, lane: Lane, entry: Entry) {
        let mut rows = self.rows();
        let counts = match entry {
            Entry::Late => &mut rows.late_counts,
            Entry::New | Entry::Turn => &mut rows.served_counts,
        };
        counts[lane.index()] += 1;
    }

    fn note_count(&self, rows: &Rows, lane: Lane) -> usize {
        let count = rows.lines.len(lane);
        self.counts[lane.index()].store(count, Ordering::Relaxed);
        count
    }

    /// Each step leaves the rows whole, so a panic elsewhere leaves them usable.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls those who wait, one after the other, until stopped.
pub(crate) fn run(shared: &Shared) {
    let room = &shared.waiting;
    while let Some(called) = room.next(shared) {
        let (lane, is_late) = (called.lane, called.is_late);
        let entry = if is_late { Entry::Late } else { Entry::Turn };
        match called.item.run_as(shared, entry) {
            None => room.note_served(lane, entry),
            Some((item, wait)) => {
                let now = shared.turnstile.now();
                room.put_back(Called { item, ..called }, wait, now);
            }
        }
    }
}
