//! The bytes of a recording: blocks that stand alone, each with its names, its length and its
//! check sum.
//!
//! Owns: the form, version 2, and the reading of version 1. Must not: panic on any bytes, or take
//! more memory than a block's length allows. Where next: `docs/reference/arrivals-format.md`, which
//! draws it.

use std::collections::HashMap;
use std::ops::Range;

use lastunit_admission::{Nanos, Operation, Report};

use crate::arrival::{Draft, Outcome, ReportNote};
use crate::numbers::{Cursor, put, put_signed};

/// Version of the form that this program writes.
pub const VERSION: u16 = 2;
/// The oldest that it reads; in that one nobody waited.
const VERSION_MIN: u16 = 1;
/// Bytes of a block before its body.
pub const HEADER_BYTES: usize = 56;
/// Longest body of a block, in bytes.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;

const MAGIC: [u8; 8] = *b"LUarriv\n";
/// Where the check sum begins to count.
const SUMMED: usize = 16;
/// Instead of an operation: a report of the order service.
const REPORT: u8 = 15;
const MICROSECOND: u64 = 1_000;

/// Where a block's times begin, and whose they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Drawn at random at each start of the server.
    pub run: u64,
    /// The machine's clock at that start, in microseconds since 1970.
    pub start_micros: i64,
    /// Arrivals of this run that were not kept, up to this block.
    pub dropped_count: u64,
}

/// Makes one block.
#[derive(Debug, Default)]
pub struct Encoder {
    names: HashMap<Box<[u8]>, u64>,
    name_bytes: Vec<u8>,
    rows: Vec<u8>,
    row_count: u32,
    first: Nanos,
    last: Nanos,
}

impl Encoder {
    /// Adds one operation of a call that was answered at `end`; one row at a time, so that whoever
    /// writes can end a block before it grows too long.
    pub fn add(&mut self, draft: &Draft, index: usize, end: Nanos) {
        let Some(row) = draft.rows.get(index) else {
            return;
        };
        let head = row.operation as u8 | row.outcome.code() << 4;
        self.begin(head, row.at);
        put(&mut self.rows, row.waited / MICROSECOND);
        if !row.outcome.is_refused() {
            put(&mut self.rows, end.saturating_sub(row.at) / MICROSECOND);
        }
        let caller = self.name(draft.caller());
        put(&mut self.rows, caller);
        if row.operation == Operation::Reserve {
            put(&mut self.rows, row.line_count.into());
            put(&mut self.rows, row.sku_count as u64);
            for name in draft.names(row) {
                let name = self.name(name);
                put(&mut self.rows, name);
            }
        }
    }

    /// Adds a report.
    pub fn add_report(&mut self, note: &ReportNote) {
        self.begin(REPORT, note.at);
        put(&mut self.rows, note.report.generation);
        put(&mut self.rows, note.report.persisted_count);
        put(&mut self.rows, note.report.oldest_wait / MICROSECOND);
    }

    /// Bytes of the block as it is.
    #[must_use]
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.name_bytes.len() + self.rows.len()
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.row_count == 0
    }

    /// How many rows there are.
    #[must_use]
    pub fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Ends the block and begins the next one.
    pub fn finish(&mut self, origin: &Origin) -> Vec<u8> {
        let done = std::mem::take(self);
        let mut body = Vec::with_capacity(done.len() + 10);
        put(&mut body, done.names.len() as u64);
        body.extend_from_slice(&done.name_bytes);
        body.extend_from_slice(&done.rows);
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut block = Vec::with_capacity(HEADER_BYTES + body.len());
        block.extend_from_slice(&MAGIC);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(&[0; 4]);
        block.extend_from_slice(&VERSION.to_le_bytes());
        block.extend_from_slice(&[0; 2]);
        block.extend_from_slice(&done.row_count.to_le_bytes());
        block.extend_from_slice(&origin.run.to_le_bytes());
        block.extend_from_slice(&origin.start_micros.to_le_bytes());
        block.extend_from_slice(&done.first.to_le_bytes());
        block.extend_from_slice(&origin.dropped_count.to_le_bytes());
        block.extend_from_slice(&body);
        let sum = crc32c::crc32c(&block[SUMMED..]);
        block[12..SUMMED].copy_from_slice(&sum.to_le_bytes());
        block
    }

    fn begin(&mut self, head: u8, at: Nanos) {
        if self.is_empty() {
            (self.first, self.last) = (at, at);
        }
        self.row_count += 1;
        self.rows.push(head);
        put_signed(&mut self.rows, at.wrapping_sub(self.last).cast_signed());
        self.last = at;
    }

    fn name(&mut self, name: &[u8]) -> u64 {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        let index = self.names.len() as u64;
        self.names.insert(name.into(), index);
        self.name_bytes.push(u8::try_from(name.len()).unwrap_or(0));
        self.name_bytes.extend_from_slice(name);
        index
    }
}

/// One arrival as a block tells it; names are places in [`Block::names`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowArrival {
    /// When it was decided, since the start of the run.
    pub at: Nanos,
    /// How long it had waited for its lane by then; 0 if it did not.
    pub waited: Nanos,
    /// What it asked for.
    pub operation: Operation,
    /// What became of it.
    pub outcome: Outcome,
    /// From the decision to the answer; 0 if it was refused.
    pub service: Nanos,
    /// Lines of a Reserve, else 0.
    pub line_count: u32,
    /// Who called.
    pub caller: usize,
    /// The sale of a Reserve.
    pub sale: Option<usize>,
    /// Its SKUs, in [`Block::skus`].
    pub skus: Range<usize>,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// Somebody came.
    Arrival(RowArrival),
    /// The order service reported.
    Report(ReportNote),
}

