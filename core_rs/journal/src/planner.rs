//! Where the next record goes: the open batch, the prepared segments, and the space that is left.
//!
//! Memory only. The place of a record is fixed when it is appended, so what does not fit is refused
//! before anything changed, and the flush never has to ask for room.

use std::collections::VecDeque;

use crate::batch::{Batch, Planned};
use crate::error::JournalError;
use crate::limits::{
    BATCH_BYTES_MAX, HEADER_BYTES, RECORD_EVENT_COUNT_MAX, record_bytes, segment_body_bytes_max,
};
use crate::position::Position;
use crate::record::RecordInput;
use crate::slot::Kind;
use crate::tail::Tail;

/// A segment and its length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) number: u32,
    pub(crate) segment_bytes: u32,
}

/// The end of the journal as appended, which runs ahead of the end as written.
#[derive(Debug)]
pub(crate) struct Planner {
    open: Batch,
    /// A buffer that was written and can be filled again, so that a flush costs no allocation.
    spare: Vec<u8>,
    next: Position,
    segment_bytes: u32,
    prepared: VecDeque<Room>,
    next_sequence: i64,
    last_time_ms: i64,
    last_kind: Option<Kind>,
    body_bytes_max: u32,
    pub(crate) reserve_bytes: u64,
}

impl Planner {
    pub(crate) fn new(tail: &Tail, segment_bytes: u32, new_segment_bytes: u32) -> Self {
        Self {
            open: Batch::default(),
            spare: Vec::new(),
            next: tail.position,
            segment_bytes,
            prepared: VecDeque::new(),
            next_sequence: tail.next_sequence,
            last_time_ms: tail.time_ms,
            last_kind: None,
            body_bytes_max: segment_body_bytes_max(new_segment_bytes),
            reserve_bytes: 0,
        }
    }

    pub(crate) fn add_prepared(&mut self, room: Room) {
        debug_assert!(room.number > self.last_prepared());
        self.prepared.push_back(room);
    }

    /// Number of the last segment that is there.
    pub(crate) fn last_prepared(&self) -> u32 {
        self.prepared
            .back()
            .map_or(self.next.segment, |room| room.number)
    }

    /// Whether the prepared segments hold less than the reserve, or none takes the longest record.
    pub(crate) fn is_preparation_due(&self) -> bool {
        let longest = record_bytes(self.body_bytes_max);
        let mut rooms = self.prepared.iter();
        let fits = rooms.any(|room| room_after(room.segment_bytes, HEADER_BYTES) >= longest);
        !fits || self.prepared_bytes() < self.reserve_bytes
    }

    pub(crate) fn appended_sequence(&self) -> i64 {
        self.next_sequence - 1
    }

    /// Bytes that records can still take.
    pub(crate) fn free_bytes(&self) -> u64 {
        u64::from(room_after(self.segment_bytes, self.next.offset)) + self.prepared_bytes()
    }

    /// The part of `free_bytes` that lies in segments not used yet.
    fn prepared_bytes(&self) -> u64 {
        let bytes = |room: &Room| u64::from(room_after(room.segment_bytes, HEADER_BYTES));
        self.prepared.iter().map(bytes).sum()
    }

    pub(crate) fn append(&mut self, input: RecordInput<'_>) -> Result<(), JournalError> {
        let body_bytes = self.check(input)?;
        let planned = Planned {
            kind: Kind::Events,
            first_sequence: input.first_sequence,
            time_ms: input.time_ms,
            event_count: input.event_count,
            body_bytes,
        };
        self.place(planned, input.body)?;
        self.next_sequence += i64::from(input.event_count);
        Ok(())
    }

    fn check(&self, input: RecordInput<'_>) -> Result<u32, JournalError> {
        let limit = self.body_bytes_max;
        let bytes = input.body.len() as u64;
        let body_bytes = u32::try_from(bytes).ok().filter(|bytes| *bytes <= limit);
        let body_bytes = body_bytes.ok_or(JournalError::RecordTooLarge {
            bytes,
            limit: u64::from(limit),
        })?;
        if !(1..=RECORD_EVENT_COUNT_MAX).contains(&input.event_count) {
            let (found, limit) = (input.event_count, RECORD_EVENT_COUNT_MAX);
            return Err(JournalError::EventCount { found, limit });
        }
        if input.first_sequence != self.next_sequence {
            let (expected, found) = (self.next_sequence, input.first_sequence);
            return Err(JournalError::SequenceGap { expected, found });
        }
        if input.time_ms < self.last_time_ms {
            let (last_ms, found_ms) = (self.last_time_ms, input.time_ms);
            return Err(JournalError::TimeWentBack { last_ms, found_ms });
        }
        Ok(body_bytes)
    }

