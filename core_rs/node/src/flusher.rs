//! The thread that makes the journal durable: one flush in flight, and the next takes all that
//! came.
//!
//! Owns: the pace of flushes, which is the disk's own. Must not: touch Python or hold the node's
//! lock. Where next: `waiters.rs`, which it lets go.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use lastunit_journal::Batch;

use crate::failpoints::{self, Failpoint};
use crate::shared::Shared;

/// How the flusher is woken and stopped.
#[derive(Default)]
pub(crate) struct FlushSignal {
    thread: OnceLock<Thread>,
    /// Whether the flusher is about to sleep. SeqCst with the journal's own lock: either the
    /// flusher sees the record in its second look, or the appender sees that it must wake it.
    is_idle: AtomicBool,
    is_stopping: AtomicBool,
}

impl FlushSignal {
    /// Says that something was appended. Costs one atomic swap while a flush is in flight.
    pub(crate) fn wake(&self) {
        if self.is_idle.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// Asks the flusher to end once nothing waits.
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

/// Runs until stopped or until the journal fails.
pub(crate) fn run(shared: &Shared) {
    let signal = &shared.flush_signal;
    signal.thread.get_or_init(thread::current);
    loop {
        while let Some(batch) = shared.journal.take_batch() {
            if !flush(shared, batch) {
                return;
            }
        }
        signal.is_idle.store(true, Ordering::SeqCst);
        if let Some(batch) = shared.journal.take_batch() {
            signal.is_idle.store(false, Ordering::SeqCst);
            if !flush(shared, batch) {
                return;
            }
            continue;
        }
        if signal.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        thread::park();
    }
}

/// Writes one batch and lets the answers go that waited for it; false once the journal failed.
pub(crate) fn flush(shared: &Shared, batch: Batch) -> bool {
    failpoints::visit(Failpoint::AfterAppendBeforeWrite);
    let start = Instant::now();
    let before = shared.waiters.durable();
    match shared.journal.write_and_sync(batch) {
        Ok(durable) => {
            failpoints::visit(Failpoint::AfterSyncBeforeReply);
            shared.meters.count_flush(start.elapsed(), durable - before);
            shared.waiters.advance(durable);
            shared.watches.wake();
            shared.keeper_signal.look(shared, durable);
            true
        }
        Err(error) => {
            shared.fail_journal(&error.to_string());
            false
        }
    }
}
