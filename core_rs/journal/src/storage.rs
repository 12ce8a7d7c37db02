//! What the journal asks of a disk: one flat directory of files, in eight calls.
//!
//! Owns the trait only. `FileStorage` answers it with a real directory, `testing::MemoryStorage`
//! with a disk that can fail. Implementations must not retry, reorder or cache: the journal decides
//! what a failure means.

use std::io;

/// One file of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Name within the directory, without a path.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
}

/// A flat directory of files with explicit durability.
///
/// A written byte is visible to `read` at once and survives a crash only after `sync` of its file.
/// A new name, a rename or a removal survives a crash only after `sync_directory`.
pub trait Storage: Send + Sync {
    /// Lists every file, in any order.
    ///
    /// # Errors
    /// What the system says; nothing changed.
    fn list(&self) -> io::Result<Vec<FileEntry>>;

    /// Fills `buffer` from `offset` of the file.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file is shorter, else what the system says.
    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, creating the file or growing it where needed.
    ///
    /// # Errors
    /// `WriteZero` if fewer bytes were taken (they are not tried again), `StorageFull` on a full
    /// disk, else what the system says. After an error the bytes may be there in part.
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the bytes and the length of the file durable.
    ///
    /// # Errors
    /// What the system says. After an error nothing is known of what was written since the last
    /// success, and a second call that succeeds proves nothing.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Gives the file another name, replacing a file that has it.
    ///
    /// # Errors
    /// What the system says; the file then has its old name or the new one.
    fn rename(&self, source: &str, target: &str) -> io::Result<()>;

    /// Removes the file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes new names, renames and removals durable.
    ///
    /// # Errors
    /// As for `sync`.
    fn sync_directory(&self) -> io::Result<()>;

    /// Returns the bytes that the file system can still give to new files.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}
