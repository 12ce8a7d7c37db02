//! The files of a recording: one is written to, a few older ones are kept, the oldest go.
//!
//! Owns: their names, their sizes, and how much room they leave to others. Must not: retry. Where
//! next: `recorder.rs`.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use lastunit_journal::{FileEntry, Storage};

const NAME: (&str, &str) = ("arrivals-", ".blocks");
/// A recording has about so many files: what goes at once is a small part of it.
const FILE_COUNT: u64 = 8;
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Room on the disk that is left to whoever needs it more: the journal may lie beside.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// The files of a recording.
pub(crate) struct Files {
    storage: Arc<dyn Storage>,
    bytes_max: u64,
    file_bytes_max: u64,
    free_bytes_min: u64,
    /// Number and length, oldest first.
    held: VecDeque<(u64, u64)>,
    /// Whether the last one is being written to.
    is_open: bool,
    next: u64,
}

impl Files {
    /// Takes over what is there; it counts, and goes when its turn comes.
    pub(crate) fn open(storage: Arc<dyn Storage>, bytes_max: u64) -> Self {
        // A directory that cannot be listed is told by the first write.
        let entries = storage.list().unwrap_or_default();
        let mut held: Vec<(u64, u64)> = entries.iter().filter_map(parse).collect();
        held.sort_unstable();
        let next = held.last().map_or(1, |(number, _)| number + 1);
        Self {
            storage,
            bytes_max,
            file_bytes_max: (bytes_max / FILE_COUNT).clamp(1, FILE_BYTES_MAX),
            free_bytes_min: FREE_BYTES_MIN,
            held: held.into(),
            is_open: false,
            next,
        }
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.held.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Writes a block at the end. After a failure the next one goes to a new file, so that what is
    /// half written is at the end of one.
    pub(crate) fn append(&mut self, block: &[u8]) -> io::Result<()> {
        let length = block.len() as u64;
        let free = self.storage.free_bytes()?;
        if free < self.free_bytes_min + length {
            self.is_open = false;
            let kept = self.free_bytes_min >> 20;
            let message =
                format!("less than {kept} MiB are free; arrivals are not kept until then");
            return Err(io::Error::new(io::ErrorKind::StorageFull, message));
        }
        self.make_room(length)?;
        let is_room = |(_, bytes): &(u64, u64)| bytes + length <= self.file_bytes_max;
        if !self.is_open || !self.held.back().is_some_and(is_room) {
            self.held.push_back((self.next, 0));
            self.next += 1;
            self.is_open = true;
        }
        let Some((number, bytes)) = self.held.back_mut() else {
            return Ok(());
        };
        let written = self.storage.write(&name(*number), *bytes, block);
        *bytes += length;
        self.is_open = written.is_ok();
        written
    }

    /// Removes the oldest until a block fits.
    fn make_room(&mut self, length: u64) -> io::Result<()> {
        while self.bytes() + length > self.bytes_max {
            let Some((number, _)) = self.held.front().copied() else {
                return Ok(());
            };
            match self.storage.remove(&name(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.held.pop_front();
        }
        if self.held.is_empty() {
            self.is_open = false;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn leave_free(&mut self, bytes: u64) {
        self.free_bytes_min = bytes;
    }
}

fn name(number: u64) -> String {
    format!("{}{number:010}{}", NAME.0, NAME.1)
}

fn parse(entry: &FileEntry) -> Option<(u64, u64)> {
    let digits = entry.name.strip_prefix(NAME.0)?.strip_suffix(NAME.1)?;
    let number = digits.parse().ok()?;
    (name(number) == entry.name).then_some((number, entry.bytes))
}
