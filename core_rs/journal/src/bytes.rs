//! Little-endian numbers at fixed places of a 64-byte header.
//!
//! Owns no layout: the headers say where their fields stand.

use crate::limits::HEADER_BYTES;

/// Bytes of a header.
pub(crate) type Header = [u8; HEADER_BYTES as usize];

/// Where a header keeps its own checksum: in its last four bytes.
pub(crate) const CRC_AT: usize = HEADER_BYTES as usize - 4;

pub(crate) fn take<const N: usize>(bytes: &Header, at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}

pub(crate) fn put<const N: usize>(bytes: &mut Header, at: usize, field: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&field);
}

/// Computes the checksum of a header from a seed that binds it to its journal and place.
pub(crate) fn header_crc(seed: u32, bytes: &Header) -> u32 {
    crc32c::crc32c_append(seed, &bytes[..CRC_AT])
}

/// Whether every byte is zero. Compares in pages, which is as fast as memory in any build.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|page| page == &ZEROS[..page.len()])
}
