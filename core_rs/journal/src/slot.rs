//! The header of a record: its fields, its bytes, and when it is valid.
//!
//! A header's checksum is seeded with the journal's identity and the record's place, so a record is
//! valid in one place of one journal only. Whether it *continues* the journal is for `tail.rs` to
//! say.

use crate::bytes::{CRC_AT, Header, header_crc, put, take};
use crate::limits::{RECORD_BODY_BYTES_MAX, RECORD_EVENT_COUNT_MAX, record_bytes};
use crate::position::Position;

const MAGIC: [u8; 4] = *b"LUR1";

/// So far from the end of the numbers that adding a record's events cannot overflow.
const SEQUENCE_MAX: i64 = i64::MAX - RECORD_EVENT_COUNT_MAX as i64;

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// One command's events.
    Events = 1,
    /// Written alone after an idle flush: all before it was acknowledged.
    Seal = 2,
    /// Written alone by each opening.
    Epoch = 3,
    /// Last record of its segment: there is a next one.
    End = 4,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Events, Self::Seal, Self::Epoch, Self::End]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// Identity of a journal: every record and file of it is bound to this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JournalId(pub(crate) u128);

impl JournalId {
    pub(crate) fn seed(self) -> u32 {
        crc32c::crc32c(&self.0.to_le_bytes())
    }

    fn seed_at(self, position: Position) -> u32 {
        crc32c::crc32c_append(self.seed(), &position.to_bits().to_le_bytes())
    }
}

/// Everything a record says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    /// Sequence of the first event, or of the next one if there is no event in it.
    pub(crate) first_sequence: i64,
    /// Last event known durable when this was written.
    pub(crate) durable_sequence: i64,
    /// Start of the group: everything before it was durable when this was written.
    pub(crate) durable_position: Position,
    pub(crate) time_ms: i64,
    pub(crate) event_count: u32,
    pub(crate) body_bytes: u32,
    pub(crate) epoch: u32,
    /// Checksum of the header before this one.
    pub(crate) chain: u32,
    /// Checksum of the body with its padding.
    pub(crate) body_crc: u32,
}

impl RecordHeader {
    /// Returns the bytes and their checksum, which is the next record's chain.
    pub(crate) fn encode(&self, id: JournalId, position: Position) -> (Header, u32) {
        let mut bytes = [0; _];
        put(&mut bytes, 0, MAGIC);
        bytes[4] = self.kind as u8;
        put(&mut bytes, 8, self.first_sequence.to_le_bytes());
        put(&mut bytes, 16, self.durable_sequence.to_le_bytes());
        put(
            &mut bytes,
            24,
            self.durable_position.to_bits().to_le_bytes(),
        );
        put(&mut bytes, 32, self.time_ms.to_le_bytes());
        put(&mut bytes, 40, self.event_count.to_le_bytes());
        put(&mut bytes, 44, self.body_bytes.to_le_bytes());
        put(&mut bytes, 48, self.epoch.to_le_bytes());
        put(&mut bytes, 52, self.chain.to_le_bytes());
        put(&mut bytes, 56, self.body_crc.to_le_bytes());
        let crc = header_crc(id.seed_at(position), &bytes);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        (bytes, crc)
    }

    /// Returns the header and its checksum if these bytes are a record of this journal in this
    /// place.
    pub(crate) fn decode(bytes: &Header, id: JournalId, position: Position) -> Option<(Self, u32)> {
        if take(bytes, 0) != MAGIC {
            return None;
        }
        let crc = u32::from_le_bytes(take(bytes, CRC_AT));
        if crc != header_crc(id.seed_at(position), bytes) {
            return None;
        }
        let header = Self {
            kind: Kind::from_byte(bytes[4])?,
            first_sequence: i64::from_le_bytes(take(bytes, 8)),
            durable_sequence: i64::from_le_bytes(take(bytes, 16)),
            durable_position: Position::from_bits(u64::from_le_bytes(take(bytes, 24))),
            time_ms: i64::from_le_bytes(take(bytes, 32)),
            event_count: u32::from_le_bytes(take(bytes, 40)),
            body_bytes: u32::from_le_bytes(take(bytes, 44)),
            epoch: u32::from_le_bytes(take(bytes, 48)),
            chain: u32::from_le_bytes(take(bytes, 52)),
            body_crc: u32::from_le_bytes(take(bytes, 56)),
        };
        header.is_sane(position).then_some((header, crc))
    }

