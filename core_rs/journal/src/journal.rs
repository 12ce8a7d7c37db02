//! The open journal: one value, three kinds of thread.
//!
//! Owns the locks and the order they are taken in: history or keeper, writer, planner, index; never
//! the other way round, and no disk work is done under planner or index. The work itself is in
//! `planner`, `writer`, `segment`, `history` and `snapshot_writer`.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::batch::Batch;
use crate::error::JournalError;
use crate::history::{self, History, OldSegment};
use crate::names;
use crate::options::JournalOptions;
use crate::planner::{Planner, Room};
use crate::reader::Reader;
use crate::record::RecordInput;
use crate::recovered::Recovered;
use crate::recovery::{self, Decision};
use crate::segment::{self, SegmentHeader};
use crate::shared::Shared;
use crate::slot::{JournalId, Kind};
use crate::snapshot_writer::{Claim, SnapshotWriter};
use crate::storage::Storage;
use crate::writer::Writer;

/// An open journal. Share it in an `Arc`: every call takes `&self`.
///
/// Three kinds of thread meet here. Deciders call `append` (memory only, a lock held for well under
/// a microsecond). One flusher loops `take_batch` and `write_and_sync`. One keeper calls
/// `prepare_segment` when `is_preparation_due`, and writes snapshots. None of them waits for
/// another's disk work, but a `seal` waits for the flush in flight.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    /// The open batch. Held by each append, so only for copies in memory.
    planner: Mutex<Planner>,
    /// The end as written. Held for a whole flush: that is what keeps one in flight.
    writer: Mutex<Writer>,
    /// Held while a segment is prepared, so that two keepers do not prepare the same one.
    keeper: Mutex<()>,
    /// Held while old segments are looked for and removed, which reads whole snapshots: not the
    /// keeper's lock, so that room ahead is prepared meanwhile.
    history: Mutex<History>,
    is_snapshot_open: Arc<AtomicBool>,
    epoch: i64,
    options: JournalOptions,
}

/// A thread that panicked inside left half a change behind: the rule is to stop, the files are
/// whole.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked inside the journal")
}

