//! Prints flushes and records a second for groups of 1, 64 and 512 records, beside a bare write and
//! fdatasync.
//!
//! `cargo run --release -p lastunit-journal --example flush_rate [directory] [seconds]`

use std::error::Error;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lastunit_journal::{FileStorage, Journal, JournalError, JournalOptions, RecordInput};

/// About the events of one reservation.
const BODY: [u8; 160] = [0x42; 160];
const SLOT_BYTES: u64 = 64;
const RAW_BYTES: u64 = 16 << 20;

/// How often and how long a loop flushed.
struct Rate {
    latencies: Vec<Duration>,
    total: Duration,
}

impl Rate {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn print(&mut self, name: &str, group: usize) {
        self.latencies.sort_unstable();
        let flushes = self.latencies.len() as f64 / self.total.as_secs_f64();
        let at = |percent: usize| self.latencies[(self.latencies.len() - 1) * percent / 100];
        println!(
            "{name:8} group {group:4}: {flushes:6.0} flushes/s {:8.0} records/s p50 {:?} p99 {:?}",
            flushes * group as f64,
            at(50),
            at(99)
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let scratch = tempfile::tempdir_in(directory)?;
    for group in [1, 64, 512] {
        raw(scratch.path(), group, Duration::from_secs(seconds))?.print("raw", group);
        journal(scratch.path(), group, Duration::from_secs(seconds))?.print("journal", group);
    }
    Ok(())
}

/// Writes as many bytes as the journal does for such a group, round and round in a file filled with
/// zeros.
fn raw(directory: &Path, group: usize, span: Duration) -> Result<Rate, Box<dyn Error>> {
    let path = directory.join("raw");
    let file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    file.write_all_at(&vec![0; usize::try_from(RAW_BYTES)?], 0)?;
    file.sync_all()?;
    let bytes = vec![0x42; group * usize::try_from(SLOT_BYTES + record_body_bytes())?];
    let mut offset = 0;
    measure(span, || {
        file.write_all_at(&bytes, offset)?;
        file.sync_data()?;
        offset += bytes.len() as u64;
        if offset + bytes.len() as u64 > RAW_BYTES {
            offset = 0;
        }
        Ok(())
    })
}

fn record_body_bytes() -> u64 {
    (BODY.len() as u64).next_multiple_of(SLOT_BYTES)
}

fn journal(directory: &Path, group: usize, span: Duration) -> Result<Rate, Box<dyn Error>> {
    let storage = Arc::new(FileStorage::open(
        &directory.join(format!("journal-{group}")),
    )?);
    let (journal, _) = Journal::open(storage, JournalOptions::default())?;
    let mut sequence = 0;
    let rate = std::thread::scope(|scope| {
        let is_done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stop = Arc::clone(&is_done);
        let journal = &journal;
        let keeper = scope.spawn(move || keep(journal, &is_done));
        let rate = measure(span, || {
            for _ in 0..group {
                sequence += 1;
                append(journal, sequence)?;
            }
            let batch = journal.take_batch().ok_or("a group waits")?;
            Ok(journal.write_and_sync(batch).map(|_| ())?)
        });
        stop.store(true, std::sync::atomic::Ordering::Release);
        keeper.join().map_err(|_| "the keeper panicked")??;
        rate
    })?;
    Ok(rate)
}

/// Prepares segments ahead, as a node's keeper thread does.
fn keep(journal: &Journal, is_done: &std::sync::atomic::AtomicBool) -> Result<(), JournalError> {
    while !is_done.load(std::sync::atomic::Ordering::Acquire) {
        journal.prepare_segment()?;
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn append(journal: &Journal, sequence: i64) -> Result<(), JournalError> {
    let input = RecordInput {
        first_sequence: sequence,
        event_count: 1,
        time_ms: 0,
        body: &BODY,
    };
    loop {
        match journal.append(input) {
            // The keeper is behind: a node would refuse, a bench waits and lets it count.
            Err(JournalError::NoRoom { .. }) => std::thread::sleep(Duration::from_millis(1)),
            other => return other,
        }
    }
}

fn measure(
    span: Duration,
    mut flush: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Rate, Box<dyn Error>> {
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < span {
        let before = Instant::now();
        flush()?;
        latencies.push(before.elapsed());
    }
    Ok(Rate {
        latencies,
        total: start.elapsed(),
    })
}