/// A block that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Whose times they are.
    pub origin: Origin,
    /// The names that its rows speak of.
    pub names: Vec<&'a str>,
    /// In the order in which the calls were answered.
    pub rows: Vec<Row>,
    /// Names of SKUs, by arrival; places in `names`.
    pub skus: Vec<usize>,
}

/// Bytes that are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where they begin.
    pub offset: usize,
    /// How many there are.
    pub bytes: usize,
    /// Whether the recording only ends before the block does: it was being written.
    pub is_unfinished: bool,
    /// The version of the block, if it is one that this program does not read.
    pub version: Option<u16>,
}

/// Reads the blocks of a recording, one after the other; after damage it goes on at the next block.
#[derive(Clone, Debug)]
pub struct Blocks<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Blocks<'a> {
    /// Starts at the beginning.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    fn damage(&mut self, is_unfinished: bool, version: Option<u16>) -> Damage {
        let offset = self.offset;
        let rest = &self.bytes[offset + 1..];
        let next = rest.windows(MAGIC.len()).position(|it| it == MAGIC);
        let bytes = next.map_or(self.bytes.len() - offset, |at| at + 1);
        self.offset += bytes;
        Damage {
            offset,
            bytes,
            is_unfinished: is_unfinished && next.is_none(),
            version,
        }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = &self.bytes[self.offset..];
        if bytes.is_empty() {
            return None;
        }
        let Some(header) = bytes.get(..HEADER_BYTES) else {
            let is_begun = bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes);
            return Some(Err(self.damage(is_begun, None)));
        };
        let length = usize::try_from(u32_at(header, 8)).unwrap_or(usize::MAX);
        if header[..MAGIC.len()] != MAGIC || length > BLOCK_BYTES_MAX {
            return Some(Err(self.damage(false, None)));
        }
        let Some(block) = bytes.get(..HEADER_BYTES + length) else {
            return Some(Err(self.damage(true, None)));
        };
        if crc32c::crc32c(&block[SUMMED..]) != u32_at(header, 12) {
            return Some(Err(self.damage(false, None)));
        }
        let version = u16::from_le_bytes([header[16], header[17]]);
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Some(Err(self.damage(false, Some(version))));
        }
        let Some(read) = read(header, &block[HEADER_BYTES..], version) else {
            return Some(Err(self.damage(false, None)));
        };
        self.offset += block.len();
        Some(Ok(read))
    }
}

fn read<'a>(header: &[u8], body: &'a [u8], version: u16) -> Option<Block<'a>> {
    let origin = Origin {
        run: u64_at(header, 24),
        start_micros: u64_at(header, 32).cast_signed(),
        dropped_count: u64_at(header, 48),
    };
    let mut cursor = Cursor::new(body);
    let name_count = usize::try_from(cursor.number()?).ok()?;
    // A name takes a byte at least: who says more than that lies.
    let mut names = Vec::with_capacity(name_count.min(body.len()));
    for _ in 0..name_count {
        let length = cursor.byte()?;
        names.push(std::str::from_utf8(cursor.take(length.into())?).ok()?);
    }
    let mut block = Block {
        origin,
        names,
        rows: Vec::new(),
        skus: Vec::new(),
    };
    let mut last = u64_at(header, 40);
    while !cursor.is_empty() {
        let row = read_row(&mut cursor, &mut last, &mut block, version)?;
        block.rows.push(row);
    }
    let is_whole = block.rows.len() as u64 == u64::from(u32_at(header, 20));
    is_whole.then_some(block)
}

fn read_row(
    cursor: &mut Cursor<'_>,
    last: &mut Nanos,
    block: &mut Block<'_>,
    version: u16,
) -> Option<Row> {
    let head = cursor.byte()?;
    *last = last.checked_add_signed(cursor.signed()?)?;
    if head & 0xf == REPORT {
        let report = Report {
            generation: cursor.number()?,
            persisted_count: cursor.number()?,
            oldest_wait: cursor.number()?.checked_mul(MICROSECOND)?,
        };
        return Some(Row::Report(ReportNote { at: *last, report }));
    }
    let outcome = Outcome::from_code(head >> 4)?;
    let mut arrival = RowArrival {
        at: *last,
        waited: 0,
        operation: *Operation::ALL.get(usize::from(head & 0xf))?,
        outcome,
        service: 0,
        line_count: 0,
        caller: 0,
        sale: None,
        skus: 0..0,
    };
    if version > VERSION_MIN {
        arrival.waited = cursor.number()?.checked_mul(MICROSECOND)?;
    }
    if !outcome.is_refused() {
        arrival.service = cursor.number()?.checked_mul(MICROSECOND)?;
    }
    let name_count = block.names.len();
    let name = |number: u64| usize::try_from(number).ok().filter(|it| *it < name_count);
    arrival.caller = name(cursor.number()?)?;
    if arrival.operation == Operation::Reserve {
        arrival.line_count = u32::try_from(cursor.number()?).ok()?;
        let sku_count = cursor.number()?;
        arrival.sale = Some(name(cursor.number()?)?);
        let start = block.skus.len();
        for _ in 0..sku_count {
            let sku = name(cursor.number()?)?;
            block.skus.push(sku);
        }
        arrival.skus = start..block.skus.len();
    }
    Some(Row::Arrival(arrival))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
