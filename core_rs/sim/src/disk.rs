//! A disk in memory that behaves as badly as disks are known to.
//!
//! Owns: what is visible, what a loss of power would leave, and the faults that were armed. A write
//! is visible at once; its sectors are dirty until a sync. A sync that fails forgets that they are
//! dirty, as kernels do, and the next one succeeds without them. A disk that lies says that a sync
//! was done and does nothing. Must not: know what a file means. Where next: `node.rs`, which
//! restarts what ran on it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lastunit_journal::{FileEntry, Storage};

use crate::dice::Dice;

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// How an armed change of the disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The power goes during the change: half of a write is done, and nothing works any more.
    PowerLoss,
    /// The device reports an error; of a write half is done, of a sync nothing, and it is
    /// forgotten.
    Device,
    /// A write takes half of the bytes and says so; everything else fails as `Device`.
    Short,
    /// The sync says that it was done and does nothing, and so does every one after it.
    LyingSync,
}

/// Bytes of a sector before it was written, cut at the end of the file.
type Before = Vec<u8>;

#[derive(Clone, Debug, Default)]
struct File {
    live: Vec<u8>,
    /// Length that a loss of power leaves at least.
    durable_bytes: usize,
    /// Sectors that the next sync makes durable, as they were.
    dirty: BTreeMap<usize, Before>,
    /// Sectors whose sync failed: no later sync writes them, only a new write of the same sector.
    forgotten: BTreeMap<usize, Before>,
    /// Bits that were flipped and not written since.
    flips: Vec<(usize, u8)>,
    /// Flipped bits under a write that a loss of power may still undo.
    covered: Vec<(usize, u8)>,
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        for sector in offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES {
            let before = match self.forgotten.remove(&sector) {
                Some(before) => before,
                None => self.sector(sector).to_vec(),
            };
            self.dirty.entry(sector).or_insert(before);
        }
        if self.live.len() < end {
            self.live.resize(end, 0);
        }
        // Written once more as it was read: what was flipped stays so.
        if self.live[offset..end] == *bytes {
            return;
        }
        self.live[offset..end].copy_from_slice(bytes);
        let (covered, left) = std::mem::take(&mut self.flips)
            .into_iter()
            .partition(|(place, _)| (offset..end).contains(place));
        self.flips = left;
        self.covered.extend::<Vec<_>>(covered);
    }

    fn sector(&self, sector: usize) -> &[u8] {
        let start = (sector * SECTOR_BYTES).min(self.live.len());
        let end = (start + SECTOR_BYTES).min(self.live.len());
        &self.live[start..end]
    }

    fn sync(&mut self) {
        self.dirty.clear();
        self.durable_bytes = self.live.len();
        let forgotten = &self.forgotten;
        self.covered
            .retain(|(place, _)| forgotten.contains_key(&(place / SECTOR_BYTES)));
    }

    fn forget(&mut self) {
        for (sector, before) in std::mem::take(&mut self.dirty) {
            self.forgotten.entry(sector).or_insert(before);
        }
    }

    /// Leaves what the power loss leaves: each sector lost, kept or torn by itself.
    fn cut(&mut self, mode: CutMode, dice: &mut Dice) {
        let mut undecided = std::mem::take(&mut self.forgotten);
        undecided.append(&mut self.dirty);
        let mut end = self.durable_bytes;
        for (sector, before) in undecided {
            let kept = match mode {
                CutMode::AllLost => 0,
                CutMode::AllKept => SECTOR_BYTES,
                CutMode::Mixed => match dice.below(4) {
                    0 => 0,
                    1 => dice.index(SECTOR_BYTES),
                    _ => SECTOR_BYTES,
                },
            };
            let start = sector * SECTOR_BYTES;
            let stop = (start + SECTOR_BYTES).min(self.live.len());
            let undone = (start + kept).min(stop)..stop;
            for place in undone.clone() {
                self.live[place] = before.get(place - start).copied().unwrap_or(0);
            }
            self.flips.extend(
                self.covered
                    .iter()
                    .filter(|(place, _)| undone.contains(place)),
            );
            if kept > 0 {
                end = end.max((start + kept).min(stop));
            }
        }
        self.covered.clear();
        self.live.truncate(end);
        self.flips.retain(|(place, _)| *place < end);
        self.durable_bytes = end;
    }
}

/// What a loss of power does to unsynced sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CutMode {
    /// Nothing unsynced is left.
    AllLost,
    /// Everything is there.
    AllKept,
    /// Each sector has a fate of its own.
    Mixed,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

/// What happened to the disk since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskCounts {
    pub(crate) writes: u64,
    pub(crate) syncs: u64,
    pub(crate) power_losses: u64,
    pub(crate) device_errors: u64,
    pub(crate) short_writes: u64,
    pub(crate) lies: u64,
    pub(crate) full: u64,
    pub(crate) read_errors: u64,
}