    /// Whether the fields are in range, which a checksum alone does not promise.
    fn is_sane(&self, position: Position) -> bool {
        let is_filled = match self.kind {
            Kind::Events => (1..=RECORD_EVENT_COUNT_MAX).contains(&self.event_count),
            Kind::Seal | Kind::Epoch | Kind::End => self.event_count == 0 && self.body_bytes == 0,
        };
        is_filled
            && self.body_bytes <= RECORD_BODY_BYTES_MAX
            && (1..=SEQUENCE_MAX).contains(&self.first_sequence)
            && self.durable_sequence < self.first_sequence
            && self.durable_position.segment == position.segment
            && self.durable_position <= position
            && self.epoch >= 1
    }

    /// Bytes of the record, header and padding included.
    pub(crate) fn bytes(&self) -> u32 {
        record_bytes(self.body_bytes)
    }

    /// Sequence that the next event gets.
    pub(crate) fn next_sequence(&self) -> i64 {
        self.first_sequence + i64::from(self.event_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: JournalId = JournalId(7);
    const PLACE: Position = Position::new(3, 640);

    fn header() -> RecordHeader {
        RecordHeader {
            kind: Kind::Events,
            first_sequence: 11,
            durable_sequence: 9,
            durable_position: Position::new(3, 512),
            time_ms: -5,
            event_count: 2,
            body_bytes: 100,
            epoch: 4,
            chain: 0xDEAD,
            body_crc: 0xBEEF,
        }
    }

    #[test]
    fn header_reads_back_as_it_was_written() {
        let (bytes, crc) = header().encode(ID, PLACE);

        assert_eq!(
            Some((header(), crc)),
            RecordHeader::decode(&bytes, ID, PLACE)
        );
    }

    #[test]
    fn header_with_any_bit_flipped_is_not_a_record() {
        let (bytes, _) = header().encode(ID, PLACE);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);

            assert_eq!(None, RecordHeader::decode(&flipped, ID, PLACE), "bit {bit}");
        }
    }

    #[test]
    fn header_in_another_place_or_journal_is_not_a_record() {
        let (bytes, _) = header().encode(ID, PLACE);
        for place in [
            Position::new(3, 704),
            Position::new(4, 640),
            Position::new(2, 640),
        ] {
            assert_eq!(None, RecordHeader::decode(&bytes, ID, place));
        }

        assert_eq!(None, RecordHeader::decode(&bytes, JournalId(8), PLACE));
    }

    #[test]
    fn header_with_a_field_out_of_range_is_not_a_record() {
        let wrong = [
            RecordHeader {
                event_count: 0,
                ..header()
            },
            RecordHeader {
                event_count: RECORD_EVENT_COUNT_MAX + 1,
                ..header()
            },
            RecordHeader {
                body_bytes: RECORD_BODY_BYTES_MAX + 1,
                ..header()
            },
            RecordHeader {
                first_sequence: 0,
                durable_sequence: -1,
                ..header()
            },
            RecordHeader {
                first_sequence: SEQUENCE_MAX + 1,
                ..header()
            },
            RecordHeader {
                durable_sequence: 11,
                ..header()
            },
            RecordHeader {
                durable_position: Position::new(3, 704),
                ..header()
            },
            RecordHeader {
                durable_position: Position::new(2, 512),
                ..header()
            },
            RecordHeader {
                epoch: 0,
                ..header()
            },
            RecordHeader {
                kind: Kind::Seal,
                body_bytes: 0,
                ..header()
            },
            RecordHeader {
                kind: Kind::End,
                event_count: 0,
                ..header()
            },
        ];
        for header in wrong {
            let (bytes, _) = header.encode(ID, PLACE);

            assert_eq!(None, RecordHeader::decode(&bytes, ID, PLACE), "{header:?}");
        }
    }
}
