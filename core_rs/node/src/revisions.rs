//! Revisions of the admission policy on the disk: one file each, whole or not there.
//!
//! Owns: the files' form and names, and how many are kept. Must not: know which revision holds.
//! Where next: `policies.rs`; why they are no events: `docs/decisions/0008`.

use std::io;
use std::sync::Arc;

use lastunit_engine::{Millis, Sequence};
use lastunit_journal::{FileEntry, Storage};
use serde::{Deserialize, Serialize};

/// How the files are called; the journal leaves such names alone.
pub(crate) const POLICY_PREFIX: &str = "policy-";

const SUFFIX: &str = ".json";

/// The journal's opening removes what is called so: it was not finished.
const TEMPORARY: &str = ".temporary";

/// Digits of the check sum in the first line.
const SUM_DIGITS: usize = 8;

/// Larger than any revision: a document of 64 KiB grows by escapes to six times that at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a revision came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyOrigin {
    /// The program brings it along.
    BuiltIn,
    /// The file that the server was started with.
    File,
    /// A call.
    Service,
}

/// One revision, as it was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revision {
    /// Its number, from 1; 0 is the policy that the program brings along.
    #[serde(rename = "revision")]
    pub(crate) number: u64,
    pub(crate) document: String,
    /// Who wanted it, in words of the caller.
    pub(crate) actor: String,
    /// Who called.
    pub(crate) caller: String,
    pub(crate) reason: String,
    pub(crate) origin: PolicyOrigin,
    /// Ledger time at which it was put.
    pub(crate) put_time_ms: Millis,
    /// Ledger time from which it may hold.
    pub(crate) effect_time_ms: Millis,
    /// The ledger's last event when it was put.
    pub(crate) sequence: Sequence,
}

/// A file that should be a revision and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damaged {
    pub(crate) file: String,
    pub(crate) problem: String,
}

/// Reads every revision, in the order of their numbers.
pub(crate) fn read_all(storage: &dyn Storage) -> Result<Vec<Arc<Revision>>, Damaged> {
    let damaged = |file: &str, problem: String| Damaged {
        file: file.to_owned(),
        problem,
    };
    let files = storage.list();
    let files = files.map_err(|error| damaged("(directory)", error.to_string()))?;
    let mut revisions = Vec::new();
    for file in files.iter().filter(|file| is_ours(&file.name)) {
        let revision = read(storage, file).map_err(|problem| damaged(&file.name, problem))?;
        revisions.push(Arc::new(revision));
    }
    revisions.sort_by_key(|it| it.number);
    Ok(revisions)
}

fn read(storage: &dyn Storage, file: &FileEntry) -> Result<Revision, String> {
    if file.bytes > FILE_BYTES_MAX {
        return Err(format!("has {} bytes", file.bytes));
    }
    let mut bytes = vec![0; usize::try_from(file.bytes).unwrap_or(0)];
    let read = storage.read(&file.name, 0, &mut bytes);
    read.map_err(|error| error.to_string())?;
    let revision = decode(&bytes)?;
    if name(revision.number) != file.name {
        return Err(format!("holds revision {}", revision.number));
    }
    Ok(revision)
}

/// Copies every revision that can be read; gives how many, and what is wrong with the others.
pub(crate) fn copy(
    source: &dyn Storage,
    target: &dyn Storage,
) -> io::Result<(usize, Vec<Damaged>)> {
    let (mut count, mut left_out) = (0, Vec::new());
    let files = source.list()?;
    for file in files.iter().filter(|file| is_ours(&file.name)) {
        match read(source, file) {
            Ok(revision) => {
                write(target, &revision)?;
                count += 1;
            }
            Err(problem) => left_out.push(Damaged {
                file: file.name.clone(),
                problem,
            }),
        }
    }
    Ok((count, left_out))
}

/// Makes a revision durable, as a whole.
pub(crate) fn write(storage: &dyn Storage, revision: &Revision) -> io::Result<()> {
    let name = name(revision.number);
    let temporary = format!("{name}{TEMPORARY}");
    // One of a failed try may be there and be longer.
    if storage.list()?.iter().any(|file| file.name == temporary) {
        storage.remove(&temporary)?;
    }
    storage.write(&temporary, 0, &encode(revision))?;
    storage.sync(&temporary)?;
    storage.rename(&temporary, &name)?;
    storage.sync_directory()
}

pub(crate) fn remove(storage: &dyn Storage, revision: u64) -> io::Result<()> {
    storage.remove(&name(revision))
}

fn name(revision: u64) -> String {
    format!("{POLICY_PREFIX}{revision:010}{SUFFIX}")
}

fn is_ours(name: &str) -> bool {
    name.starts_with(POLICY_PREFIX) && name.ends_with(SUFFIX)
}

fn encode(revision: &Revision) -> Vec<u8> {
    let body = serde_json::to_vec_pretty(revision).unwrap_or_default();
    let mut bytes = format!("{:08x}\n", crc32c::crc32c(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Revision, String> {
    let (sum, rest) = bytes.split_at_checked(SUM_DIGITS).ok_or("is too short")?;
    let body = rest.strip_prefix(b"\n").ok_or("has no check sum")?;
    if sum != format!("{:08x}", crc32c::crc32c(body)).as_bytes() {
        return Err("does not match its check sum".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn revision(number: u64) -> Revision {
        Revision {
            number,
            document: "version = 1\n# \"quoted\"\n".into(),
            actor: "sre".into(),
            caller: "console".into(),
            reason: "a test".into(),
            origin: PolicyOrigin::Service,
            put_time_ms: 5,
            effect_time_ms: 6,
            sequence: 7,
        }
    }

    #[test]
    fn what_was_written_is_read_in_the_order_of_numbers() {
        let storage = MemoryStorage::default();
        for number in [2, 10, 1] {
            write(&storage, &revision(number)).expect("there is room");
        }
        let read = read_all(&storage).expect("is whole");
        let numbers: Vec<_> = read.iter().map(|it| it.number).collect();

        assert_eq!(vec![1, 2, 10], numbers);
        assert_eq!(revision(2), *read[1]);
    }

    #[test]
    fn a_copy_leaves_out_what_cannot_be_read_and_names_it() {
        let (source, target) = (MemoryStorage::default(), MemoryStorage::default());
        for number in 1..=3 {
            write(&source, &revision(number)).expect("there is room");
        }
        source.write(&name(2), 20, b"?").expect("there is room");
        let (count, left_out) = copy(&source, &target).expect("there is room");
        let numbers: Vec<_> = read_all(&target).expect("is whole");

        assert_eq!((2, 1), (count, left_out.len()));
        assert_eq!(name(2), left_out[0].file);
        assert_eq!([1, 3], [numbers[0].number, numbers[1].number]);
    }

    #[test]
    fn every_bit_that_falls_over_is_noticed() {
        let bytes = encode(&revision(3));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }
}
