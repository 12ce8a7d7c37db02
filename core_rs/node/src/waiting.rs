//! Where calls wait whose lane has no room for them now, if the policy says that they may.
//!
//! Owns: who waits, whose turn it is, and the thread that sees to it. Settlement before
//! reservations before reads, and none below is starved; within a lane the oldest first, in
//! overload the newest. Must not: decide who is let in; calls of a batch never wait. Where next:
//! `serve.rs`; `queue.rs` and `turns.rs` of the admission crate for the order.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lastunit_admission::{DoorPolicy, Lane, Nanos, Popped, QueuePolicy, Turns, WaitQueue};
use serde_json::{Map, Value, json};

use crate::serve::{Entry, Job};
use crate::shared::Shared;

/// Turns that lanes get although those above them have work, in thousandths.
const SHARES: [u32; 4] = [0, 0, 200, 50];

/// A lane without room is looked at again after this at the soonest, and at the latest.
const LOOK_AGAIN: (Nanos, Nanos) = (100_000, 2_000_000);

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
    queues: [WaitQueue<Box<Job>>; 4],
    /// Before this there is no use in asking for the lane.
    resume: [Nanos; 4],
    turns: Turns,
    is_stopping: bool,
    served_counts: [u64; 4],
    late_counts: [u64; 4],
}

/// A call whose waiting ended for now.
struct Called {
    job: Box<Job>,
    lane: Lane,
    since: Nanos,
    entry: Entry,
}

impl WaitingRoom {
    pub(crate) fn new(policy: &DoorPolicy) -> Self {
        let queue = || WaitQueue::new(QueuePolicy::default());
        let room = Self {
            is_open: Default::default(),
            counts: Default::default(),
            rows: Mutex::new(Rows {
                queues: [queue(), queue(), queue(), queue()],
                resume: [0; 4],
                turns: Turns::new(SHARES),
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
            let queue = policy.limits.lane(lane).queue;
            self.is_open[lane.index()].store(queue.is_some(), Ordering::Relaxed);
            if let Some(queue) = queue {
                rows.queues[lane.index()].set_policy(queue, now);
            }
        }
        rows.resume = [now; 4];
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
        rows.queues[lane.index()].push(job, now)?;
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
                "waiting_count": rows.queues[at].len(),
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
            if let Some(called) = rows.call(now) {
                self.note_count(&rows, called.lane);
                return Some(called);
            }
            if rows.is_stopping {
                return None;
            }
            rows = match rows.next_look() {
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
        let at = called.lane.index();
        rows.queues[at].put_back(called.job, called.since, now);
        rows.resume[at] = now + wait.clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
        self.note_count(&rows, called.lane);
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
        let count = rows.queues[lane.index()].len();
        self.counts[lane.index()].store(count, Ordering::Relaxed);
        count
    }

    /// Each step leaves the rows whole, so a panic elsewhere leaves them usable.
    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    /// Calls the next one; at the end everybody, as late.
    fn call(&mut self, now: Nanos) -> Option<Called> {
        let is_due = Lane::ALL.map(|lane| {
            let at = lane.index();
            let expiry = self.queues[at].next_expiry();
            expiry.is_some_and(|expiry| self.is_stopping || expiry <= now || self.resume[at] <= now)
        });
        let lane = self.turns.next(is_due)?;
        let popped = self.queues[lane.index()].pop(now)?;
        let (job, since, entry) = match popped {
            Popped::Served(job, since) if !self.is_stopping => (job, since, Entry::Turn),
            Popped::Served(job, since) => (job, since, Entry::Late),
            Popped::Expired(job) => (job, now, Entry::Late),
        };
        Some(Called {
            job,
            lane,
            since,
            entry,
        })
    }

    /// When to look again; None if nobody waits.
    fn next_look(&self) -> Option<Nanos> {
        let look = |lane: Lane| {
            let at = lane.index();
            let expiry = self.queues[at].next_expiry()?;
            Some(expiry.min(self.resume[at]))
        };
        Lane::ALL.into_iter().filter_map(look).min()
    }
}

/// Calls those who wait, one after the other, until stopped.
pub(crate) fn run(shared: &Shared) {
    let room = &shared.waiting;
    while let Some(called) = room.next(shared) {
        let (lane, entry) = (called.lane, called.entry);
        match called.job.run_as(shared, entry) {
            None => room.note_served(lane, entry),
            Some((job, wait)) => {
                let now = shared.turnstile.now();
                room.put_back(Called { job, ..called }, wait, now);
            }
        }
    }
}
