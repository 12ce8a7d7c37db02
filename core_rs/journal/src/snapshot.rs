//! The bytes of a snapshot: header, body, footer, and when they are whole.
//!
//! A snapshot names the record it ends with by place and checksum. That record must stand in the
//! journal: if it does not, acknowledged records were lost and the opening is refused.

use crate::bytes::{CRC_AT, Header, header_crc, put, take};
use crate::error::JournalError;
use crate::limits::{CHUNK_BYTES, HEADER_BYTES, SNAPSHOT_BYTES_MAX};
use crate::names;
use crate::position::Position;
use crate::segment::{FORMAT_VERSION, check_version, damaged};
use crate::slot::JournalId;
use crate::storage::Storage;

const MAGIC: [u8; 4] = *b"LUP1";

/// Bytes of the footer: length and checksum of the body, and its own checksum.
pub(crate) const FOOTER_BYTES: usize = 16;

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) id: JournalId,
    /// Last event that the state contains.
    pub(crate) sequence: i64,
    /// Where the record that ends with that event starts.
    pub(crate) witness: Position,
    /// Checksum of that record's header.
    pub(crate) witness_crc: u32,
}

impl SnapshotHeader {
    pub(crate) fn encode(&self) -> Header {
        let mut bytes = [0; _];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 4, FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 8, self.id.0.to_le_bytes());
        put(&mut bytes, 24, self.sequence.to_le_bytes());
        put(&mut bytes, 32, self.witness.to_bits().to_le_bytes());
        put(&mut bytes, 40, self.witness_crc.to_le_bytes());
        let crc = header_crc(0, &bytes);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &Header, name: &str) -> Result<Self, JournalError> {
        if take(bytes, 0) != MAGIC {
            return Err(damaged(
                name,
                0,
                "the snapshot header does not start with its mark",
            ));
        }
        if u32::from_le_bytes(take(bytes, CRC_AT)) != header_crc(0, bytes) {
            return Err(damaged(
                name,
                0,
                "the snapshot header does not match its checksum",
            ));
        }
        check_version(name, u32::from_le_bytes(take(bytes, 4)))?;
        Ok(Self {
            id: JournalId(u128::from_le_bytes(take(bytes, 8))),
            sequence: i64::from_le_bytes(take(bytes, 24)),
            witness: Position::from_bits(u64::from_le_bytes(take(bytes, 32))),
            witness_crc: u32::from_le_bytes(take(bytes, 40)),
        })
    }
}

/// Returns the footer of a body, bound to the header before it.
pub(crate) fn footer(header: &Header, body_bytes: u64, body_crc: u32) -> [u8; FOOTER_BYTES] {
    let mut bytes = [0; FOOTER_BYTES];
    bytes[..8].copy_from_slice(&body_bytes.to_le_bytes());
    bytes[8..12].copy_from_slice(&body_crc.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(header), &bytes[..12]);
    bytes[12..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a snapshot whole and checks every byte of it.
pub(crate) fn load(
    storage: &dyn Storage,
    id: JournalId,
    sequence: i64,
    file_bytes: u64,
) -> Result<(SnapshotHeader, Vec<u8>), JournalError> {
    let mut body = Vec::new();
    let header = stream(storage, id, (sequence, file_bytes), &mut |chunk| {
        body.extend_from_slice(chunk);
    })?;
    Ok((header, body))
}

/// Reads a snapshot in chunks and checks every byte of it. What the chunks say counts only once
/// this has returned without an error.
pub(crate) fn stream(
    storage: &dyn Storage,
    id: JournalId,
    (sequence, file_bytes): (i64, u64),
    take: &mut dyn FnMut(&[u8]),
) -> Result<SnapshotHeader, JournalError> {
    let name = names::snapshot(sequence);
    let around = u64::from(HEADER_BYTES) + FOOTER_BYTES as u64;
    let body_bytes = file_bytes
        .checked_sub(around)
        .filter(|bytes| *bytes <= SNAPSHOT_BYTES_MAX);
    let Some(body_bytes) = body_bytes else {
        return Err(damaged(
            &name,
            file_bytes,
            "the snapshot has an impossible length",
        ));
    };
    let read = |offset, buffer: &mut [u8]| {
        let outcome = storage.read(&name, offset, buffer);
        outcome.map_err(|source| JournalError::storage("read", &name, source))
    };
    let mut head = [0; _];
    read(0, &mut head)?;
    let header = SnapshotHeader::decode(&head, &name)?;
    if header.id != id {
        return Err(damaged(&name, 8, "the snapshot belongs to another journal"));
    }
    if header.sequence != sequence {
        return Err(damaged(
            &name,
            24,
            "the snapshot has another sequence than its name",
        ));
    }
    let mut body_crc = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut offset, end) = (
        u64::from(HEADER_BYTES),
        u64::from(HEADER_BYTES) + body_bytes,
    );
    while offset < end {
        let length = (end - offset).min(CHUNK_BYTES as u64);
        let part = &mut chunk[..usize::try_from(length).expect("a chunk fits memory")];
        read(offset, part)?;
        body_crc = crc32c::crc32c_append(body_crc, part);
        take(part);
        offset += length;
    }
    let mut foot = [0; FOOTER_BYTES];
    read(file_bytes - FOOTER_BYTES as u64, &mut foot)?;
    if foot != footer(&head, body_bytes, body_crc) {
        let problem = "the snapshot's body does not match its checksum";
        return Err(damaged(&name, u64::from(HEADER_BYTES), problem));
    }
    Ok(header)
}
