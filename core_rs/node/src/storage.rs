//! The disk as the node wants it: as it is, without the wait for a flush, or in memory only.
//!
//! Owns: how far each durability mode goes. Must not: touch a file; `lastunit-journal` does. Where
//! next: `open.rs`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use lastunit_journal::{FileEntry, FileStorage, JournalError, Storage};

use crate::failpoints::{self, Failpoint};
use crate::revisions::POLICY_PREFIX;
use crate::settings::{DurabilityKind, NodeSettings};

/// How the journal's snapshots are called (`FORMAT.md` of the journal); the rest are segments.
const SNAPSHOT_PREFIX: &str = "snapshot-";

/// A real directory, with the failpoints between its changes.
///
/// Without flushes the operating system writes when it likes: that survives the end of the process
/// and is a great deal faster, and every reply says so.
pub(crate) struct DiskStorage {
    /// None once it is given back. Read-locked for each call of the disk, which costs nothing
    /// beside it; write-locked once, when the node is closed and nobody writes any more.
    files: RwLock<Option<FileStorage>>,
    is_flushed: bool,
}

impl DiskStorage {
    /// Becomes the owner of the settings' directory.
    pub(crate) fn open(settings: &NodeSettings) -> Result<Self, JournalError> {
        Ok(Self {
            files: RwLock::new(Some(FileStorage::open(&settings.data_directory)?)),
            is_flushed: settings.durability == DurabilityKind::Flushed,
        })
    }

    /// Gives the directory back; every later call fails.
    pub(crate) fn give_back(&self) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn with<T>(&self, work: impl FnOnce(&FileStorage) -> io::Result<T>) -> io::Result<T> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the node is closed");
        work(files.as_ref().ok_or_else(closed)?)
    }
}

impl Storage for DiskStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        self.with(Storage::list)
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|files| files.read(name, offset, buffer))
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|files| files.write(name, offset, bytes))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        // The points are those of the journal; its neighbours have none.
        if !name.starts_with(POLICY_PREFIX) {
            failpoints::visit(Failpoint::AfterWriteBeforeSync);
        }
        self.with(|files| {
            if self.is_flushed {
                files.sync(name)
            } else {
                Ok(())
            }
        })
    }

    fn rename(&self, source: &str, target: &str) -> io::Result<()> {
        if target.starts_with(SNAPSHOT_PREFIX) {
            failpoints::visit(Failpoint::BeforeSnapshotRename);
        } else if !target.starts_with(POLICY_PREFIX) {
            failpoints::visit(Failpoint::BeforeSegmentRename);
        }
        self.with(|files| files.rename(source, target))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        failpoints::visit(Failpoint::BeforeRemoval);
        self.with(|files| files.remove(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        failpoints::visit(Failpoint::BeforeDirectorySync);
        self.with(|files| {
            if self.is_flushed {
                files.sync_directory()
            } else {
                Ok(())
            }
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.with(Storage::free_bytes)
    }
}

/// Most bytes a node in memory may hold in its journal; then new reservations are refused as on a
/// full disk.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// A disk in memory, for rehearsals: as fast as can be, gone with the process.
///
/// One lock for all files: the flusher writes, readers copy out, and neither waits for a disk.
#[derive(Default)]
pub(crate) struct MemoryStorage {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStorage {
    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(length);
    let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(start..end)
}

impl Storage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let entry = |(name, bytes): (&String, &Vec<u8>)| FileEntry {
            name: name.clone(),
            bytes: bytes.len() as u64,
        };
        Ok(self.files().iter().map(entry).collect())
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let files = self.files();
        let bytes = files.get(name).ok_or_else(|| missing(name))?;
        let part = bytes.get(place(offset, buffer.len())?);
        let part = part.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let place = place(offset, bytes.len())?;
        let mut files = self.files();
        let file = files.entry(name.to_owned()).or_default();
        if file.len() < place.end {
            file.resize(place.end, 0);
        }
        file[place].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, source: &str, target: &str) -> io::Result<()> {
        let mut files = self.files();
        let bytes = files.remove(source).ok_or_else(|| missing(source))?;
        files.insert(target.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files().remove(name);
        removed.map(|_| ()).ok_or_else(|| missing(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let used = self.files().values().map(|it| it.len() as u64).sum();
        Ok(MEMORY_BYTES_MAX.saturating_sub(used))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_behaves_like_a_directory_of_files() {
        let storage = MemoryStorage::default();
        storage.write("a", 2, b"xy").expect("grows");
        let mut bytes = [9; 4];
        storage.read("a", 0, &mut bytes).expect("is there");
        assert_eq!([0, 0, b'x', b'y'], bytes);

        storage.rename("a", "b").expect("is there");
        let error = storage.read("b", 1, &mut [0; 4]).expect_err("is shorter");
        assert_eq!(io::ErrorKind::UnexpectedEof, error.kind());
        assert_eq!(
            MEMORY_BYTES_MAX - 4,
            storage.free_bytes().expect("never fails")
        );

        storage.remove("b").expect("is there");
        assert!(storage.list().expect("never fails").is_empty());
        assert_eq!(
            io::ErrorKind::NotFound,
            storage.remove("b").expect_err("gone").kind()
        );
    }
}
