//! One flush: checksums, write, sync, publish.
//!
//! The only code that changes a segment in use. Its lock is what keeps one flush in flight; it is
//! never held together with a wait for anything but the disk.

use std::sync::Arc;

use crate::batch::{Batch, Run};
use crate::error::JournalError;
use crate::limits::HEADER_BYTES;
use crate::names;
use crate::position::Position;
use crate::shared::Shared;
use crate::slot::{Kind, RecordHeader};
use crate::tail::Tail;

/// The end of the journal as written.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    next_batch: u64,
    chain: u32,
    /// Raised to `next_epoch` by the epoch record itself: an end record that makes room for it is
    /// of the epoch before.
    epoch: u32,
    next_epoch: u32,
    durable_sequence: i64,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, tail: &Tail, next_epoch: u32) -> Self {
        let durable_sequence = tail.last_sequence();
        Self {
            shared,
            next_batch: 0,
            chain: tail.chain,
            epoch: tail.epoch,
            next_epoch,
            durable_sequence,
        }
    }

    pub(crate) fn next_batch(&self) -> u64 {
        self.next_batch
    }

    /// Writes a batch run by run; each run is durable before the next is begun.
    pub(crate) fn write(&mut self, batch: &mut Batch) -> Result<i64, JournalError> {
        self.shared.check_poison()?;
        if batch.number != self.next_batch {
            let (expected, found) = (self.next_batch, batch.number);
            return Err(self
                .shared
                .fail(JournalError::BatchOrder { expected, found }));
        }
        self.next_batch += 1;
        let mut rest = batch.buffer.as_mut_slice();
        for run in &batch.runs {
            let bytes = run
                .records
                .iter()
                .map(|record| record_length(record.body_bytes))
                .sum();
            let (buffer, behind) = rest.split_at_mut(bytes);
            rest = behind;
            let durable_sequence = self.fill_headers(run, buffer);
            self.flush(run, buffer)?;
            self.durable_sequence = durable_sequence;
            self.publish(run, bytes);
        }
        debug_assert!(rest.is_empty());
        Ok(self.durable_sequence)
    }

    /// Completes the headers of a run, which is one group: all before its start is durable.
    fn fill_headers(&mut self, run: &Run, buffer: &mut [u8]) -> i64 {
        let mut at = 0;
        let mut last_sequence = self.durable_sequence;
        for planned in &run.records {
            let record = &mut buffer[at..at + record_length(planned.body_bytes)];
            let (head, body) = record.split_at_mut(HEADER_BYTES as usize);
            if planned.kind == Kind::Epoch {
                self.epoch = self.next_epoch;
            }
            let header = RecordHeader {
                kind: planned.kind,
                first_sequence: planned.first_sequence,
                durable_sequence: self.durable_sequence,
                durable_position: run.start,
                time_ms: planned.time_ms,
                event_count: planned.event_count,
                body_bytes: planned.body_bytes,
                epoch: self.epoch,
                chain: self.chain,
                body_crc: crc32c::crc32c(body),
            };
            let offset = run.start.offset + u32::try_from(at).expect("a batch is under 4 GiB");
            let place = Position::new(run.start.segment, offset);
            let (bytes, crc) = header.encode(self.shared.id, place);
            head.copy_from_slice(&bytes);
            self.chain = crc;
            last_sequence = header.next_sequence() - 1;
            at += record.len();
        }
        last_sequence
    }

    fn flush(&self, run: &Run, buffer: &[u8]) -> Result<(), JournalError> {
        let name = names::segment(run.start.segment);
        let fail = |operation| {
            let name = &name;
            move |source| {
                self.shared
                    .fail(JournalError::storage(operation, name, source))
            }
        };
        let offset = u64::from(run.start.offset);
        self.shared
            .storage
            .write(&name, offset, buffer)
            .map_err(fail("write"))?;
        self.shared.storage.sync(&name).map_err(fail("sync"))
    }

    fn publish(&self, run: &Run, bytes: usize) {
        let mut place = run.start;
        let mut index = self.shared.index_mut();
        for planned in &run.records {
            index.mark(place, planned.first_sequence);
            place.offset += crate::limits::record_bytes(planned.body_bytes);
        }
        debug_assert_eq!(bytes, (place.offset - run.start.offset) as usize);
        index.durable_end = place;
        index.durable_sequence = self.durable_sequence;
    }
}

fn record_length(body_bytes: u32) -> usize {
    crate::limits::record_bytes(body_bytes) as usize
}
