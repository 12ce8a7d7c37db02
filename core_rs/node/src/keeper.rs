//! The thread that keeps the journal in shape: room ahead, snapshots, a seal when it is quiet.
//!
//! Owns: when these happen. Must not: hold the node's lock while it writes. Where next: `open.rs`,
//! which reads what is kept here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use lastunit_engine::{Millis, Sequence};
use lastunit_journal::JournalError;

use crate::failpoints::{self, Failpoint};
use crate::lane_lock::Urgency;
use crate::shared::Shared;

/// How long nothing must have happened before the journal is sealed, and how soon failed work (a
/// full disk) is tried again.
const QUIET: Duration = Duration::from_millis(200);

/// Bytes of a snapshot before the engine's own: a mark with a version, and ledger time.
pub(crate) const SNAPSHOT_HEADER_BYTES: usize = 16;

/// Mark and version of the header.
const SNAPSHOT_MARK: [u8; 8] = *b"LUNODE01";

/// How the keeper is woken.
#[derive(Default)]
pub(crate) struct KeeperSignal {
    thread: OnceLock<Thread>,
    /// Sequence of the last snapshot. Relaxed: only the keeper writes it, others only compare.
    snapshot_sequence: AtomicI64,
    is_stopping: AtomicBool,
}

impl KeeperSignal {
    pub(crate) fn note_snapshot(&self, sequence: Sequence) {
        self.snapshot_sequence.store(sequence, Ordering::Relaxed);
    }

    pub(crate) fn snapshot_sequence(&self) -> Sequence {
        self.snapshot_sequence.load(Ordering::Relaxed)
    }

    /// Looks, after a flush, whether there is work; costs two loads when there is not.
    pub(crate) fn look(&self, shared: &Shared, durable: Sequence) {
        if is_snapshot_due(shared, durable) || shared.journal.is_preparation_due() {
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

fn is_snapshot_due(shared: &Shared, durable: Sequence) -> bool {
    durable - shared.keeper_signal.snapshot_sequence() >= shared.settings.snapshot_events
}

/// Runs until stopped.
pub(crate) fn run(shared: &Shared) {
    let signal = &shared.keeper_signal;
    signal.thread.get_or_init(thread::current);
    let mut last = (0, 0);
    while !signal.is_stopping.load(Ordering::SeqCst) {
        let durable = shared.waiters.durable();
        if shared.journal.is_preparation_due() {
            note(shared, shared.journal.prepare_segment());
        }
        if is_snapshot_due(shared, durable) {
            note(shared, write_snapshot(shared));
        }
        let appended = shared.journal.appended_sequence();
        let is_quiet = durable == appended && last == (durable, appended);
        if is_quiet {
            seal_if_quiet(shared);
        }
        last = (durable, appended);
        thread::park_timeout(QUIET);
    }
}

/// Seals the journal, unless a command came in meanwhile: the next quiet moment will do then.
fn seal_if_quiet(shared: &Shared) {
    let Ok(mut core) = shared.lock(Urgency::Ordinary) else {
        return;
    };
    let time = core.clock.now();
    drop(core);
    note(shared, shared.journal.seal(time).map(|_| ()));
}

/// A full disk leaves the journal alive and is counted; anything else has poisoned it.
fn note(shared: &Shared, result: Result<(), JournalError>) {
    let Err(error) = result else { return };
    shared.meters.count_keeper_failure();
    if let Some(cause) = shared.journal.poison() {
        shared.fail_journal(&cause);
    } else {
        shared.meters.note_keeper_failure(&error.to_string());
    }
}

/// Writes a snapshot of the present state once that is durable.
///
/// The lock is held for a copy of the ledger only; turning it into bytes and writing them, which
/// takes far longer, is done without it.
pub(crate) fn write_snapshot(shared: &Shared) -> Result<(), JournalError> {
    let Ok(mut core) = shared.lock(Urgency::Ordinary) else {
        return Ok(());
    };
    let time = core.clock.now();
    let ledger = core.ledger.clone();
    drop(core);
    let sequence = ledger.sequence();
    if sequence == 0 || shared.wait_durable(sequence).is_err() {
        return Ok(());
    }
    let state = ledger.to_snapshot();
    drop(ledger);
    let mut writer = shared.journal.start_snapshot(sequence)?;
    writer.write(&snapshot_header(time))?;
    let (first, second) = state.split_at(state.len() / 2);
    writer.write(first)?;
    failpoints::visit(Failpoint::DuringSnapshot);
    writer.write(second)?;
    writer.finish()?;
    shared.keeper_signal.note_snapshot(sequence);
    shared.meters.count_snapshot(state.len());
    Ok(())
}

fn snapshot_header(time: Millis) -> [u8; SNAPSHOT_HEADER_BYTES] {
    let mut header = [0; SNAPSHOT_HEADER_BYTES];
    header[..8].copy_from_slice(&SNAPSHOT_MARK);
    header[8..].copy_from_slice(&time.to_le_bytes());
    header
}

/// Splits a snapshot into ledger time and the engine's bytes; None if it is not one of ours.
pub(crate) fn split_snapshot(bytes: &[u8]) -> Option<(Millis, &[u8])> {
    let (header, state) = bytes.split_at_checked(SNAPSHOT_HEADER_BYTES)?;
    let (mark, time) = header.split_at(SNAPSHOT_MARK.len());
    let time = Millis::from_le_bytes(time.try_into().ok()?);
    (mark == SNAPSHOT_MARK).then_some((time, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_header_keeps_the_time_and_refuses_strangers() {
        let mut bytes = snapshot_header(-7).to_vec();
        bytes.extend_from_slice(b"state");
        assert_eq!(Some((-7, &b"state"[..])), split_snapshot(&bytes));

        bytes[0] ^= 1;
        assert_eq!(None, split_snapshot(&bytes));
        assert_eq!(None, split_snapshot(b"short"));
    }
}
