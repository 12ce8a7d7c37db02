//! Following the journal record by record to its end, and judging what stands there.
//!
//! Owns the group rule: after the first slot that is no record, a later record that was written
//! when that slot was already durable proves that acknowledged data is damaged: refuse. Without
//! such a proof it is the unfinished tail of one flush: cut. Writes nothing. `FORMAT.md` argues the
//! rule.

use crate::bytes::is_zero;
use crate::directory::Directory;
use crate::error::JournalError;
use crate::limits::{BATCH_BYTES_MAX, HEADER_BYTES, SLOT_BYTES, WINDOW_BYTES};
use crate::names;
use crate::position::Position;
use crate::recovered::Cut;
use crate::segment::damaged;
use crate::slot::{JournalId, Kind, RecordHeader};
use crate::storage::Storage;
use crate::tail::Tail;
use crate::window::{Slot, Window};

/// Where a journal ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) tail: Tail,
    /// What stands behind the end and must go.
    pub(crate) cut: Option<Cut>,
}

/// Told of each record as it is accepted.
pub(crate) type Visitor<'a> = dyn FnMut(Position, &RecordHeader, u32) + 'a;

/// A journal to follow: its files and their identity.
pub(crate) struct Scan<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) directory: &'a Directory,
    pub(crate) id: JournalId,
}

impl<'a> Scan<'a> {
    /// Follows the journal from `tail` on.
    pub(crate) fn run(&self, tail: Tail, visit: &mut Visitor<'_>) -> Result<End, JournalError> {
        let mut tail = tail;
        let mut window = self.window(tail.position.segment)?;
        loop {
            let place = tail.position;
            match window.slot(place.offset)? {
                Slot::Record { header, crc } => {
                    if let Some(problem) = tail.refuse(&header) {
                        return Err(damage(place, problem));
                    }
                    visit(place, &header, crc);
                    tail = Tail::after(place, &header, crc);
                    if header.kind == Kind::End {
                        tail.position = Position::new(place.segment + 1, HEADER_BYTES);
                        window = self.window(tail.position.segment)?;
                    }
                }
                Slot::Zero | Slot::Bad(_) => match self.judge(&mut window, tail.position) {
                    Ok(cut) => return Ok(End { tail, cut }),
                    // While a node is writing, the slot may have been filled since it was read.
                    Err(damage) => {
                        window.forget();
                        if !matches!(window.slot(place.offset)?, Slot::Record { .. }) {
                            return Err(damage);
                        }
                    }
                },
            }
        }
    }

    fn window(&self, number: u32) -> Result<Window<'a>, JournalError> {
        let Some(segment_bytes) = self.directory.segments.get(&number) else {
            let problem = "the segment is missing although the one before it is ended";
            return Err(damaged(&names::segment(number), 0, problem));
        };
        Ok(Window::new(self.storage, self.id, number, *segment_bytes))
    }

    /// Decides what the first slot without a record means.
    fn judge(&self, window: &mut Window<'_>, end: Position) -> Result<Option<Cut>, JournalError> {
        let what = match window.slot(end.offset)? {
            Slot::Bad(problem) => problem,
            Slot::Zero | Slot::Record { .. } => "no record, only zeros",
        };
        let mut used_to = end.offset;
        survey(window, end.offset, &mut |offset, record| {
            used_to = offset + SLOT_BYTES;
            check_behind(end, what, Position::new(end.segment, offset), record)
        })?;
        for (number, _) in self.directory.after(end.segment) {
            survey(&mut self.window(number)?, HEADER_BYTES, &mut |offset, _| {
                let problem = format!(
                    "{what}; {} was written later",
                    Position::new(number, offset)
                );
                Err(damage(end, &problem))
            })?;
        }
        let bytes = u64::from(used_to - end.offset);
        Ok((bytes > 0).then_some(Cut {
            position: end,
            bytes,
        }))
    }
}

/// Refuses if what stands at `place`, behind the end, cannot be from the flush that the crash cut
/// short.
fn check_behind(
    end: Position,
    what: &str,
    place: Position,
    record: Option<RecordHeader>,
) -> Result<(), JournalError> {
    if record.is_some_and(|header| header.durable_position > end) {
        let problem = format!("{what}; the record at {place} was written after it was durable");
        return Err(damage(end, &problem));
    }
    if place.offset - end.offset >= BATCH_BYTES_MAX {
        let problem = format!("{what}; {place} holds data too far behind for one flush");
        return Err(damage(end, &problem));
    }
    Ok(())
}

fn damage(place: Position, problem: &str) -> JournalError {
    damaged(
        &names::segment(place.segment),
        u64::from(place.offset),
        problem,
    )
}

/// Called with the offset of a slot that is not all zero, and its header if it has one.
type Found<'a> = dyn FnMut(u32, Option<RecordHeader>) -> Result<(), JournalError> + 'a;

/// Looks at every slot from `offset` on.
fn survey(window: &mut Window<'_>, offset: u32, found: &mut Found<'_>) -> Result<(), JournalError> {
    let mut piece = offset;
    while piece < window.limit() {
        let length = WINDOW_BYTES.min(window.limit() - piece);
        if !is_zero(window.bytes(piece, length)?) {
            survey_piece(window, piece, length, found)?;
        }
        piece += length;
    }
    Ok(())
}

fn survey_piece(
    window: &mut Window<'_>,
    offset: u32,
    length: u32,
    found: &mut Found<'_>,
) -> Result<(), JournalError> {
    for slot in (offset..offset + length).step_by(SLOT_BYTES as usize) {
        if !is_zero(window.bytes(slot, SLOT_BYTES)?) {
            let header = window.header(slot)?.map(|(header, _)| header);
            found(slot, header)?;
        }
    }
    Ok(())
}