    /// Appends the record of an opening, with the time of the last record: an opening that is cut
    /// short is no sign of life; whoever opens next must still see since when nobody was served.
    pub(crate) fn append_epoch(&mut self, first_time_ms: i64) -> Result<(), JournalError> {
        let is_first = self.last_time_ms == i64::MIN;
        self.append_bare(Kind::Epoch, if is_first { first_time_ms } else { i64::MIN })
    }

    /// Adds a record without events, at the time given or that of the last record if that is later.
    pub(crate) fn append_bare(&mut self, kind: Kind, time_ms: i64) -> Result<(), JournalError> {
        let first_sequence = self.next_sequence;
        let time_ms = time_ms.max(self.last_time_ms);
        let planned = Planned {
            kind,
            first_sequence,
            time_ms,
            event_count: 0,
            body_bytes: 0,
        };
        self.place(planned, &[])
    }

    /// Lays the record out in the current segment, or in the first prepared one where it fits.
    fn place(&mut self, planned: Planned, body: &[u8]) -> Result<(), JournalError> {
        let needed = record_bytes(planned.body_bytes);
        let rolls = self.rolls_for(needed)?;
        let ends = u64::from(HEADER_BYTES) * rolls as u64;
        let limit = u64::from(BATCH_BYTES_MAX);
        if self.open.buffer.len() as u64 + ends + u64::from(needed) > limit {
            return Err(JournalError::BatchFull { limit });
        }
        for _ in 0..rolls {
            self.roll();
        }
        self.push(planned, body);
        Ok(())
    }

    /// Returns how many segments have to be ended before one has room.
    fn rolls_for(&self, needed: u32) -> Result<usize, JournalError> {
        let current = std::iter::once(room_after(self.segment_bytes, self.next.offset));
        let prepared = self.prepared.iter();
        let prepared = prepared.map(|room| room_after(room.segment_bytes, HEADER_BYTES));
        let fitting = current.chain(prepared).position(|room| room >= needed);
        fitting.ok_or_else(|| JournalError::NoRoom {
            free_bytes: self.free_bytes(),
            needed_bytes: u64::from(needed),
        })
    }

    fn roll(&mut self) {
        let (kind, first_sequence) = (Kind::End, self.next_sequence);
        let time_ms = self.last_time_ms;
        self.push(
            Planned {
                kind,
                first_sequence,
                time_ms,
                event_count: 0,
                body_bytes: 0,
            },
            &[],
        );
        let room = self
            .prepared
            .pop_front()
            .expect("the rolls were counted over prepared segments");
        self.next = Position::new(room.number, HEADER_BYTES);
        self.segment_bytes = room.segment_bytes;
    }

    fn push(&mut self, planned: Planned, body: &[u8]) {
        self.open.push(self.next, planned, body);
        self.next.offset += record_bytes(planned.body_bytes);
        self.last_time_ms = planned.time_ms;
        self.last_kind = Some(planned.kind);
    }

    /// Whether nothing waits and the last record already proves all before it.
    pub(crate) fn is_sealed(&self) -> bool {
        self.open.is_empty() && matches!(self.last_kind, Some(Kind::Seal | Kind::Epoch))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Number that the open batch will have.
    pub(crate) fn batch_number(&self) -> u64 {
        self.open.number
    }

    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.open.is_empty() {
            return None;
        }
        let number = self.open.number + 1;
        let buffer = std::mem::take(&mut self.spare);
        let next = Batch {
            number,
            buffer,
            ..Batch::default()
        };
        Some(std::mem::replace(&mut self.open, next))
    }

    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() > self.spare.capacity() {
            self.spare = buffer;
        }
    }
}

/// Bytes left for records in a segment that is filled up to `offset`, with its end record kept
/// back.
fn room_after(segment_bytes: u32, offset: u32) -> u32 {
    segment_bytes
        .saturating_sub(offset)
        .saturating_sub(HEADER_BYTES)
}