impl Journal {
    /// Recovers what the directory holds and opens it for appending under a new epoch.
    ///
    /// Writes nothing before it has decided what the journal is. Then it clears an unfinished tail,
    /// makes what it read durable again, writes the epoch record, and returns.
    ///
    /// # Errors
    /// `Damaged` if acknowledged data is not what was written, `UnsupportedVersion`, `Option`,
    /// `Storage`, `NoRoom` if the journal is full to the last byte and so is the disk.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered), JournalError> {
        options.check()?;
        let mut decision = recovery::decide(&*storage)?;
        recovery::repair(&*storage, &decision)?;
        if decision.directory.segments.is_empty() {
            create_first(&*storage, &options, &mut decision)?;
        }
        let tail = decision.end.tail;
        let mut planner = planner_of(&decision, &options);
        planner.reserve_bytes = options.reserve_bytes;
        let epoch = next_epoch(tail.epoch, &options)?;
        let (shared, mut recovered) = decision.into_recovered(storage, i64::from(epoch));
        let journal = Self {
            writer: Mutex::new(Writer::new(Arc::clone(&shared), &tail, epoch)),
            planner: Mutex::new(planner),
            keeper: Mutex::new(()),
            history: Mutex::default(),
            is_snapshot_open: Arc::new(AtomicBool::new(false)),
            epoch: i64::from(epoch),
            shared,
            options,
        };
        journal.start_epoch(&mut recovered)?;
        Ok((journal, recovered))
    }

    fn start_epoch(&self, recovered: &mut Recovered) -> Result<(), JournalError> {
        while self.is_preparation_due() {
            match self.prepare_segment() {
                Ok(()) => {}
                Err(error) if error.is_disk_full() => {
                    recovered
                        .notes
                        .push(format!("no segment could be prepared: {error}"));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        held(&self.planner).append_epoch(self.options.time_ms)?;
        if let Some(batch) = self.take_batch() {
            self.write_and_sync(batch)?;
        }
        Ok(())
    }

    /// Adds a record to the open batch and fixes its place. Memory only. Call it before the events
    /// are applied: after any error nothing has changed.
    ///
    /// # Errors
    /// `NoRoom` and `BatchFull` (try again), `RecordTooLarge` and `EventCount` (never fits),
    /// `Poisoned`, `SequenceGap` and `TimeWentBack` (bugs of the caller).
    pub fn append(&self, input: RecordInput<'_>) -> Result<(), JournalError> {
        self.shared.check_poison()?;
        held(&self.planner).append(input)
    }

    /// Takes everything appended since the last call; `None` if that is nothing.
    #[must_use]
    pub fn take_batch(&self) -> Option<Batch> {
        held(&self.planner).take()
    }

    /// Writes the batch, waits for the disk, and returns the sequence up to which all is durable
    /// now.
    ///
    /// Batches are handed in in the order they were taken. Holds no lock that `append` needs.
    ///
    /// # Errors
    /// `Storage` for the failure that poisons the journal, `Poisoned` ever after, `BatchOrder`.
    pub fn write_and_sync(&self, batch: Batch) -> Result<i64, JournalError> {
        self.flush(&mut held(&self.writer), batch)
    }

    fn flush(&self, writer: &mut Writer, mut batch: Batch) -> Result<i64, JournalError> {
        let durable_sequence = writer.write(&mut batch)?;
        held(&self.planner).give_back(batch.buffer);
        Ok(durable_sequence)
    }

    /// Writes a seal if the journal is idle and not sealed yet; returns whether it wrote one.
    ///
    /// A seal proves everything before it as acknowledged, so that later damage to the last group
    /// is noticed. Call it after a flush when nothing waits, and at a clean stop. It carries
    /// `time_ms` (milliseconds since the epoch), or the time of the last record if that is later.
    ///
    /// # Errors
    /// As `write_and_sync`.
    pub fn seal(&self, time_ms: i64) -> Result<bool, JournalError> {
        let mut writer = held(&self.writer);
        self.shared.check_poison()?;
        let batch = {
            let mut planner = held(&self.planner);
            let is_idle = planner.is_empty() && planner.batch_number() == writer.next_batch();
            if !is_idle || planner.is_sealed() {
                return Ok(false);
            }
            // Without room even for a seal there is none: the last group stays unproven, and that
            // is all.
            if planner.append_bare(Kind::Seal, time_ms).is_err() {
                return Ok(false);
            }
            planner.take()
        };
        batch.map_or(Ok(false), |batch| {
            self.flush(&mut writer, batch).map(|_| true)
        })
    }

    /// Returns the sequence of the last durable event, 0 if there is none.
    #[must_use]
    pub fn durable_sequence(&self) -> i64 {
        self.shared.index().durable_sequence
    }

    /// Returns the sequence of the last appended event, 0 if there is none.
    #[must_use]
    pub fn appended_sequence(&self) -> i64 {
        held(&self.planner).appended_sequence()
    }

    /// Returns this opening's number, from 1.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Returns why every write is refused, or `None` while the journal works.
    #[must_use]
    pub fn poison(&self) -> Option<String> {
        self.shared.poison_cause().map(str::to_owned)
    }

    /// Returns a reader of durable records.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// Returns the bytes that are allocated and not yet planned for: what can be appended even if
    /// the disk is full.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        held(&self.planner).free_bytes()
    }

    /// Whether `free_bytes` is under the reserve: refuse new reservations, settlement may still
    /// append.
    #[must_use]
    pub fn is_space_low(&self) -> bool {
        let planner = held(&self.planner);
        planner.free_bytes() < planner.reserve_bytes
    }

    /// Sets the bytes kept back, clamped to what `JournalOptions` allows; more segments are then
    /// prepared ahead.
    pub fn set_reserve_bytes(&self, reserve_bytes: u64) {
        let most = self.options.reserve_bytes_max();
        held(&self.planner).reserve_bytes = reserve_bytes.min(most);
    }

    /// Whether another segment should be prepared now. Cheap; ask after each flush.
    #[must_use]
    pub fn is_preparation_due(&self) -> bool {
        held(&self.planner).is_preparation_due()
    }

    /// Allocates and fills the next segment with zeros, ahead of its use. Takes as long as the disk
    /// takes. Does nothing if none is due. After a full disk, wait a second or more before the next
    /// try.
    ///
    /// # Errors
    /// `Storage`: on a full disk the journal lives on with the space it has (try again later), any
    /// other failure poisons it. `Poisoned`.
    pub fn prepare_segment(&self) -> Result<(), JournalError> {
        let _keeper = held(&self.keeper);
        self.shared.check_poison()?;
        let number = {
            let planner = held(&self.planner);
            if !planner.is_preparation_due() {
                return Ok(());
            }
            planner.last_prepared() + 1
        };
        let segment_bytes = self.options.slot_segment_bytes();
        let header = SegmentHeader {
            id: self.shared.id,
            number,
            segment_bytes,
        };
        let created = create_if_room(&*self.shared.storage, header);
        created.map_err(|error| self.shared.fail_unless_full(error))?;
        self.shared.index_mut().add_segment(number, segment_bytes);
        held(&self.planner).add_prepared(Room {
            number,
            segment_bytes,
        });
        Ok(())
    }

    /// Returns the oldest segment if recovery does not need it any more: both kept snapshots, whole
    /// to the last byte, end behind it. A snapshot is read for that once.
    ///
    /// # Errors
    /// `Storage` or `Damaged` if a snapshot or a segment cannot be read; then nothing is removed.
    pub fn removable_segment(&self) -> Result<Option<OldSegment>, JournalError> {
        self.shared.check_poison()?;
        held(&self.history).removable(&self.shared)
    }

    /// Removes the segment that `removable_segment` has named; durable when this returns. Readers
    /// that come for its events are told so as `Removed`.
    ///
    /// # Errors
    /// `Storage` for the failure that poisons the journal, `Poisoned` ever after.
    pub fn remove_segment(&self, segment: OldSegment) -> Result<(), JournalError> {
        let mut history = held(&self.history);
        self.shared.check_poison()?;
        // Asked again under the lock: only what may go now goes.
        if history.removable(&self.shared)? != Some(segment) {
            return Ok(());
        }
        history::remove(&self.shared, segment.number)
    }

    /// Returns how many segments there are, prepared ones included.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.index().segment_count()
    }

    /// Returns the bytes of every segment, prepared ones included.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.shared.index().total_bytes()
    }

    /// Writes a whole snapshot: `start_snapshot`, one `write`, `finish`.
    ///
    /// # Errors
    /// As those.
    pub fn write_snapshot(&self, sequence: i64, bytes: &[u8]) -> Result<(), JournalError> {
        let mut writer = self.start_snapshot(sequence)?;
        writer.write(bytes)?;
        writer.finish()
    }

    /// Starts a snapshot of the state as of `sequence`, the last event of some durable record.
    ///
    /// # Errors
    /// `Snapshot` if `sequence` is not durable yet, is 0, ends no record, or another one is being
    /// written.
    pub fn start_snapshot(&self, sequence: i64) -> Result<SnapshotWriter, JournalError> {
        let claim = Claim::take(&self.is_snapshot_open).ok_or_else(|| {
            let problem = "another one is being written: finish or drop it first".to_owned();
            JournalError::Snapshot { sequence, problem }
        })?;
        SnapshotWriter::start(Arc::clone(&self.shared), claim, sequence)
    }
}

