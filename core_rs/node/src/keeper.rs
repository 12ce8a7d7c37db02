//! The thread that keeps the journal in shape: room ahead, a seal when it is quiet, and the moment
//! for a snapshot.
//!
//! Owns: when these happen. Must not: hold the node's lock while it writes, or write a snapshot
//! itself: room ahead must not wait for it. Where next: `snapshots.rs`.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use lastunit_engine::Sequence;
use lastunit_journal::JournalError;

use crate::lane_lock::Urgency;
use crate::shared::Shared;
use crate::snapshots;

/// How long nothing must have happened before the journal is sealed.
const QUIET: Duration = Duration::from_millis(200);

/// How long to wait after failed work: a full disk does not get emptier by trying.
const RETRY: Duration = Duration::from_secs(1);

/// Reservations for each event that must have happened since the last snapshot: writing one costs
/// as much as there are reservations, so a large ledger writes them less often. Recovery reads them
/// all anyway, and replays fewer events than that.
const RESERVATIONS_PER_EVENT: i64 = 2;

/// How the keeper is woken.
#[derive(Default)]
pub(crate) struct KeeperSignal {
    thread: OnceLock<Thread>,
    /// Sequence of the last snapshot. Relaxed: only the keeper writes it, others only compare.
    snapshot_sequence: AtomicI64,
    /// Reservations in the last one. Relaxed: a size to reckon with, it orders nothing.
    entity_count: AtomicI64,
    /// Whether somebody asked for a snapshot. Relaxed: it only makes the next look take one.
    is_snapshot_asked: AtomicBool,
    is_stopping: AtomicBool,
}

impl KeeperSignal {
    /// Asks for a snapshot although none is due.
    pub(crate) fn request_snapshot(&self) {
        self.is_snapshot_asked.store(true, Ordering::Relaxed);
        self.unpark();
    }

    pub(crate) fn note_snapshot(&self, sequence: Sequence) {
        self.snapshot_sequence.store(sequence, Ordering::Relaxed);
    }

    pub(crate) fn note_entities(&self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.entity_count.store(count, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_sequence(&self) -> Sequence {
        self.snapshot_sequence.load(Ordering::Relaxed)
    }

    /// Looks, after a flush, whether there is work; costs two loads when there is not.
    pub(crate) fn look(&self, shared: &Shared, durable: Sequence) {
        let is_snapshot_due = is_snapshot_due(shared, durable) && shared.snapshots.may_begin();
        if is_snapshot_due || shared.journal.is_preparation_due() {
            self.unpark();
        }
    }

    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

pub(crate) fn is_snapshot_due(shared: &Shared, durable: Sequence) -> bool {
    let signal = &shared.keeper_signal;
    let entities = signal.entity_count.load(Ordering::Relaxed);
    let events = shared.settings.snapshot_events;
    durable - signal.snapshot_sequence() >= events.max(entities / RESERVATIONS_PER_EVENT)
}

/// Runs until stopped.
pub(crate) fn run(shared: &Shared) {
    let signal = &shared.keeper_signal;
    signal.thread.get_or_init(thread::current);
    let mut last = 0;
    let mut retry_at = Instant::now();
    while !signal.is_stopping.load(Ordering::SeqCst) {
        if Instant::now() >= retry_at && !prepare(shared) {
            retry_at = Instant::now() + RETRY;
        }
        begin_snapshot(shared);
        let durable = shared.waiters.durable();
        let is_quiet = durable == last && durable == shared.journal.appended_sequence();
        if is_quiet {
            seal_if_quiet(shared);
        }
        last = durable;
        thread::park_timeout(QUIET);
    }
}

/// Makes room ahead if it is due; returns whether that went well.
pub(crate) fn prepare(shared: &Shared) -> bool {
    let journal = &shared.journal;
    !journal.is_preparation_due() || note(shared, journal.prepare_segment())
}

/// Freezes the state for a snapshot, if one is due or asked for and none is being written.
fn begin_snapshot(shared: &Shared) {
    let asked = &shared.keeper_signal.is_snapshot_asked;
    let is_due = is_snapshot_due(shared, shared.waiters.durable());
    if (is_due || asked.load(Ordering::Relaxed)) && shared.snapshots.may_begin() {
        asked.store(false, Ordering::Relaxed);
        if let Some(copy) = snapshots::take_copy(shared) {
            shared.snapshots.give(copy);
        }
    }
}

/// Seals the journal, unless a command came in meanwhile: the next quiet moment will do then.
pub(crate) fn seal_if_quiet(shared: &Shared) {
    let Ok(mut core) = shared.lock(Urgency::Ordinary) else {
        return;
    };
    let time = core.clock.sign_of_life();
    drop(core);
    note(shared, shared.journal.seal(time).map(|_| ()));
}

/// A full disk leaves the journal alive and is counted; anything else has poisoned it.
pub(crate) fn note(shared: &Shared, result: Result<(), JournalError>) -> bool {
    let Err(error) = result else { return true };
    shared.meters.count_keeper_failure();
    if let Some(cause) = shared.journal.poison() {
        shared.fail_journal(&cause);
    } else {
        shared.meters.note_keeper_failure(&error.to_string());
    }
    false
}
