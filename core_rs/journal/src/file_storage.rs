//! skeleton

use std::io;
use std::path::Path;

use crate::{FileEntry, JournalError, Storage};

/// A real directory. Holding the value is owning the directory.
#[derive(Debug)]
pub struct FileStorage {}

impl FileStorage {
    /// Creates the directory if it is missing and becomes its one owner.
    ///
    /// # Errors
    /// `Owned` naming the process that has it, or `Storage`.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        unimplemented!("{}", directory.display())
    }

    /// Opens the directory for looking only: no lock is taken and every write is refused.
    ///
    /// # Errors
    /// `Storage` if it is not a directory.
    pub fn open_read_only(directory: &Path) -> Result<Self, JournalError> {
        unimplemented!("{}", directory.display())
    }
}

impl Storage for FileStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        unimplemented!()
    }
    fn read(&self, _name: &str, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        unimplemented!()
    }
    fn write(&self, _name: &str, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        unimplemented!()
    }
    fn sync(&self, _name: &str) -> io::Result<()> {
        unimplemented!()
    }
    fn rename(&self, _source: &str, _target: &str) -> io::Result<()> {
        unimplemented!()
    }
    fn remove(&self, _name: &str) -> io::Result<()> {
        unimplemented!()
    }
    fn sync_directory(&self) -> io::Result<()> {
        unimplemented!()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        unimplemented!()
    }
}