/// Gives a new journal its identity and its first segment.
fn create_first(
    storage: &dyn Storage,
    options: &JournalOptions,
    decision: &mut Decision,
) -> Result<(), JournalError> {
    decision.id = JournalId(options.journal_id.map_or_else(random_id, Ok)?);
    let number = decision.end.tail.position.segment;
    let segment_bytes = options.slot_segment_bytes();
    segment::create(
        storage,
        SegmentHeader {
            id: decision.id,
            number,
            segment_bytes,
        },
    )?;
    decision.directory.segments.insert(number, segment_bytes);
    decision.index.add_segment(number, segment_bytes);
    Ok(())
}

/// The number of this opening. Near the end of the numbers the steps shrink to 1.
fn next_epoch(last: u32, options: &JournalOptions) -> Result<u32, JournalError> {
    let step = match options.epoch_step {
        Some(step) => step,
        None => u16::from_le_bytes(random("an epoch")?),
    };
    let epoch = last.checked_add(u32::from(step.max(1)));
    epoch
        .or_else(|| last.checked_add(1))
        .ok_or(JournalError::EpochsUsedUp)
}

fn random_id() -> Result<u128, JournalError> {
    random("a journal identity").map(u128::from_le_bytes)
}

fn random<const COUNT: usize>(what: &str) -> Result<[u8; COUNT], JournalError> {
    let mut bytes = [0; COUNT];
    let flags = rustix::rand::GetRandomFlags::empty();
    let drawn = rustix::rand::getrandom(&mut bytes, flags);
    drawn.map_err(|source| JournalError::storage("draw", what, source.into()))?;
    Ok(bytes)
}

fn planner_of(decision: &Decision, options: &JournalOptions) -> Planner {
    let tail = &decision.end.tail;
    let number = tail.position.segment;
    let segment_bytes = decision.directory.segments[&number];
    let mut planner = Planner::new(tail, segment_bytes, options.slot_segment_bytes());
    for (number, segment_bytes) in decision.directory.after(number) {
        planner.add_prepared(Room {
            number,
            segment_bytes,
        });
    }
    planner
}

/// Asks for room before writing megabytes that would not fit, and leaves nothing behind if it
/// fails.
fn create_if_room(storage: &dyn Storage, header: SegmentHeader) -> Result<(), JournalError> {
    let name = names::segment(header.number);
    let free_bytes = storage.free_bytes();
    let free_bytes =
        free_bytes.map_err(|source| JournalError::storage("ask room for", &name, source))?;
    if free_bytes < u64::from(header.segment_bytes) {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        return Err(JournalError::storage("allocate", &name, full));
    }
    segment::create(storage, header).inspect_err(|_| {
        // If it cannot be removed either, the next opening does it.
        let _ = storage.remove(&names::temporary(&name));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_epoch_is_higher_until_there_is_none() {
        let options = |epoch_step| JournalOptions {
            epoch_step: Some(epoch_step),
            ..JournalOptions::default()
        };
        let table = [
            (0, 0, Some(1)),
            (0, 1, Some(1)),
            (7, u16::MAX, Some(65_542)),
            (u32::MAX - 10, 10, Some(u32::MAX)),
            (u32::MAX - 10, 11, Some(u32::MAX - 9)),
            (u32::MAX, 1, None),
        ];
        for (last, step, expected) in table {
            let epoch = next_epoch(last, &options(step));
            assert_eq!(expected, epoch.ok(), "{last} and {step}");
        }
    }
}
