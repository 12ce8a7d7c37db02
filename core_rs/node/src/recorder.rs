//! Keeps what came to the door, for a replay against another policy.
//!
//! Owns: the line between the calls and the disk, its bound, and the thread that writes. A call
//! hands over what it gathered and goes on; without room it is not kept, and that is counted. Must
//! not: make a call wait for the disk, or end the node whatever the disk does. Where next:
//! `recorder_files.rs` for the files, `lastunit-arrivals` for the bytes.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lastunit_admission::Nanos;
use lastunit_arrivals::{Draft, Encoder, Origin, ReportNote};
use lastunit_journal::{FileStorage, Storage};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::system_now;
use crate::open::OpenError;
use crate::recorder_files::Files;

/// What may wait for the disk, in bytes; at a million arrivals a second a tenth of a second.
const LINE_BYTES_MAX: usize = 8 << 20;
/// So much in line wakes the writer before its time.
const LINE_BYTES_WAKING: usize = LINE_BYTES_MAX / 8;
/// How long arrivals are gathered at most before they are written.
const GATHERED: Duration = Duration::from_millis(500);
/// A block ends at this length: what damage or a crash can cost.
const BLOCK_BYTES: usize = 64 << 10;
/// After a failure the disk is left alone for so long.
const PAUSE: Duration = Duration::from_secs(1);

const MICROS: i64 = 1_000;

/// Where arrivals are kept, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrivalSettings {
    /// A directory of their own.
    pub directory: PathBuf,
    /// Most bytes, 1 MiB to 1 TiB; the oldest go first.
    pub bytes_max: u64,
}

enum Note {
    Call(Box<Draft>, Nanos),
    Report(ReportNote),
}

#[derive(Default)]
struct Line {
    notes: Vec<Note>,
    bytes: usize,
    is_stopping: bool,
}

#[derive(Default)]
struct Counts {
    recorded: AtomicU64,
    dropped: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

/// What calls and the writer share.
struct Desk {
    line: Mutex<Line>,
    wake: Condvar,
    counts: Counts,
    /// What went wrong last.
    cause: Mutex<String>,
}

impl Desk {
    /// A panic cannot leave the line half changed: it is pushed to or taken as a whole.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, note: Note, count: u64, bytes: usize) {
        let mut line = self.line();
        if line.bytes + bytes > LINE_BYTES_MAX {
            self.counts.dropped.fetch_add(count, Ordering::Relaxed);
            return;
        }
        let before = line.bytes;
        line.bytes += bytes;
        line.notes.push(note);
        let is_waking = before < LINE_BYTES_WAKING && line.bytes >= LINE_BYTES_WAKING;
        drop(line);
        if is_waking {
            self.wake.notify_one();
        }
    }

    /// Waits until there is enough to write, or for a while; the second is whether it is the end.
    fn take(&self) -> (Vec<Note>, bool) {
        let line = self.line();
        let is_waiting = |line: &mut Line| line.bytes < LINE_BYTES_WAKING && !line.is_stopping;
        let waited = self.wake.wait_timeout_while(line, GATHERED, is_waiting);
        let (mut line, _) = waited.unwrap_or_else(PoisonError::into_inner);
        line.bytes = 0;
        (std::mem::take(&mut line.notes), line.is_stopping)
    }

    fn note_failure(&self, cause: String) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
    }
}

/// The recording of one run of a node.
pub(crate) struct Recorder {
    desk: Arc<Desk>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Recorder {
    /// Becomes the owner of the directory and starts the writer.
    pub(crate) fn open(settings: &ArrivalSettings) -> Result<Self, OpenError> {
        let storage = FileStorage::open(&settings.directory)?;
        Self::open_on(Arc::new(storage), settings.bytes_max)
    }

    pub(crate) fn open_on(storage: Arc<dyn Storage>, bytes_max: u64) -> Result<Self, OpenError> {
        let files = Files::open(storage, bytes_max);
        let desk = Arc::new(Desk {
            line: Mutex::default(),
            wake: Condvar::new(),
            counts: Counts::default(),
            cause: Mutex::default(),
        });
        let origin = Origin {
            run: RandomState::new().hash_one(0),
            start_micros: system_now().saturating_mul(MICROS),
            dropped_count: 0,
        };
        let held = Arc::clone(&desk);
        let writer = thread::Builder::new()
            .name("lastunit-arrive".to_owned())
            .spawn(move || write(&held, files, origin))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            desk,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Keeps a call that was answered at `end`.
    pub(crate) fn keep(&self, draft: Box<Draft>, end: Nanos) {
        let (count, bytes) = (draft.len() as u64, draft.bytes());
        if count > 0 {
            self.desk.put(Note::Call(draft, end), count, bytes);
        }
    }

    /// Keeps a report of the order service.
    pub(crate) fn keep_report(&self, note: ReportNote) {
        self.desk.put(Note::Report(note), 0, size_of::<Note>());
    }

    /// Writes what is in line and ends; whatever comes later is not kept.
    pub(crate) fn stop(&self) {
        self.desk.line().is_stopping = true;
        self.desk.wake.notify_one();
        let held = self.writer.lock();
        let writer = held.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has written what it has; the node does not need it.
            let _ = writer.join();
        }
    }

    /// Counters, as JSON.
    pub(crate) fn json(&self) -> Value {
        let counts = &self.desk.counts;
        let cause = self.desk.cause.lock();
        json!({
            "recorded_count": counts.recorded.load(Ordering::Relaxed),
            "dropped_count": counts.dropped.load(Ordering::Relaxed),
            "failure_count": counts.failures.load(Ordering::Relaxed),
            "bytes": counts.bytes.load(Ordering::Relaxed),
            "cause": *cause.unwrap_or_else(PoisonError::into_inner),
        })
    }
}

/// The writer's whole life.
fn write(desk: &Desk, mut files: Files, mut origin: Origin) {
    loop {
        let (notes, is_over) = desk.take();
        let mut encoder = Encoder::default();
        let mut is_well = true;
        for note in notes {
            match note {
                Note::Report(report) => encoder.add_report(&report),
                Note::Call(draft, end) => {
                    for index in 0..draft.len() {
                        encoder.add(&draft, index, end);
                        if encoder.len() >= BLOCK_BYTES {
                            is_well &= put_block(desk, &mut files, &mut encoder, &mut origin);
                        }
                    }
                }
            }
        }
        is_well &= put_block(desk, &mut files, &mut encoder, &mut origin);
        if is_over {
            return;
        }
        if !is_well {
            // What comes in the meantime waits in line, as far as there is room.
            let line = desk.line();
            let _ = desk
                .wake
                .wait_timeout_while(line, PAUSE, |line| !line.is_stopping);
        }
    }
}

/// Writes a block; one that cannot be written is lost and counted.
fn put_block(desk: &Desk, files: &mut Files, encoder: &mut Encoder, origin: &mut Origin) -> bool {
    if encoder.is_empty() {
        return true;
    }
    let counts = &desk.counts;
    origin.dropped_count = counts.dropped.load(Ordering::Relaxed);
    let count = u64::from(encoder.row_count());
    let written = files.append(&encoder.finish(origin));
    counts.bytes.store(files.bytes(), Ordering::Relaxed);
    match written {
        Ok(()) => {
            counts.recorded.fetch_add(count, Ordering::Relaxed);
            true
        }
        Err(error) => {
            counts.dropped.fetch_add(count, Ordering::Relaxed);
            desk.note_failure(error.to_string());
            false
        }
    }
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
