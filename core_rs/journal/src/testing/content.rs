//! The bytes of one file, as running programs see them and as a crash would leave them.

use std::collections::BTreeSet;

/// What a disk writes at once: a crash may keep, lose or tear each sector by itself.
pub const SECTOR_BYTES: usize = 512;

/// What a crash does to a sector that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The old bytes are there.
    Lost,
    /// The new bytes are there.
    Kept,
    /// The first bytes are new, the others old. 0 to 512 of them.
    Torn(usize),
}

/// One file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Content {
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            live: bytes.clone(),
            durable: bytes,
            dirty: BTreeSet::new(),
        }
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        self.live[offset..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty
                .extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    pub(crate) fn corrupt(&mut self, change: impl FnOnce(&mut [u8])) {
        change(&mut self.live);
        self.durable.clone_from(&self.live);
    }

    pub(crate) fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = range(sector, self.live.len());
            self.durable[range.clone()].copy_from_slice(&self.live[range]);
        }
    }

    /// A sync that fails: the system forgets that the sectors are dirty, and goes on showing them.
    /// The next sync succeeds and writes none of them.
    pub(crate) fn sync_failed(&mut self) {
        self.dirty.clear();
    }

    pub(crate) fn dirty_sectors(&self) -> impl Iterator<Item = usize> + '_ {
        self.dirty.iter().copied()
    }

    /// Leaves what the disk holds after power loss.
    pub(crate) fn crash(&mut self, fate: &mut dyn FnMut(usize) -> Fate) {
        for sector in std::mem::take(&mut self.dirty) {
            let new_bytes = match fate(sector) {
                Fate::Lost => 0,
                Fate::Kept => SECTOR_BYTES,
                Fate::Torn(bytes) => bytes.min(SECTOR_BYTES),
            };
            let start = sector * SECTOR_BYTES;
            let end = (start + new_bytes).min(self.live.len());
            if start < end {
                if self.durable.len() < end {
                    self.durable.resize(end, 0);
                }
                self.durable[start..end].copy_from_slice(&self.live[start..end]);
            }
        }
        self.live.clone_from(&self.durable);
    }
}

fn range(sector: usize, length: usize) -> std::ops::Range<usize> {
    let start = (sector * SECTOR_BYTES).min(length);
    start..(start + SECTOR_BYTES).min(length)
}
