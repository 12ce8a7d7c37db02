//! One owner a directory: a lock that the system releases when its process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::JournalError;
use crate::names;

/// Locks the directory and writes this process's id for whoever is refused.
pub(crate) fn claim(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join(names::OWNER);
    let fail = |operation| {
        let name = path.display().to_string();
        move |source| JournalError::storage(operation, &name, source)
    };
    let mut options = OpenOptions::new();
    // Not truncated here: until the lock is held, the id in it is the owner's.
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(fail("open"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let directory = directory.display().to_string();
            return Err(JournalError::Owned {
                directory,
                pid: read_pid(&mut file),
            });
        }
        Err(error) => return Err(fail("lock")(error.into())),
    }
    write_pid(&mut file).map_err(fail("write"))?;
    Ok(file)
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The id is for the message only, so that whatever cannot be read is left out.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
