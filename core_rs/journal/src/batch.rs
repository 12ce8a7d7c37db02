//! Records on their way to the disk: laid out, not yet sealed with checksums.
//!
//! Owns the bytes between `append` and the flush. Checksums are left to the flush, because only
//! then is known what is durable, and because they cost time that the node's lock should not pay.

use crate::limits::HEADER_BYTES;
use crate::position::Position;
use crate::slot::Kind;

/// Records taken out of the open batch, to be written by one `write_and_sync`.
#[derive(Debug, Default)]
#[must_use = "a batch that is not written leaves a hole that stops the journal"]
pub struct Batch {
    /// Counts the batches of this opening, from 0.
    pub(crate) number: u64,
    /// Whole records one after the other, headers still zero.
    pub(crate) buffer: Vec<u8>,
    /// Parts of the buffer by the segment they go to.
    pub(crate) runs: Vec<Run>,
    /// Sequence of the last event, if there is one in it.
    pub(crate) last_sequence: Option<i64>,
}

/// Neighbouring records of one segment: one write and one sync.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) start: Position,
    pub(crate) records: Vec<Planned>,
}

/// What the flush needs to make a header of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) kind: Kind,
    pub(crate) first_sequence: i64,
    pub(crate) time_ms: i64,
    pub(crate) event_count: u32,
    pub(crate) body_bytes: u32,
}

impl Batch {
    /// Returns how many records with events it holds.
    #[must_use]
    pub fn record_count(&self) -> usize {
        let records = self.runs.iter().flat_map(|run| &run.records);
        records
            .filter(|planned| planned.kind == Kind::Events)
            .count()
    }

    /// Returns how many bytes its records take on disk.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the sequence of its last event: once it is written, that one is durable.
    #[must_use]
    pub fn last_sequence(&self) -> Option<i64> {
        self.last_sequence
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Lays out a record at `position`, which continues the last run or starts another one.
    pub(crate) fn push(&mut self, position: Position, planned: Planned, body: &[u8]) {
        let is_next = self
            .runs
            .last()
            .is_some_and(|run| run.start.segment == position.segment);
        if !is_next {
            self.runs.push(Run {
                start: position,
                records: Vec::new(),
            });
        }
        let run = self.runs.last_mut().expect("a run was just made sure of");
        run.records.push(planned);
        let bytes = crate::limits::record_bytes(planned.body_bytes);
        let end = self.buffer.len() + bytes as usize;
        self.buffer
            .resize(self.buffer.len() + HEADER_BYTES as usize, 0);
        self.buffer.extend_from_slice(body);
        self.buffer.resize(end, 0);
        if planned.event_count > 0 {
            self.last_sequence = Some(planned.first_sequence + i64::from(planned.event_count) - 1);
        }
    }
}
