//! Threads for calls that take long, so that no event loop is held up by them.
//!
//! Owns: a bounded line of calls for each. Must not: know what a call does. Where next: `serve.rs`,
//! which says what goes where.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::serve::Job;
use crate::shared::Shared;

/// Messages that may wait for one worker: at 4 MiB each a last resort, in practice the admission
/// bound on operations in flight is reached long before.
const LINE_MAX: usize = 1_024;

enum Message {
    Work(Box<Job>),
    Stop,
}

/// The way to a worker.
pub(crate) struct Worker {
    sender: SyncSender<Message>,
}

/// The worker's own end.
pub(crate) struct Bench {
    receiver: Receiver<Message>,
}

impl Worker {
    pub(crate) fn new() -> (Self, Bench) {
        let (sender, receiver) = sync_channel(LINE_MAX);
        (Self { sender }, Bench { receiver })
    }

    /// Puts a call in line, first come first served; gives it back if the line is full.
    pub(crate) fn give(&self, job: Box<Job>) -> Result<(), Box<Job>> {
        match self.sender.try_send(Message::Work(job)) {
            Err(
                TrySendError::Full(Message::Work(job))
                | TrySendError::Disconnected(Message::Work(job)),
            ) => Err(job),
            _ => Ok(()),
        }
    }

    /// Ends the worker after what is in line.
    pub(crate) fn stop(&self) {
        // A worker that has ended already has no receiver: nothing to stop.
        let _ = self.sender.send(Message::Stop);
    }
}

/// Serves the next call in line on this thread, if there is one; for a node without threads.
#[cfg(feature = "testing")]
pub(crate) fn run_one(shared: &Shared, bench: &Bench) -> bool {
    let Ok(Message::Work(job)) = bench.receiver.try_recv() else {
        return false;
    };
    job.run(shared);
    true
}

/// Works until stopped.
pub(crate) fn run(shared: &Shared, bench: &Bench) {
    while let Ok(Message::Work(job)) = bench.receiver.recv() {
        job.run(shared);
    }
}