#[derive(Clone, Debug, Default)]
struct Inner {
    files: Vec<File>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    armed: Option<(u64, Failure)>,
    is_lying: bool,
    is_off: bool,
    /// The first change that failed since the last restart.
    broken_by: Option<String>,
    failing_reads: u64,
    capacity_bytes: Option<u64>,
    counts: DiskCounts,
}

/// The disk. Share it in an `Arc`: the node writes, the simulator breaks.
#[derive(Debug, Default)]
pub(crate) struct SimDisk {
    inner: Mutex<Inner>,
}

impl SimDisk {
    /// Lets the change after `later` others fail.
    pub(crate) fn arm(&self, later: u64, failure: Failure) {
        self.inner().armed = Some((later, failure));
    }

    pub(crate) fn disarm(&self) {
        let mut inner = self.inner();
        inner.armed = None;
        inner.failing_reads = 0;
    }

    /// Lets the next reads fail.
    pub(crate) fn fail_reads(&self, count: u64) {
        self.inner().failing_reads = count;
    }

    /// Sets how many bytes all files may have; less than they have is full at once.
    pub(crate) fn set_room(&self, room_bytes: Option<u64>) {
        let mut inner = self.inner();
        inner.capacity_bytes = room_bytes.map(|room| inner.used_bytes() + room);
    }

    /// Whether the power is off, so that nothing the process still says is heard.
    pub(crate) fn is_off(&self) -> bool {
        self.inner().is_off
    }

    /// Which change failed first since the last restart: from then on nothing may be acknowledged.
    pub(crate) fn broken_by(&self) -> Option<String> {
        self.inner().broken_by.clone()
    }

    /// Whether a sync was ever answered without being done.
    pub(crate) fn has_lied(&self) -> bool {
        self.inner().counts.lies > 0
    }

    pub(crate) fn counts(&self) -> DiskCounts {
        self.inner().counts
    }

    /// Cuts the power and switches on again.
    pub(crate) fn cut(&self, mode: CutMode, dice: &mut Dice) {
        let mut inner = self.inner();
        let pending = std::mem::take(&mut inner.pending);
        let kept = match mode {
            CutMode::AllLost => 0,
            CutMode::AllKept => pending.len(),
            CutMode::Mixed => dice.index(pending.len() + 1),
        };
        for change in pending.into_iter().take(kept) {
            inner.make_durable(change);
        }
        inner.live = inner.durable.clone();
        for file in &mut inner.files {
            file.cut(mode, dice);
        }
        inner.is_lying = false;
        inner.restart();
    }

    /// The process starts anew on a disk that kept its power.
    pub(crate) fn restart(&self) {
        self.inner().restart();
    }

    /// Flips one bit of a random file, if there is one; tells the file and the byte.
    pub(crate) fn flip(&self, dice: &mut Dice) -> Option<(String, usize)> {
        let mut inner = self.inner();
        let files = inner.live.iter();
        let names: Vec<(String, usize)> = files
            .filter(|(_, file)| !inner.files[**file].live.is_empty())
            .map(|(name, file)| (name.clone(), *file))
            .collect();
        if names.is_empty() {
            return None;
        }
        let (name, file) = dice.pick(&names).clone();
        let bytes = &mut inner.files[file].live;
        // Most of a segment is zeros ahead of their use: aim at what is written, mostly.
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let bound = if dice.permille(900) {
            used
        } else {
            bytes.len()
        };
        let (place, mask) = (dice.index(bound), 1 << dice.below(8));
        bytes[place] ^= mask;
        inner.files[file].flips.push((place, mask));
        Some((name, place))
    }

    /// How many flipped bits are on the disk.
    pub(crate) fn flip_count(&self) -> usize {
        let inner = self.inner();
        inner
            .live
            .values()
            .map(|file| inner.files[*file].flips.len())
            .sum()
    }

    /// Puts every flipped bit right again, as restoring a copy would.
    pub(crate) fn unflip(&self) {
        for file in &mut self.inner().files {
            for (place, mask) in std::mem::take(&mut file.flips) {
                if let Some(byte) = file.live.get_mut(place) {
                    *byte ^= mask;
                }
            }
        }
    }

    /// A number that two disks share only if they hold the same files.
    pub(crate) fn digest(&self) -> u64 {
        let inner = self.inner();
        let mut digest = crate::trace::Digest::default();
        for (name, file) in &inner.live {
            digest.add(name.as_bytes());
            digest.add(&inner.files[*file].live);
        }
        digest.value()
    }

