//! Reading durable records by sequence, while others are written.
//!
//! Never looks past the durable end, so it never sees a record that a crash could take back. A
//! record that is not what was written is reported and never passed over.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::error::JournalError;
use crate::limits::{HEADER_BYTES, READ_BODY_BYTES_MAX};
use crate::names;
use crate::position::Position;
use crate::record::Record;
use crate::segment::damaged;
use crate::shared::Shared;
use crate::slot::{Kind, RecordHeader};
use crate::window::{Slot, Window};

/// Records that `Records` fetches at once.
const PAGE_RECORD_COUNT: usize = 4096;

/// Reads durable records while others are written. Cheap to clone, free to share between threads.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<Shared>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns records in order, from the one that holds the event `sequence + 1` on.
    ///
    /// Stops at what is durable now, after `record_count_max` records (1 or more), or after
    /// `READ_BODY_BYTES_MAX` bytes of bodies. Empty if nothing after `sequence` is durable. The
    /// first record starts at or before `sequence + 1`: a caller inside a record skips the events
    /// it has.
    ///
    /// # Errors
    /// `Removed` if the event `sequence + 1` was removed, `Damaged` if a record is not what was
    /// written, `Storage` if it cannot be read. None of them poisons.
    pub fn read_after(
        &self,
        sequence: i64,
        record_count_max: usize,
    ) -> Result<Vec<Record>, JournalError> {
        let mut records = Vec::new();
        let mut body_bytes = 0;
        self.walk_after(sequence, &mut |record, _| {
            body_bytes += record.body.len();
            records.push(record);
            records.len() < record_count_max.max(1) && body_bytes < READ_BODY_BYTES_MAX
        })?;
        Ok(records)
    }

    /// Returns the sequence of the last durable event, 0 if there is none.
    #[must_use]
    pub fn durable_sequence(&self) -> i64 {
        self.shared.index().durable_sequence
    }

    /// Returns the sequence of the first event that can still be read, or would be if there is none
    /// yet: 1 until segments are removed.
    ///
    /// # Errors
    /// As `read_after`.
    pub fn first_sequence(&self) -> Result<i64, JournalError> {
        loop {
            let (first, end) = {
                let index = self.shared.index();
                (index.first_segment(), index.durable_end)
            };
            if first <= 1 {
                return Ok(1);
            }
            match self.learn_start(first, end) {
                // Removed while it was read: the next one is the first then.
                Err(_) if self.shared.index().first_segment() != first => {}
                found => return found,
            }
        }
    }

    /// Returns the durable record that holds an event, with the checksum of its header.
    pub(crate) fn record_with(&self, sequence: i64) -> Result<Option<(Record, u32)>, JournalError> {
        let mut found = None;
        self.walk_after(sequence - 1, &mut |record, crc| {
            found = Some((record, crc));
            false
        })?;
        Ok(found)
    }

    /// Gives every record after `sequence` to `take` until it says no or nothing more is durable.
    fn walk_after(
        &self,
        sequence: i64,
        take: &mut dyn FnMut(Record, u32) -> bool,
    ) -> Result<(), JournalError> {
        let mut reached = 0;
        let walked = self.walk(sequence.max(0), &mut reached, take);
        // What went wrong in a segment that is removed meanwhile, did because of that.
        let is_removed = walked.is_err() && reached < self.shared.index().first_segment();
        if is_removed {
            return Err(self.removed(sequence)?);
        }
        walked
    }

    fn removed(&self, after_sequence: i64) -> Result<JournalError, JournalError> {
        Ok(JournalError::Removed {
            after_sequence,
            first_sequence: self.first_sequence()?,
        })
    }

    /// As `walk_after`; notes in `reached` the segment it looks at.
    fn walk(
        &self,
        sequence: i64,
        reached: &mut u32,
        take: &mut dyn FnMut(Record, u32) -> bool,
    ) -> Result<(), JournalError> {
        let end = {
            let index = self.shared.index();
            if sequence >= index.durable_sequence {
                return Ok(());
            }
            index.durable_end
        };
        // What cannot be read on the way back to the record lies at or before it.
        *reached = self.shared.index().first_segment();
        let mut place = self.find(sequence + 1, end)?;
        *reached = place.segment;
        let mut window = self.window(place.segment)?;
        let mut chain = None;
        while place < end {
            let (header, crc) = read_record(&mut window, place, chain)?;
            chain = Some(crc);
            if header.kind == Kind::Events && header.next_sequence() > sequence + 1 {
                let record = record_of(&mut window, place, &header)?;
                if !take(record, crc) {
                    return Ok(());
                }
            }
            place.offset += header.bytes();
            if header.kind == Kind::End {
                place = Position::new(place.segment + 1, HEADER_BYTES);
                *reached = place.segment;
                window = self.window(place.segment)?;
            }
            self.shared_mark(place, &header, end);
        }
        Ok(())
    }

    /// Notes where the walk came by, so that the next one through an old segment is short.
    fn shared_mark(&self, place: Position, before: &RecordHeader, end: Position) {
        let is_due = {
            let index = self.shared.index();
            place < end && index.is_mark_due(place)
        };
        if is_due {
            self.shared.index_mut().mark(place, before.next_sequence());
        }
    }

    fn window(&self, number: u32) -> Result<Window<'_>, JournalError> {
        let readable = self.shared.index().readable_bytes(number);
        let (segment_bytes, limit) = readable.ok_or_else(|| {
            damaged(
                &names::segment(number),
                0,
                "the segment is missing although it is referred to",
            )
        })?;
        let window = Window::new(&*self.shared.storage, self.shared.id, number, segment_bytes);
        Ok(window.up_to(limit))
    }

    /// Returns a record at or before the one that holds `sequence`, as near as the index knows.
    fn find(&self, sequence: i64, end: Position) -> Result<Position, JournalError> {
        let first = self.shared.index().first_segment();
        for number in (first..=end.segment).rev() {
            let known = self.shared.index().nearest(number, sequence);
            if let Some(place) = known {
                return Ok(place);
            }
            if self.learn_start(number, end)? <= sequence {
                return Ok(Position::new(number, HEADER_BYTES));
            }
        }
        if first > 1 {
            return Err(self.removed(sequence - 1)?);
        }
        let problem = "the journal does not start with the first event";
        Err(damaged(&names::segment(1), 0, problem))
    }

    /// Returns the sequence that a segment starts with, read if need be; the last there is if it is
    /// empty.
    fn learn_start(&self, number: u32, end: Position) -> Result<i64, JournalError> {
        let place = Position::new(number, HEADER_BYTES);
        let known = self.shared.index().start_sequence(number);
        if let Some(sequence) = known {
            return Ok(sequence);
        }
        if place >= end {
            return Ok(i64::MAX);
        }
        let (header, _) = read_record(&mut self.window(number)?, place, None)?;
        self.shared.index_mut().mark(place, header.first_sequence);
        Ok(header.first_sequence)
    }
}

