//! A real directory on a real disk.
//!
//! Keeps files open between calls, because each sync would otherwise pay for an open. Holds the
//! lock that makes it the directory's one owner.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::JournalError;
use crate::names;
use crate::owner;
use crate::storage::{FileEntry, Storage};

/// Files kept open at once; far under the usual limit of 1,024 a process.
const OPEN_FILE_COUNT_MAX: usize = 64;

/// A real directory. Holding the value is owning the directory.
#[derive(Debug)]
pub struct FileStorage {
    directory: PathBuf,
    /// The lock lives as long as this file is open; `None` if it is for looking only.
    owner: Option<File>,
    /// Open files by name. Held for a look-up or an open, not for reads, writes and syncs.
    files: Mutex<HashMap<String, OpenFile>>,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<File>,
    /// Written and not synced: such a file is not closed, so that its sync reports its own errors.
    is_dirty: bool,
}

impl FileStorage {
    /// Creates the directory if it is missing and becomes its one owner.
    ///
    /// # Errors
    /// `Owned` naming the process that has it, or `Storage`.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        create_directory(directory).map_err(|source| {
            JournalError::storage("create", &directory.display().to_string(), source)
        })?;
        let owner = owner::claim(directory)?;
        Ok(Self::with(directory, Some(owner)))
    }

    /// Opens the directory for looking only: no lock is taken and every write is refused.
    ///
    /// # Errors
    /// `Storage` if it is not a directory.
    pub fn open_read_only(directory: &Path) -> Result<Self, JournalError> {
        fs::read_dir(directory).map_err(|source| {
            JournalError::storage("read", &directory.display().to_string(), source)
        })?;
        Ok(Self::with(directory, None))
    }

    fn with(directory: &Path, owner: Option<File>) -> Self {
        let files = Mutex::new(HashMap::new());
        Self {
            directory: directory.to_owned(),
            owner,
            files,
        }
    }

    // A panic while the map is held leaves entries that are all true.
    fn files(&self) -> MutexGuard<'_, HashMap<String, OpenFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_owner(&self) -> io::Result<()> {
        let refused = || io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
        self.owner.as_ref().map(|_| ()).ok_or_else(refused)
    }

    fn file(&self, name: &str, is_for_writing: bool) -> io::Result<Arc<File>> {
        let mut files = self.files();
        if let Some(open) = files.get_mut(name) {
            open.is_dirty |= is_for_writing;
            return Ok(Arc::clone(&open.file));
        }
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(self.owner.is_some())
            .create(is_for_writing);
        let file = Arc::new(options.open(self.directory.join(name))?);
        if files.len() >= OPEN_FILE_COUNT_MAX {
            files.retain(|_, open| open.is_dirty);
        }
        let open = OpenFile {
            file: Arc::clone(&file),
            is_dirty: is_for_writing,
        };
        files.insert(name.to_owned(), open);
        Ok(file)
    }
}

impl Storage for FileStorage {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != names::OWNER {
                match entry.metadata() {
                    Ok(metadata) => entries.push(FileEntry {
                        name,
                        bytes: metadata.len(),
                    }),
                    // Renamed or removed by its owner while we look.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(entries)
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(name, false)?.read_exact_at(buffer, offset)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_owner()?;
        let file = self.file(name, true)?;
        loop {
            match file.write_at(bytes, offset) {
                Ok(count) if count == bytes.len() => return Ok(()),
                Ok(count) => {
                    let text = format!("only {count} of {} bytes were taken", bytes.len());
                    return Err(io::Error::new(io::ErrorKind::WriteZero, text));
                }
                // Nothing was written before the signal, so this is not a second try.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.check_owner()?;
        self.file(name, true)?.sync_data()?;
        if let Some(open) = self.files().get_mut(name) {
            open.is_dirty = false;
        }
        Ok(())
    }

    fn rename(&self, source: &str, target: &str) -> io::Result<()> {
        self.check_owner()?;
        fs::rename(self.directory.join(source), self.directory.join(target))?;
        let mut files = self.files();
        files.remove(target);
        if let Some(open) = files.remove(source) {
            files.insert(target.to_owned(), open);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_owner()?;
        self.files().remove(name);
        fs::remove_file(self.directory.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.check_owner()?;
        File::open(&self.directory)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.directory)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// Creates the directory and makes its name durable, as well as the names of parents made for it.
fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    create_directory(parent)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}