    // A panic of a simulated node still leaves a disk to look at.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Counts a change and says whether it fails, and how.
    fn begin(&mut self, what: &str, name: &str) -> io::Result<Option<Failure>> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let Some((later, failure)) = self.armed else {
            return Ok(None);
        };
        if later > 0 {
            self.armed = Some((later - 1, failure));
            return Ok(None);
        }
        self.armed = None;
        match failure {
            Failure::PowerLoss => {
                self.is_off = true;
                self.counts.power_losses += 1;
            }
            Failure::Device => self.counts.device_errors += 1,
            Failure::Short => self.counts.short_writes += 1,
            Failure::LyingSync => {
                self.is_lying = true;
                return Ok(None);
            }
        }
        self.broken_by = Some(format!("{what} of {name}"));
        Ok(Some(failure))
    }

    fn restart(&mut self) {
        self.is_off = false;
        self.broken_by = None;
        self.armed = None;
        self.failing_reads = 0;
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        let file = self.live.get(name).copied();
        file.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no file {name}")))
    }

    fn file_or_new(&mut self, name: &str) -> usize {
        if let Some(file) = self.live.get(name) {
            return *file;
        }
        let file = self.files.len();
        self.files.push(File::default());
        self.live.insert(name.to_owned(), file);
        self.pending.push(NameChange::Create(name.to_owned(), file));
        file
    }

    fn used_bytes(&self) -> u64 {
        self.live
            .values()
            .map(|file| self.files[*file].live.len() as u64)
            .sum()
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes
            .map_or(u64::MAX, |bytes| bytes.saturating_sub(self.used_bytes()))
    }

    fn make_durable(&mut self, change: NameChange) {
        match change {
            NameChange::Create(name, file) => {
                self.durable.insert(name, file);
            }
            NameChange::Rename(source, target) => {
                if let Some(file) = self.durable.remove(&source) {
                    self.durable.insert(target, file);
                }
            }
            NameChange::Remove(name) => {
                self.durable.remove(&name);
            }
        }
    }
}

fn error_of(failure: Failure) -> io::Error {
    match failure {
        Failure::PowerLoss => io::Error::other("simulated power loss"),
        Failure::Device | Failure::LyingSync => io::Error::other("simulated device error"),
        Failure::Short => io::Error::new(ErrorKind::WriteZero, "simulated short write"),
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl Storage for SimDisk {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let inner = self.inner();
        let entry = |(name, file): (&String, &usize)| FileEntry {
            name: name.clone(),
            bytes: inner.files[*file].live.len() as u64,
        };
        Ok(inner.live.iter().map(entry).collect())
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.is_off {
            return Err(io::Error::other("the power is off"));
        }
        if inner.failing_reads > 0 {
            inner.failing_reads -= 1;
            inner.counts.read_errors += 1;
            return Err(io::Error::other("simulated read error"));
        }
        let live = &inner.files[inner.file(name)?].live;
        let start = place(offset)?;
        let bytes = live.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        let failure = inner.begin("write", name)?;
        inner.counts.writes += 1;
        let file = inner.file_or_new(name);
        let offset = place(offset)?;
        let grown = (offset + bytes.len()).saturating_sub(inner.files[file].live.len());
        if grown as u64 > inner.free_bytes() {
            inner.counts.full += 1;
            return Err(io::Error::from(ErrorKind::StorageFull));
        }
        let taken = if failure.is_some() {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        inner.files[file].write(offset, &bytes[..taken]);
        failure.map_or(Ok(()), |failure| Err(error_of(failure)))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let failure = inner.begin("sync", name)?;
        inner.counts.syncs += 1;
        let file = inner.file(name)?;
        match failure {
            None if inner.is_lying => inner.counts.lies += 1,
            None => inner.files[file].sync(),
            // The power loss that follows decides about what is dirty.
            Some(Failure::PowerLoss) => {}
            Some(_) => inner.files[file].forget(),
        }
        failure.map_or(Ok(()), |failure| Err(error_of(failure)))
    }

    fn rename(&self, source: &str, target: &str) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(failure) = inner.begin("rename", source)? {
            return Err(error_of(failure));
        }
        let file = inner.file(source)?;
        inner.live.remove(source);
        inner.live.insert(target.to_owned(), file);
        inner
            .pending
            .push(NameChange::Rename(source.to_owned(), target.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.inner();
        inner.file(name)?;
        // A temporary file that cannot be removed is left for the next opening, and is no reason to
        // stop: only a loss of power is tried on it.
        let is_power = matches!(inner.armed, Some((_, Failure::PowerLoss)));
        if (is_power || !name.ends_with(".temporary"))
            && let Some(failure) = inner.begin("removal", name)?
        {
            return Err(error_of(failure));
        }
        inner.live.remove(name);
        inner.pending.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(failure) = inner.begin("sync", "the directory")? {
            return Err(error_of(failure));
        }
        if inner.is_lying {
            inner.counts.lies += 1;
            return Ok(());
        }
        for change in std::mem::take(&mut inner.pending) {
            inner.make_durable(change);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.inner().free_bytes())
    }
}
