//! A disk whose flush waits until it is let go.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use lastunit_journal::testing::MemoryStorage;
use lastunit_journal::{FileEntry, Storage};

/// Memory that can be told to hold back every flush.
#[derive(Default)]
pub(crate) struct HeldStorage {
    inner: MemoryStorage,
    is_held: Mutex<bool>,
    changed: Condvar,
}

impl HeldStorage {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on a flush waits.
    pub(crate) fn hold(&self) {
        *self.is_held.lock().unwrap() = true;
    }

    /// Lets the flush that waits, and all later ones, go on.
    pub(crate) fn let_go(&self) {
        *self.is_held.lock().unwrap() = false;
        self.changed.notify_all();
    }
}

impl Storage for HeldStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        self.inner.list()
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read(name, offset, buffer)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(name, offset, bytes)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut is_held = self.is_held.lock().unwrap();
        while *is_held {
            is_held = self.changed.wait(is_held).unwrap();
        }
        drop(is_held);
        self.inner.sync(name)
    }

    fn rename(&self, source: &str, target: &str) -> io::Result<()> {
        self.inner.rename(source, target)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}
