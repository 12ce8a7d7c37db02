//! Writing a snapshot beside the running journal: under a temporary name, synced, renamed, synced
//! again.
//!
//! Runs on the keeper's thread and takes no lock that appends or flushes need.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bytes::Header;
use crate::error::JournalError;
use crate::limits::{
    CHUNK_BYTES, HEADER_BYTES, SNAPSHOT_BYTES_MAX, SNAPSHOT_COUNT_KEPT, SNAPSHOT_SYNC_BYTES,
};
use crate::names;
use crate::reader::Reader;
use crate::shared::Shared;
use crate::snapshot::{SnapshotHeader, footer};

/// A snapshot that is being written in chunks. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
#[must_use = "a snapshot counts only once it is finished"]
pub struct SnapshotWriter {
    shared: Arc<Shared>,
    claim: Claim,
    name: String,
    header: Header,
    /// What was handed in and not written yet, so that small chunks cost no system call each.
    pending: Vec<u8>,
    written_bytes: u64,
    synced_bytes: u64,
    body_crc: u32,
    is_finished: bool,
}

/// The right to write the one snapshot at a time; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    pub(crate) fn take(is_taken: &Arc<AtomicBool>) -> Option<Self> {
        let was_taken = is_taken.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| Self(Arc::clone(is_taken)))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl SnapshotWriter {
    pub(crate) fn start(
        shared: Arc<Shared>,
        claim: Claim,
        sequence: i64,
    ) -> Result<Self, JournalError> {
        shared.check_poison()?;
        let refuse = |problem: String| JournalError::Snapshot { sequence, problem };
        let reader = Reader::new(Arc::clone(&shared));
        let durable = reader.durable_sequence();
        if sequence < 1 {
            return Err(refuse("there is no event yet".to_owned()));
        }
        if sequence > durable {
            return Err(refuse(format!(
                "only {durable} is durable: take it after the next flush"
            )));
        }
        let found = reader.record_with(sequence)?;
        let whole = found.filter(|(record, _)| record.last_sequence() == sequence);
        let Some((record, witness_crc)) = whole else {
            return Err(refuse(
                "it is inside a record: take it between two commands".to_owned(),
            ));
        };
        let header = SnapshotHeader {
            id: shared.id,
            sequence,
            witness: record.position,
            witness_crc,
        };
        let mut writer = Self {
            shared,
            claim,
            name: names::snapshot(sequence),
            header: header.encode(),
            pending: Vec::new(),
            written_bytes: 0,
            synced_bytes: 0,
            body_crc: 0,
            is_finished: false,
        };
        writer.clear_name()?;
        writer.pending.extend_from_slice(&writer.header);
        Ok(writer)
    }

    /// Removes what an earlier try left under this name: it must not show behind a shorter one.
    fn clear_name(&self) -> Result<(), JournalError> {
        match self.remove_temporary() {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(self.fail("clear the way for", source))
            }
            _ => Ok(()),
        }
    }

    /// Adds the next chunk of the state, of any length.
    ///
    /// # Errors
    /// `Storage` on a full disk (the journal lives on) or another failure (the journal is
    /// poisoned), `Poisoned` once the journal has failed elsewhere, `Snapshot` past
    /// `SNAPSHOT_BYTES_MAX`.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), JournalError> {
        let body_bytes = self.body_bytes() + chunk.len() as u64;
        if body_bytes > SNAPSHOT_BYTES_MAX {
            let problem = format!("the state is over the limit of {SNAPSHOT_BYTES_MAX} bytes");
            let sequence = names::parse_snapshot(&self.name).unwrap_or_default();
            return Err(JournalError::Snapshot { sequence, problem });
        }
        self.body_crc = crc32c::crc32c_append(self.body_crc, chunk);
        self.pending.extend_from_slice(chunk);
        if self.pending.len() < CHUNK_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn body_bytes(&self) -> u64 {
        self.written_bytes + self.pending.len() as u64 - u64::from(HEADER_BYTES)
    }

    // Before each call that changes files: a journal that has failed is not touched any more.
    fn flush(&mut self) -> Result<(), JournalError> {
        self.shared.check_poison()?;
        let temporary = names::temporary(&self.name);
        let storage = &self.shared.storage;
        let outcome = storage.write(&temporary, self.written_bytes, &self.pending);
        outcome.map_err(|source| self.fail("write", source))?;
        self.written_bytes += self.pending.len() as u64;
        self.pending.clear();
        if self.written_bytes - self.synced_bytes >= SNAPSHOT_SYNC_BYTES {
            self.shared.check_poison()?;
            let outcome = storage.sync(&temporary);
            outcome.map_err(|source| self.fail("sync", source))?;
            self.synced_bytes = self.written_bytes;
        }
        Ok(())
    }

    fn fail(&self, operation: &'static str, source: io::Error) -> JournalError {
        let error = JournalError::storage(operation, &self.name, source);
        self.shared.fail_unless_full(error)
    }

    /// Makes the snapshot durable under its name and removes all but the newest two.
    ///
    /// # Errors
    /// As `write`.
    pub fn finish(mut self) -> Result<(), JournalError> {
        let foot = footer(&self.header, self.body_bytes(), self.body_crc);
        self.pending.extend_from_slice(&foot);
        self.flush()?;
        let temporary = names::temporary(&self.name);
        let storage = &self.shared.storage;
        self.shared.check_poison()?;
        storage
            .sync(&temporary)
            .map_err(|source| self.fail("sync", source))?;
        self.shared.check_poison()?;
        let renamed = storage.rename(&temporary, &self.name);
        renamed.map_err(|source| self.fail("rename", source))?;
        self.is_finished = true;
        self.shared.check_poison()?;
        let synced = self.shared.storage.sync_directory();
        synced.map_err(|source| self.fail("sync the directory of", source))?;
        self.remove_older()
    }

    fn remove_older(&self) -> Result<(), JournalError> {
        let storage = &self.shared.storage;
        let files = storage
            .list()
            .map_err(|source| self.fail("list beside", source))?;
        let mut sequences: Vec<i64> = files
            .iter()
            .filter_map(|file| names::parse_snapshot(&file.name))
            .collect();
        sequences.sort_unstable();
        let older = sequences.len().saturating_sub(SNAPSHOT_COUNT_KEPT);
        for sequence in &sequences[..older] {
            self.shared.check_poison()?;
            let removed = storage.remove(&names::snapshot(*sequence));
            removed.map_err(|source| self.fail("remove the one before", source))?;
        }
        Ok(())
    }

    fn remove_temporary(&self) -> io::Result<()> {
        let name = names::temporary(&self.name);
        self.shared.storage.remove(&name)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.is_finished && self.shared.check_poison().is_ok() {
            // If it cannot be removed, the next opening does it.
            let _ = self.remove_temporary();
        }
        debug_assert!(self.claim.0.load(Ordering::Relaxed));
    }
}
