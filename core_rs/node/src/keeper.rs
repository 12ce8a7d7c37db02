//! The thread that keeps the journal in shape: room ahead, snapshots, a seal when it is quiet.
//!
//! Owns: when these happen. Must not: hold the node's lock while it writes. Where next: `open.rs`,
//! which reads what is kept here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use lastunit_engine::{Ledger, Millis, Sequence};
use lastunit_journal::JournalError;

use crate::epochs::Epochs;
use crate::failpoints::{self, Failpoint};
use crate::lane_lock::Urgency;
use crate::shared::Shared;

/// How long nothing must have happened before the journal is sealed.
const QUIET: Duration = Duration::from_millis(200);

/// How long to wait after failed work: a full disk does not get emptier by trying.
const RETRY: Duration = Duration::from_secs(1);

/// Mark and version of what the node keeps in a snapshot before the engine's own bytes: the mark,
/// ledger time, the length of the list of epochs, and that list.
const SNAPSHOT_MARK: [u8; 8] = *b"LUNODE01";

/// Bytes before the list of epochs.
const SNAPSHOT_HEADER_BYTES: usize = 24;

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

pub(crate) fn is_snapshot_due(shared: &Shared, durable: Sequence) -> bool {
    durable - shared.keeper_signal.snapshot_sequence() >= shared.settings.snapshot_events
}

/// Runs until stopped.
pub(crate) fn run(shared: &Shared) {
    let signal = &shared.keeper_signal;
    signal.thread.get_or_init(thread::current);
    let mut last = 0;
    let mut retry_at = Instant::now();
    while !signal.is_stopping.load(Ordering::SeqCst) {
        if Instant::now() >= retry_at && !keep(shared) {
            retry_at = Instant::now() + RETRY;
        }
        let durable = shared.waiters.durable();
        let is_quiet = durable == last && durable == shared.journal.appended_sequence();
        if is_quiet {
            seal_if_quiet(shared);
        }
        last = durable;
        thread::park_timeout(QUIET);
    }
}

/// Does what is due; returns whether all of it went well.
fn keep(shared: &Shared) -> bool {
    let mut is_well = true;
    if shared.journal.is_preparation_due() {
        is_well = note(shared, shared.journal.prepare_segment());
    }
    if is_snapshot_due(shared, shared.waiters.durable()) {
        is_well &= note(shared, write_snapshot(shared));
    }
    is_well
}

/// Seals the journal, unless a command came in meanwhile: the next quiet moment will do then.
pub(crate) fn seal_if_quiet(shared: &Shared) {
    let Ok(mut core) = shared.lock(Urgency::Ordinary) else {
        return;
    };
    let time = core.clock.now();
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

/// Writes a snapshot of the present state once that is durable.
pub(crate) fn write_snapshot(shared: &Shared) -> Result<(), JournalError> {
    take_copy(shared).map_or(Ok(()), |copy| write_copy(shared, copy))
}

/// The state as of one moment, to be written later.
pub(crate) struct Copy {
    header: Vec<u8>,
    ledger: Ledger,
}

/// Copies the state. The lock is held for that only; turning the copy into bytes and writing them,
/// which takes far longer, is done without it.
pub(crate) fn take_copy(shared: &Shared) -> Option<Copy> {
    let mut core = shared.lock(Urgency::Ordinary).ok()?;
    let time = core.clock.now();
    let header = snapshot_header(time, &core.epochs.to_bytes());
    let ledger = core.ledger.clone();
    Some(Copy { header, ledger })
}

/// Writes a copy once what it shows is durable.
pub(crate) fn write_copy(shared: &Shared, copy: Copy) -> Result<(), JournalError> {
    let Copy { header, ledger } = copy;
    let sequence = ledger.sequence();
    if sequence == 0 || shared.wait_durable(sequence).is_err() {
        return Ok(());
    }
    let state = ledger.to_snapshot();
    drop(ledger);
    let mut writer = shared.journal.start_snapshot(sequence)?;
    writer.write(&header)?;
    let (first, second) = state.split_at(state.len() / 2);
    writer.write(first)?;
    failpoints::visit(Failpoint::DuringSnapshot);
    writer.write(second)?;
    writer.finish()?;
    shared.keeper_signal.note_snapshot(sequence);
    shared.meters.count_snapshot(state.len());
    Ok(())
}

fn snapshot_header(time: Millis, epochs: &[u8]) -> Vec<u8> {
    let mut header = SNAPSHOT_MARK.to_vec();
    header.extend_from_slice(&time.to_le_bytes());
    header.extend_from_slice(&(epochs.len() as u64).to_le_bytes());
    header.extend_from_slice(epochs);
    header
}

/// What the node kept in a snapshot, and the engine's bytes after it.
pub(crate) struct SnapshotParts<'a> {
    pub(crate) time: Millis,
    pub(crate) epochs: Epochs,
    pub(crate) state: &'a [u8],
}

/// Takes a snapshot apart; None if it is not one of ours.
pub(crate) fn split_snapshot(bytes: &[u8]) -> Option<SnapshotParts<'_>> {
    let (header, rest) = bytes.split_at_checked(SNAPSHOT_HEADER_BYTES)?;
    let (mark, numbers) = header.split_at(SNAPSHOT_MARK.len());
    let (time, length) = numbers.split_at(8);
    let length = usize::try_from(u64::from_le_bytes(length.try_into().ok()?)).ok()?;
    let (epochs, state) = rest.split_at_checked(length)?;
    (mark == SNAPSHOT_MARK).then_some(())?;
    Some(SnapshotParts {
        time: Millis::from_le_bytes(time.try_into().ok()?),
        epochs: Epochs::from_bytes(epochs)?,
        state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshot_header_keeps_time_and_epochs_and_refuses_strangers() {
        let mut epochs = Epochs::default();
        epochs.note(3, 9);
        let mut bytes = snapshot_header(-7, &epochs.to_bytes());
        bytes.extend_from_slice(b"state");
        let parts = split_snapshot(&bytes).expect("was just made");
        assert_eq!(
            (-7, epochs, &b"state"[..]),
            (parts.time, parts.epochs, parts.state)
        );

        assert!(split_snapshot(&bytes[..30]).is_none());
        bytes[0] ^= 1;
        assert!(split_snapshot(&bytes).is_none());
    }
}
