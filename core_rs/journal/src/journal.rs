//! skeleton

use std::sync::Arc;

use crate::{
    Batch, JournalError, JournalOptions, Reader, RecordInput, Recovered, SnapshotWriter, Storage,
};

/// An open journal. Share it in an `Arc`: every call takes `&self`.
///
/// Three kinds of thread meet here. Deciders call `append` (memory only, a lock held for well under a
/// microsecond). One flusher loops `take_batch` and `write_and_sync`. One keeper calls `prepare_segment`
/// when `is_preparation_due`, and writes snapshots. None of them waits for another's disk work, but a
/// `seal` waits for the flush in flight.
#[derive(Debug)]
pub struct Journal {}

impl Journal {
    /// Recovers what the directory holds and opens it for appending under a new epoch.
    ///
    /// Writes nothing before it has decided what the journal is. Then it clears an unfinished tail, makes
    /// what it read durable again, writes the epoch record, and returns.
    ///
    /// # Errors
    /// `Damaged` if acknowledged data is not what was written, `UnsupportedVersion`, `Option`, `Storage`.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), JournalError> {
        unimplemented!("{} {options:?}", Arc::strong_count(&storage))
    }

    /// Adds a record to the open batch and fixes its place. Memory only. Call it before the events are
    /// applied: after any error nothing has changed.
    ///
    /// # Errors
    /// `NoRoom` and `BatchFull` (try again), `RecordTooLarge` and `EventCount` (never fits), `Poisoned`,
    /// `SequenceGap` and `TimeWentBack` (bugs of the caller).
    pub fn append(&self, input: RecordInput<'_>) -> Result<(), JournalError> {
        unimplemented!("{input:?}")
    }

    /// Takes everything appended since the last call; `None` if that is nothing.
    #[must_use]
    pub fn take_batch(&self) -> Option<Batch> {
        unimplemented!()
    }

    /// Writes the batch, waits for the disk, and returns the sequence up to which all is durable now.
    ///
    /// Batches are handed in in the order they were taken. Holds no lock that `append` needs.
    ///
    /// # Errors
    /// `Storage` for the failure that poisons the journal, `Poisoned` ever after, `BatchOrder`.
    pub fn write_and_sync(&self, batch: Batch) -> Result<i64, JournalError> {
        unimplemented!("{batch:?}")
    }

    /// Writes a seal if the journal is idle and not sealed yet; returns whether it wrote one.
    ///
    /// A seal proves everything before it as acknowledged, so that later damage to the last group is
    /// noticed. Call it after a flush when nothing waits, and at a clean stop.
    ///
    /// # Errors
    /// As `write_and_sync`.
    pub fn seal(&self, time_ms: i64) -> Result<bool, JournalError> {
        unimplemented!("{time_ms}")
    }

    /// Returns the sequence of the last durable event, 0 if there is none.
    #[must_use]
    pub fn durable_sequence(&self) -> i64 {
        unimplemented!()
    }

    /// Returns the sequence of the last appended event.
    #[must_use]
    pub fn appended_sequence(&self) -> i64 {
        unimplemented!()
    }

    /// Returns this opening's number, from 1.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        unimplemented!()
    }

    /// Returns why every write is refused, or `None` while the journal works.
    #[must_use]
    pub fn poison(&self) -> Option<String> {
        unimplemented!()
    }

    /// Returns a reader of durable records.
    #[must_use]
    pub fn reader(&self) -> Reader {
        unimplemented!()
    }

    /// Returns the bytes that are allocated and not yet planned for: what can be appended even if the disk is full.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Whether `free_bytes` is under the reserve: refuse new reservations, settlement may still append.
    #[must_use]
    pub fn is_space_low(&self) -> bool {
        unimplemented!()
    }

    /// Sets the bytes kept back, clamped to `RESERVE_BYTES_MAX`; more segments are then prepared ahead.
    pub fn set_reserve_bytes(&self, reserve_bytes: u64) {
        unimplemented!("{reserve_bytes}")
    }

    /// Whether another segment should be prepared now. Cheap; ask after each flush.
    #[must_use]
    pub fn is_preparation_due(&self) -> bool {
        unimplemented!()
    }

    /// Allocates and fills the next segment with zeros, ahead of its use. Takes as long as the disk takes.
    ///
    /// # Errors
    /// `Storage`: on a full disk the journal lives on with the space it has (try again later), any other
    /// failure poisons it. `Poisoned`.
    pub fn prepare_segment(&self) -> Result<(), JournalError> {
        unimplemented!()
    }

    /// Writes a whole snapshot: `start_snapshot`, one `write`, `finish`.
    ///
    /// # Errors
    /// As those.
    pub fn write_snapshot(&self, sequence: i64, bytes: &[u8]) -> Result<(), JournalError> {
        unimplemented!("{sequence} {}", bytes.len())
    }

    /// Starts a snapshot of the state as of `sequence`, the last event of some durable record.
    ///
    /// # Errors
    /// `Snapshot` if `sequence` is not durable yet, is 0, ends no record, or another one is being written.
    pub fn start_snapshot(&self, sequence: i64) -> Result<SnapshotWriter, JournalError> {
        unimplemented!("{sequence}")
    }
}
