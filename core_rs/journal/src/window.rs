//! Walking through one segment: a buffer over the file, and the record that stands in a slot.
//!
//! Reads in large pieces so that a walk costs few system calls. Decides nothing.

use crate::bytes::{Header, is_zero};
use crate::error::JournalError;
use crate::limits::{HEADER_BYTES, WINDOW_BYTES};
use crate::names;
use crate::position::Position;
use crate::slot::{JournalId, Kind, RecordHeader};
use crate::storage::Storage;

/// What stands at a place where a record could start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A record that is whole.
    Record { header: RecordHeader, crc: u32 },
    /// Zeros: nothing was ever written here, or it was lost.
    Zero,
    /// Neither; why.
    Bad(&'static str),
}

/// A view of the first `limit` bytes of a segment.
pub(crate) struct Window<'a> {
    storage: &'a dyn Storage,
    id: JournalId,
    number: u32,
    name: String,
    segment_bytes: u32,
    limit: u32,
    start: u32,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    /// Opens a view of a whole segment.
    pub(crate) fn new(
        storage: &'a dyn Storage,
        id: JournalId,
        number: u32,
        segment_bytes: u32,
    ) -> Self {
        let name = names::segment(number);
        let (limit, start, buffer) = (segment_bytes, 0, Vec::new());
        Self {
            storage,
            id,
            number,
            name,
            segment_bytes,
            limit,
            start,
            buffer,
        }
    }

    /// Narrows the view to the first `limit` bytes.
    pub(crate) fn up_to(self, limit: u32) -> Self {
        Self {
            limit: limit.min(self.limit),
            ..self
        }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit
    }

    /// Forgets what was read, so that the file is asked again.
    pub(crate) fn forget(&mut self) {
        self.buffer.clear();
    }

    /// Returns `length` bytes from `offset`, which must lie within the limit.
    pub(crate) fn bytes(&mut self, offset: u32, length: u32) -> Result<&[u8], JournalError> {
        assert!(
            offset + length <= self.limit,
            "a walk stays within its segment"
        );
        let is_inside = offset >= self.start
            && offset + length <= self.start + u32::try_from(self.buffer.len()).unwrap_or(u32::MAX);
        if !is_inside {
            self.fill(offset, length)?;
        }
        let at = (offset - self.start) as usize;
        Ok(&self.buffer[at..at + length as usize])
    }

    fn fill(&mut self, offset: u32, length: u32) -> Result<(), JournalError> {
        let wanted = length.max(WINDOW_BYTES).min(self.limit - offset);
        self.buffer.clear();
        self.buffer.resize(wanted as usize, 0);
        self.start = offset;
        let outcome = self
            .storage
            .read(&self.name, u64::from(offset), &mut self.buffer);
        outcome.map_err(|source| {
            self.buffer.clear();
            JournalError::storage("read", &self.name, source)
        })
    }

    /// Returns the header at `offset` if it is one; its body is not looked at.
    pub(crate) fn header(
        &mut self,
        offset: u32,
    ) -> Result<Option<(RecordHeader, u32)>, JournalError> {
        let (id, position) = (self.id, Position::new(self.number, offset));
        let bytes = self.header_bytes(offset)?;
        Ok(RecordHeader::decode(&bytes, id, position))
    }

    fn header_bytes(&mut self, offset: u32) -> Result<Header, JournalError> {
        let bytes = self.bytes(offset, HEADER_BYTES)?;
        Ok(bytes
            .try_into()
            .expect("a header is as long as was asked for"))
    }

    /// Returns what stands at `offset`, body included.
    pub(crate) fn slot(&mut self, offset: u32) -> Result<Slot, JournalError> {
        if offset + HEADER_BYTES > self.limit {
            return Ok(Slot::Bad("the segment ends without its end record"));
        }
        let Some((header, crc)) = self.header(offset)? else {
            let is_zero = is_zero(self.bytes(offset, HEADER_BYTES)?);
            return Ok(if is_zero {
                Slot::Zero
            } else {
                Slot::Bad("no valid record header")
            });
        };
        // Each segment ends with room for its end record, so no other record reaches the last slot.
        let tail = if header.kind == Kind::End {
            0
        } else {
            HEADER_BYTES
        };
        let end = u64::from(offset) + u64::from(header.bytes());
        if end + u64::from(tail) > u64::from(self.segment_bytes) || end > u64::from(self.limit) {
            return Ok(Slot::Bad("the record is longer than its segment"));
        }
        let body = self.bytes(offset + HEADER_BYTES, header.bytes() - HEADER_BYTES)?;
        if crc32c::crc32c(body) != header.body_crc {
            return Ok(Slot::Bad("the record's body does not match its checksum"));
        }
        Ok(Slot::Record { header, crc })
    }
}
