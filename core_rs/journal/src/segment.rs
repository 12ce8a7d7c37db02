//! The header of a segment, and how a segment comes to be.
//!
//! A segment is made under a temporary name, filled with zeros, synced, renamed, and its name
//! synced. So a segment with its final name is always whole, and a flush into it changes neither
//! its length nor its blocks.

use crate::bytes::{CRC_AT, Header, header_crc, put, take};
use crate::error::JournalError;
use crate::limits::{CHUNK_BYTES, HEADER_BYTES, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SLOT_BYTES};
use crate::names;
use crate::slot::JournalId;
use crate::storage::Storage;

const MAGIC: [u8; 4] = *b"LUS1";

/// Version of the whole format; a change that older programs cannot read raises it.
pub(crate) const FORMAT_VERSION: u32 = 1;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) id: JournalId,
    pub(crate) number: u32,
    pub(crate) segment_bytes: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Header {
        let mut bytes = [0; _];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 4, FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 8, self.id.0.to_le_bytes());
        put(&mut bytes, 24, self.number.to_le_bytes());
        put(&mut bytes, 28, self.segment_bytes.to_le_bytes());
        let crc = header_crc(0, &bytes);
        put(&mut bytes, CRC_AT, crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &Header, name: &str, number: u32) -> Result<Self, JournalError> {
        let damaged = |problem: &str| damaged(name, 0, problem);
        if take(bytes, 0) != MAGIC {
            return Err(damaged("the segment header does not start with its mark"));
        }
        if u32::from_le_bytes(take(bytes, CRC_AT)) != header_crc(0, bytes) {
            return Err(damaged("the segment header does not match its checksum"));
        }
        check_version(name, u32::from_le_bytes(take(bytes, 4)))?;
        let header = Self {
            id: JournalId(u128::from_le_bytes(take(bytes, 8))),
            number: u32::from_le_bytes(take(bytes, 24)),
            segment_bytes: u32::from_le_bytes(take(bytes, 28)),
        };
        if header.number != number {
            return Err(damaged(
                "the segment header has another number than the name",
            ));
        }
        let is_in_range = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.segment_bytes);
        if !is_in_range || !header.segment_bytes.is_multiple_of(SLOT_BYTES) {
            return Err(damaged("the segment header has an impossible length"));
        }
        Ok(header)
    }
}

pub(crate) fn check_version(name: &str, found: u32) -> Result<(), JournalError> {
    if found == FORMAT_VERSION {
        return Ok(());
    }
    let file = name.to_owned();
    let supported = FORMAT_VERSION;
    Err(JournalError::UnsupportedVersion {
        file,
        found,
        supported,
    })
}

pub(crate) fn damaged(name: &str, offset: u64, problem: &str) -> JournalError {
    JournalError::Damaged {
        file: name.to_owned(),
        offset,
        problem: problem.to_owned(),
    }
}

/// Reads and checks the header of a segment whose file is `file_bytes` long.
pub(crate) fn read_header(
    storage: &dyn Storage,
    number: u32,
    file_bytes: u64,
) -> Result<SegmentHeader, JournalError> {
    let name = names::segment(number);
    if file_bytes < u64::from(HEADER_BYTES) {
        return Err(damaged(
            &name,
            file_bytes,
            "the file ends inside the segment header",
        ));
    }
    let mut bytes = [0; _];
    storage
        .read(&name, 0, &mut bytes)
        .map_err(|source| JournalError::storage("read", &name, source))?;
    let header = SegmentHeader::decode(&bytes, &name, number)?;
    if file_bytes < u64::from(header.segment_bytes) {
        let problem = format!(
            "the file was cut: it should have {} bytes",
            header.segment_bytes
        );
        return Err(damaged(&name, file_bytes, &problem));
    }
    Ok(header)
}

/// Makes a segment ready for use. If this fails, the name is not taken or the segment is whole.
pub(crate) fn create(storage: &dyn Storage, header: SegmentHeader) -> Result<(), JournalError> {
    let name = names::segment(header.number);
    let temporary = names::temporary(&name);
    let on =
        |operation| move |source| JournalError::storage(operation, &temporary_of(header), source);
    storage
        .write(&temporary, 0, &header.encode())
        .map_err(on("write"))?;
    let zeros = vec![0; CHUNK_BYTES.min(header.segment_bytes as usize)];
    let mut offset = u64::from(HEADER_BYTES);
    while offset < u64::from(header.segment_bytes) {
        let left = u64::from(header.segment_bytes) - offset;
        let length = left.min(zeros.len() as u64);
        let chunk = &zeros[..usize::try_from(length).expect("a chunk fits memory")];
        storage
            .write(&temporary, offset, chunk)
            .map_err(on("write"))?;
        offset += length;
    }
    storage.sync(&temporary).map_err(on("sync"))?;
    storage.rename(&temporary, &name).map_err(on("rename"))?;
    storage
        .sync_directory()
        .map_err(on("sync the directory of"))
}

fn temporary_of(header: SegmentHeader) -> String {
    names::temporary(&names::segment(header.number))
}
