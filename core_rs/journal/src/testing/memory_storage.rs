//! A directory in memory with the faults of real ones.
//!
//! What is written is visible at once and durable after a sync; names are durable after a sync of
//! the directory. `crash` leaves what a power loss could leave. Faults are planned by the number of
//! the change.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::content::{Content, Fate, SECTOR_BYTES};
use super::random::Random;
use crate::storage::{FileEntry, Storage};

/// Every file and its bytes.
pub type Image = BTreeMap<String, Vec<u8>>;

/// How a planned change fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device reports an error. Of a write, half is done; of a sync, nothing, and it is
    /// forgotten.
    Device,
    /// The disk is full. Of a write, half is done.
    Full,
    /// A write takes half of the bytes and says so; anything else fails as `Device`.
    Short,
    /// The power goes: half of a write is done, and every later call fails until `crash`.
    PowerLoss,
}

/// A change of the directory that is not durable yet.
#[derive(Clone, Debug)]
enum NameChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct Disk {
    contents: Vec<Content>,
    live: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    change_count: u64,
    fault: Option<(u64, Fault)>,
    is_off: bool,
    are_reads_failing: bool,
    capacity_bytes: Option<u64>,
}

/// A directory in memory. Share it in an `Arc` as any storage; faults are planned through `&self`.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    disk: Mutex<Disk>,
}

impl MemoryStorage {
    /// Makes an empty directory on a disk without limit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a directory that holds these files, all durable.
    #[must_use]
    pub fn from_image(image: &Image) -> Self {
        let storage = Self::new();
        {
            let mut disk = storage.disk();
            for (name, bytes) in image {
                let file = disk.contents.len();
                disk.contents.push(Content::from_bytes(bytes.clone()));
                disk.live.insert(name.clone(), file);
                disk.durable.insert(name.clone(), file);
            }
        }
        storage
    }

    /// Returns the files as programs see them now.
    #[must_use]
    pub fn image(&self) -> Image {
        let disk = self.disk();
        let bytes = |file: &usize| disk.contents[*file].live.clone();
        disk.live
            .iter()
            .map(|(name, file)| (name.clone(), bytes(file)))
            .collect()
    }

