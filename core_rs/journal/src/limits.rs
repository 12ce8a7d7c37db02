//! Every bound of the journal, each with its reason.
//!
//! Owns numbers only. The layout that some of them come from is drawn in `FORMAT.md`.

/// Bytes of a slot: records start at multiples of it, so that after damage each possible start can
/// be tried.
pub const SLOT_BYTES: u32 = 64;

/// Bytes of a record header and of a segment header: one slot.
pub const HEADER_BYTES: u32 = SLOT_BYTES;

/// Most bytes of a record's body: a 4 MiB message turned into events, which may be twice as long.
pub const RECORD_BODY_BYTES_MAX: u32 = 8 << 20;

/// Most events of one record: a sale of a million reservations that is cancelled in one command.
pub const RECORD_EVENT_COUNT_MAX: u32 = 1_000_000;

/// Most bytes that wait in the open batch. It bounds memory, one flush, and how far a torn tail can
/// reach.
pub const BATCH_BYTES_MAX: u32 = 16 << 20;

/// Least bytes of a segment: its header, an epoch record, the end record and a little room.
pub const SEGMENT_BYTES_MIN: u32 = 1 << 10;

/// Most bytes of a segment: its offsets must fit 32 bits, and recovery reads a whole one.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 30;

/// Bytes of a segment unless told otherwise: filled with zeros in well under a second, rolled
/// seldom.
pub const SEGMENT_BYTES_DEFAULT: u32 = 16 << 20;

/// Bytes kept back for settlement unless told otherwise: two records of 200 bytes for 20,000
/// reservations.
pub const RESERVE_BYTES_DEFAULT: u64 = 8 << 20;

/// Most bytes that can be kept back; all of it is allocated ahead, and recovery reads it.
pub const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// Most bytes of a snapshot's body: it is read into memory whole.
pub const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// Snapshots that are kept: the newest, and the one that takes its place if it is damaged.
pub const SNAPSHOT_COUNT_KEPT: usize = 2;

/// Bytes of bodies after which one call of `read_after` stops; at least one record is always read.
pub const READ_BODY_BYTES_MAX: usize = 4 << 20;

/// Segments that may lie prepared ahead of their use: bounds the zeros that recovery has to read.
pub const PREPARED_SEGMENT_COUNT_MAX: u32 = 64;

/// Problems that `verify` lists before it stops looking.
pub const VERIFY_PROBLEM_COUNT_MAX: usize = 100;

/// Bytes of journal between two marks of the index: what a look-up walks over at most, give or take
/// a flush.
pub(crate) const MARK_BYTES: u32 = 64 << 10;

/// Bytes read at once when walking through a segment.
pub(crate) const WINDOW_BYTES: u32 = 256 << 10;

/// Bytes written at once when a segment is filled with zeros or a snapshot is written.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of a snapshot after which it is synced: a flush of the journal that comes in between waits
/// for so much at most, and not for gigabytes that the system has gathered.
pub(crate) const SNAPSHOT_SYNC_BYTES: u64 = 8 << 20;

/// Rounds up to whole slots.
pub(crate) const fn whole_slots(bytes: u32) -> u32 {
    bytes.div_ceil(SLOT_BYTES) * SLOT_BYTES
}

/// Bytes that a record with such a body takes: its header and its body, padded to whole slots.
pub(crate) const fn record_bytes(body_bytes: u32) -> u32 {
    HEADER_BYTES + whole_slots(body_bytes)
}

/// Longest body that fits an empty segment of such a length, beside the header and the end record.
pub(crate) const fn segment_body_bytes_max(segment_bytes: u32) -> u32 {
    let room = segment_bytes - HEADER_BYTES - HEADER_BYTES - HEADER_BYTES;
    if room < RECORD_BODY_BYTES_MAX {
        room
    } else {
        RECORD_BODY_BYTES_MAX
    }
}
