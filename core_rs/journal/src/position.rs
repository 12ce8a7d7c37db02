//! Where a record stands: segment number and byte offset, ordered as the journal was written.

use std::fmt;

/// A place in the journal. Orders by segment, then by offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Bytes from the start of the segment's file, a multiple of the slot size.
    pub offset: u32,
}

impl Position {
    /// Names the place `offset` bytes into `segment`.
    #[must_use]
    pub const fn new(segment: u32, offset: u32) -> Self {
        Self { segment, offset }
    }

    /// Packs the place into one number that orders in the same way.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        ((self.segment as u64) << 32) | self.offset as u64
    }

    /// Unpacks what `to_bits` packed.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each half is 32 bits wide")]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            segment: (bits >> 32) as u32,
            offset: bits as u32,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "segment {} offset {}", self.segment, self.offset)
    }
}
