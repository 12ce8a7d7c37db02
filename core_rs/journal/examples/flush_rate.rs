//! Prints flushes and records a second for groups of 1, 64 and 512 records, beside a bare write and
//! fdatasync of as many bytes. The two take turns, so that a busy machine slows both alike.
//!
//! `cargo run --release -p lastunit-journal --example flush_rate [directory] [seconds a group]`

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lastunit_journal::{FileStorage, Journal, JournalError, JournalOptions, RecordInput};

/// About the events of one reservation.
const BODY: [u8; 160] = [0x42; 160];

/// Header and body of such a record, in whole slots of 64 bytes.
const RECORD_BYTES: usize = 64 + 192;

const RAW_BYTES: usize = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let scratch = tempfile::tempdir_in(directory)?;
    for group in [1, 64, 512] {
        compare(scratch.path(), group, Duration::from_secs(seconds))?;
    }
    Ok(())
}

fn compare(directory: &Path, group: usize, span: Duration) -> Result<(), Box<dyn Error>> {
    let mut raw = Raw::open(directory, group * RECORD_BYTES)?;
    let storage = Arc::new(FileStorage::open(
        &directory.join(format!("journal-{group}")),
    )?);
    let (journal, _) = Journal::open(storage, JournalOptions::default())?;
    let (mut raws, mut flushes, mut appends) = (Vec::new(), Vec::new(), Vec::new());
    let (start, mut sequence) = (Instant::now(), 0);
    while start.elapsed() < span {
        raws.push(timed(|| raw.flush())?);
        appends.push(timed(|| append(&journal, &mut sequence, group))?);
        let batch = journal.take_batch().ok_or("a group waits")?;
        flushes.push(timed(|| Ok(journal.write_and_sync(batch).map(|_| ())?))?);
        // The keeper's work, which a node does on a thread of its own.
        journal.prepare_segment()?;
    }
    print("raw", group, &mut raws);
    print("journal", group, &mut flushes);
    appends.sort_unstable();
    let nanoseconds = appends[appends.len() / 2].as_nanos() / group as u128;
    println!("append  group {group:4}: {nanoseconds} ns a record");
    Ok(())
}

/// A file filled with zeros, written round and round.
struct Raw {
    file: File,
    bytes: Vec<u8>,
    offset: usize,
}

impl Raw {
    fn open(directory: &Path, bytes: usize) -> std::io::Result<Self> {
        let path = directory.join("raw");
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path)?;
        file.write_all_at(&vec![0; RAW_BYTES], 0)?;
        file.sync_all()?;
        Ok(Self {
            file,
            bytes: vec![0x42; bytes],
            offset: 0,
        })
    }

    fn flush(&mut self) -> Result<(), Box<dyn Error>> {
        if self.offset + self.bytes.len() > RAW_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(&self.bytes, self.offset as u64)?;
        self.file.sync_data()?;
        self.offset += self.bytes.len();
        Ok(())
    }
}

fn append(journal: &Journal, sequence: &mut i64, group: usize) -> Result<(), Box<dyn Error>> {
    for _ in 0..group {
        *sequence += 1;
        append_one(journal, *sequence)?;
    }
    Ok(())
}

fn append_one(journal: &Journal, sequence: i64) -> Result<(), JournalError> {
    let (first_sequence, event_count, time_ms) = (sequence, 1, 0);
    journal.append(RecordInput {
        first_sequence,
        event_count,
        time_ms,
        body: &BODY,
    })
}

fn timed(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn print(name: &str, group: usize, times: &mut [Duration]) {
    times.sort_unstable();
    let flushes = times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
    let records = flushes * group as f64;
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    let (middle, high) = (at(50), at(99));
    println!(
        "{name:7} group {group:4}: {flushes:6.0} flushes/s {records:8.0} records/s \
         p50 {middle:?} p99 {high:?}"
    );
}
