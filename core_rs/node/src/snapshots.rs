//! Snapshots beside the live ledger: frozen under the lock in no time, written by a thread of its
//! own.
//!
//! Owns: the form of the node's part of a snapshot, the one copy that is being written, and when a
//! failed one is tried again. Must not: hold the node's lock while it writes. Where next:
//! `keeper.rs`, which says when one is due; `retention.rs`, which removes what it makes needless.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use lastunit_engine::{Frozen, Millis};
use lastunit_journal::JournalError;

use crate::epochs::Epochs;
use crate::failpoints::{self, Failpoint};
use crate::keeper;
use crate::lane_lock::Urgency;
use crate::readers::Readers;
use crate::retention;
use crate::shared::Shared;

/// Mark and version of what the node keeps in a snapshot before the engine's own bytes: the mark,
/// ledger time, and two lists, each after its length: epochs and named readers.
const MARK: [u8; 8] = *b"LUNODE02";

/// The version before it: without readers.
const MARK_WITHOUT_READERS: [u8; 8] = *b"LUNODE01";

/// How long to wait after the first failure; doubled with each that follows.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// How long to wait at most: a full disk that was emptied is noticed within this time.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How often old segments are looked for while no snapshot is written.
const LOOK: Duration = Duration::from_secs(10);

/// How much the writing of snapshots steps back for the threads that serve calls.
const NICENESS: i32 = 10;

/// The state as of one moment, to be written later.
pub(crate) struct Copy {
    header: Vec<u8>,
    /// Ledger time when it was frozen.
    time: Millis,
    frozen: Frozen,
}

/// Where a copy is handed from the keeper to the thread that writes it.
#[derive(Default)]
pub(crate) struct SnapshotDesk {
    thread: OnceLock<Thread>,
    /// Held for a look or a change only.
    state: Mutex<Desk>,
    /// Whether a copy waits or is being written. Relaxed: only the keeper gives, and it only asks
    /// whether it may.
    is_busy: AtomicBool,
    is_stopping: AtomicBool,
}

#[derive(Default)]
struct Desk {
    copy: Option<Copy>,
    retry_at: Option<Instant>,
    retry: Duration,
}

impl SnapshotDesk {
    /// Whether a snapshot may be begun now: none is being written, and the last failure is past.
    pub(crate) fn may_begin(&self) -> bool {
        !self.is_busy.load(Ordering::Relaxed)
            && self.desk().retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// Takes the copy that the thread is to write next.
    pub(crate) fn give(&self, copy: Copy) {
        self.is_busy.store(true, Ordering::Relaxed);
        self.desk().copy = Some(copy);
        self.unpark();
    }

    /// Ends the thread; a snapshot that is being written is given up.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.unpark();
    }

    /// Lets the next snapshot be written to its end although the thread was stopped.
    pub(crate) fn finish(&self) {
        self.is_stopping.store(false, Ordering::SeqCst);
    }

    fn note(&self, is_well: bool) {
        let mut desk = self.desk();
        desk.retry = if is_well {
            Duration::ZERO
        } else {
            (desk.retry * 2).clamp(RETRY_MIN, RETRY_MAX)
        };
        desk.retry_at = (!is_well).then(|| Instant::now() + desk.retry);
        self.is_busy.store(false, Ordering::Relaxed);
    }