    /// Changes the bytes of a file behind the journal's back, as a failing disk does; their number
    /// stays.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn corrupt(&self, name: &str, change: impl FnOnce(&mut [u8])) {
        let mut disk = self.disk();
        let file = disk.file(name).expect("a file that is there");
        disk.contents[file].corrupt(change);
    }

    /// Returns how many writes, syncs, renames, removals and directory syncs were asked for so far.
    #[must_use]
    pub fn change_count(&self) -> u64 {
        self.disk().change_count
    }

    /// Lets the change with this number (0 is the first ever) fail.
    pub fn fail_at(&self, change: u64, fault: Fault) {
        self.disk().fault = Some((change, fault));
    }

    /// Lets every read fail, or work again.
    pub fn fail_reads(&self, are_reads_failing: bool) {
        self.disk().are_reads_failing = are_reads_failing;
    }

    /// Sets the size of the disk in bytes, all files together; `None` for no limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.disk().capacity_bytes = capacity_bytes;
    }

    /// Cuts the power and switches on again: each sector that was written and not synced is lost,
    /// kept or torn, and the changes of names since the last sync of the directory are there up to
    /// some point.
    pub fn crash(&self, random: &mut Random) {
        let kept = random.below(self.pending_name_count() as u64 + 1);
        let kept = usize::try_from(kept).unwrap_or_default();
        self.crash_with(kept, &mut |_| match random.below(4) {
            0 => Fate::Lost,
            1 => Fate::Torn(usize::try_from(random.below(SECTOR_BYTES as u64)).unwrap_or(0)),
            _ => Fate::Kept,
        });
    }

    /// As `crash`, with the fate of each sector (in the order of `dirty_sectors`) and of the names
    /// given.
    pub fn crash_with(&self, kept_names: usize, fate: &mut dyn FnMut(usize) -> Fate) {
        let mut disk = self.disk();
        let pending = std::mem::take(&mut disk.pending);
        for change in pending.into_iter().take(kept_names) {
            disk.make_durable(change);
        }
        disk.live = disk.durable.clone();
        for content in &mut disk.contents {
            content.crash(fate);
        }
        disk.is_off = false;
        disk.fault = None;
    }

    /// Returns how many sectors are written and not synced.
    #[must_use]
    pub fn dirty_sector_count(&self) -> usize {
        self.disk()
            .contents
            .iter()
            .map(|content| content.dirty_sectors().count())
            .sum()
    }

    /// Returns how many changes of names are not durable yet.
    #[must_use]
    pub fn pending_name_count(&self) -> usize {
        self.disk().pending.len()
    }

    // A test that panicked elsewhere still wants to see the disk.
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    /// Counts a change and says whether it is to fail, and how.
    fn begin(&mut self) -> io::Result<Option<Fault>> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let number = self.change_count;
        self.change_count += 1;
        let fault = self.fault.filter(|(change, _)| *change == number);
        let fault = fault.map(|(_, fault)| fault);
        self.is_off = fault == Some(Fault::PowerLoss);
        Ok(fault)
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        let file = self.live.get(name).copied();
        file.ok_or_else(|| io::Error::new(ErrorKind::NotFound, format!("no file {name}")))
    }

    fn file_or_new(&mut self, name: &str) -> usize {
        if let Some(file) = self.live.get(name) {
            return *file;
        }
        let file = self.contents.len();
        self.contents.push(Content::default());
        self.live.insert(name.to_owned(), file);
        self.pending.push(NameChange::Create(name.to_owned(), file));
        file
    }

    fn used_bytes(&self) -> u64 {
        self.live
            .values()
            .map(|file| self.contents[*file].live.len() as u64)
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

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Device => io::Error::other("injected device error"),
        Fault::Full => io::Error::from(ErrorKind::StorageFull),
        Fault::Short => io::Error::new(ErrorKind::WriteZero, "injected short write"),
        Fault::PowerLoss => io::Error::other("injected power loss"),
    }
}

impl Storage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let disk = self.disk();
        let entry = |(name, file): (&String, &usize)| FileEntry {
            name: name.clone(),
            bytes: disk.contents[*file].live.len() as u64,
        };
        Ok(disk.live.iter().map(entry).collect())
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.disk();
        if disk.is_off || disk.are_reads_failing {
            return Err(io::Error::other("injected read error"));
        }
        let live = &disk.contents[disk.file(name)?].live;
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = start
            .checked_add(buffer.len())
            .and_then(|end| live.get(start..end));
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let fault = disk.begin()?;
        let file = disk.file_or_new(name);
        let offset = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
        let grown = (offset + bytes.len()).saturating_sub(disk.contents[file].live.len());
        let is_full = grown as u64 > disk.free_bytes();
        let fault = fault.or(is_full.then_some(Fault::Full));
        let taken = if fault.is_some() {
            bytes.len() / 2
        } else {
            bytes.len()
        };
        if !is_full {
            disk.contents[file].write(offset, &bytes[..taken]);
        }
        fault.map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fault = disk.begin()?;
        let file = disk.file(name)?;
        match fault {
            None => disk.contents[file].sync(),
            // Whatever is dirty stays so: the crash that follows decides about it.
            Some(Fault::PowerLoss) => {}
            Some(_) => disk.contents[file].sync_failed(),
        }
        fault.map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn rename(&self, source: &str, target: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if let Some(fault) = disk.begin()? {
            return Err(error_of(fault));
        }
        let file = disk.file(source)?;
        disk.live.remove(source);
        disk.live.insert(target.to_owned(), file);
        disk.pending
            .push(NameChange::Rename(source.to_owned(), target.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if let Some(fault) = disk.begin()? {
            return Err(error_of(fault));
        }
        disk.file(name)?;
        disk.live.remove(name);
        disk.pending.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if let Some(fault) = disk.begin()? {
            return Err(error_of(fault));
        }
        for change in std::mem::take(&mut disk.pending) {
            disk.make_durable(change);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.disk().free_bytes())
    }
}