fn read_record(
    window: &mut Window<'_>,
    place: Position,
    chain: Option<u32>,
) -> Result<(RecordHeader, u32), JournalError> {
    let problem = match window.slot(place.offset)? {
        Slot::Record { header, crc } if chain.is_none_or(|chain| chain == header.chain) => {
            return Ok((header, crc));
        }
        Slot::Record { .. } => "the record's chain checksum differs from the record before it",
        Slot::Zero => "no record, only zeros",
        Slot::Bad(problem) => problem,
    };
    Err(damaged(
        &names::segment(place.segment),
        u64::from(place.offset),
        problem,
    ))
}

fn record_of(
    window: &mut Window<'_>,
    place: Position,
    header: &RecordHeader,
) -> Result<Record, JournalError> {
    let body = window
        .bytes(place.offset + HEADER_BYTES, header.body_bytes)?
        .to_vec();
    Ok(Record {
        first_sequence: header.first_sequence,
        event_count: header.event_count,
        time_ms: header.time_ms,
        epoch: i64::from(header.epoch),
        position: place,
        body,
    })
}

/// Records to replay, in order, read as they are asked for.
#[derive(Debug)]
pub struct Records {
    reader: Reader,
    page: VecDeque<Record>,
    after: i64,
    until: i64,
}

impl Records {
    /// Yields what stands after `after` up to `until`, both sequences.
    pub(crate) fn new(reader: Reader, after: i64, until: i64) -> Self {
        Self {
            reader,
            page: VecDeque::new(),
            after,
            until,
        }
    }
}

impl Records {
    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }
}

impl Iterator for Records {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && self.after < self.until {
            match self.reader.read_after(self.after, PAGE_RECORD_COUNT) {
                Ok(records) => self.page = records.into(),
                Err(error) => {
                    // An error ends the replay: what follows it would have a gap before it.
                    self.after = self.until;
                    return Some(Err(error));
                }
            }
        }
        let record = self.page.pop_front()?;
        if record.last_sequence() > self.until {
            self.page.clear();
            self.after = self.until;
            return None;
        }
        self.after = record.last_sequence();
        Some(Ok(record))
    }
}