    /// A panic cannot leave the desk half changed: each change is one assignment.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Writes what is handed in and removes old segments, until stopped.
pub(crate) fn run(shared: &Shared) {
    let desk = &shared.snapshots;
    desk.thread.get_or_init(thread::current);
    step_back();
    while !desk.is_stopping.load(Ordering::SeqCst) {
        let copy = desk.desk().copy.take();
        if let Some(copy) = copy {
            let written = write_copy(shared, copy);
            // One that was given up because the node stops did not fail.
            let is_stopping = desk.is_stopping.load(Ordering::SeqCst);
            desk.note(is_stopping || keeper::note(shared, written));
        }
        if !desk.is_stopping.load(Ordering::SeqCst) {
            keeper::note(shared, retention::remove_old(shared));
        }
        thread::park_timeout(LOOK);
    }
}

/// Lowers the priority of this thread only; where the system refuses, it stays as it is.
fn step_back() {
    // On Linux each thread has a niceness of its own, asked for by the thread's id.
    let thread = rustix::thread::gettid();
    let _ = rustix::process::setpriority_process(Some(thread), NICENESS);
}

/// Freezes the state: the lock is held for that only, which is measured.
pub(crate) fn take_copy(shared: &Shared) -> Option<Copy> {
    let mut core = shared.lock(Urgency::Ordinary).ok()?;
    let start = Instant::now();
    let time = core.clock.sign_of_life();
    let readers = shared.readers.to_bytes();
    let header = header(time, &core.epochs.to_bytes(), &readers);
    let frozen = core.ledger.freeze();
    let entities = core.ledger.sizes().reservation_count;
    drop(core);
    shared.meters.note_freeze(start.elapsed());
    shared.keeper_signal.note_entities(entities);
    Some(Copy {
        header,
        time,
        frozen,
    })
}

/// Writes a snapshot of the present state on this thread.
pub(crate) fn write_snapshot(shared: &Shared) -> Result<(), JournalError> {
    take_copy(shared).map_or(Ok(()), |copy| write_copy(shared, copy))
}

/// Writes a copy once what it shows is durable.
pub(crate) fn write_copy(shared: &Shared, copy: Copy) -> Result<(), JournalError> {
    let Copy {
        header,
        time,
        frozen,
    } = copy;
    let sequence = frozen.sequence();
    if sequence == 0 || shared.wait_durable(sequence).is_err() {
        return Ok(());
    }
    let start = Instant::now();
    let mut writer = shared.journal.start_snapshot(sequence)?;
    writer.write(&header)?;
    let mut bytes = header.len();
    let desk = &shared.snapshots;
    frozen.write_snapshot(|piece| {
        if desk.is_stopping.load(Ordering::Relaxed) {
            let problem = "the node stops".to_owned();
            return Err(JournalError::Snapshot { sequence, problem });
        }
        writer.write(piece)?;
        failpoints::visit(Failpoint::DuringSnapshot);
        bytes += piece.len();
        Ok(())
    })?;
    // Before the disk is waited for: until then each changed part of the state is kept twice.
    drop(frozen);
    writer.finish()?;
    shared.keeper_signal.note_snapshot(sequence);
    shared.meters.count_snapshot(bytes, start.elapsed());
    shared.meters.note_snapshot_time(time);
    Ok(())
}

fn header(time: Millis, epochs: &[u8], readers: &[u8]) -> Vec<u8> {
    let mut header = MARK.to_vec();
    header.extend_from_slice(&time.to_le_bytes());
    for list in [epochs, readers] {
        header.extend_from_slice(&(list.len() as u64).to_le_bytes());
        header.extend_from_slice(list);
    }
    header
}

/// What the node kept in a snapshot, and the engine's bytes after it.
pub(crate) struct SnapshotParts<'a> {
    pub(crate) time: Millis,
    pub(crate) epochs: Epochs,
    pub(crate) readers: Readers,
    pub(crate) state: &'a [u8],
}

/// Takes a snapshot apart; None if it is not one of ours.
pub(crate) fn split_snapshot(bytes: &[u8]) -> Option<SnapshotParts<'_>> {
    let (mark, rest) = bytes.split_at_checked(MARK.len())?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (epochs, rest) = split_list(rest)?;
    let (readers, state) = match mark {
        _ if mark == MARK => split_list(rest)?,
        _ if mark == MARK_WITHOUT_READERS => (&[][..], rest),
        _ => return None,
    };
    Some(SnapshotParts {
        time: Millis::from_le_bytes(time.try_into().ok()?),
        epochs: Epochs::from_bytes(epochs)?,
        readers: Readers::from_bytes(readers)?,
        state,
    })
}

fn split_list(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(8)?;
    let length = u64::from_le_bytes(length.try_into().ok()?);
    rest.split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_keeps_time_epochs_and_readers_and_refuses_strangers() {
        let mut epochs = Epochs::default();
        epochs.note(3, 9);
        let readers = Readers::default();
        readers.note("payment", 7, 11).expect("the first");
        let mut bytes = header(-7, &epochs.to_bytes(), &readers.to_bytes());
        bytes.extend_from_slice(b"state");
        let parts = split_snapshot(&bytes).expect("was just made");
        assert_eq!(
            (-7, epochs, &b"state"[..]),
            (parts.time, parts.epochs, parts.state)
        );
        assert_eq!(readers.to_bytes(), parts.readers.to_bytes());

        assert!(split_snapshot(&bytes[..30]).is_none());
        bytes[0] ^= 1;
        assert!(split_snapshot(&bytes).is_none());
    }

    #[test]
    fn header_of_the_version_before_is_read_without_readers() {
        let mut bytes = MARK_WITHOUT_READERS.to_vec();
        bytes.extend_from_slice(&5_i64.to_le_bytes());
        bytes.extend_from_slice(&0_u64.to_le_bytes());
        bytes.extend_from_slice(b"state");
        let parts = split_snapshot(&bytes).expect("is readable");

        assert_eq!((5, &b"state"[..]), (parts.time, parts.state));
        assert!(parts.readers.to_bytes().is_empty());
    }

    #[test]
    fn failed_snapshots_are_tried_again_later_and_later() {
        let desk = SnapshotDesk::default();
        assert!(desk.may_begin());
        let mut waits = Vec::new();
        for _ in 0..8 {
            desk.note(false);
            assert!(!desk.may_begin());
            waits.push(desk.desk().retry.as_secs());
        }
        assert_eq!(vec![1, 2, 4, 8, 16, 32, 60, 60], waits);

        desk.note(true);
        assert!(desk.may_begin());
    }
}
