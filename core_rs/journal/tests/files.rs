//! The journal on real files: ownership, a killed process, threads that read while others write.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lastunit_journal::{
    FileStorage, Journal, JournalError, JournalOptions, Storage, inspect, verify,
};
use support::{append, flush, replay, small};

const SEGMENT_BYTES: u32 = 16 << 10;

/// Makes the killed process of the test below out of this test binary.
const CHILD_DIRECTORY: &str = "JOURNAL_TEST_CHILD_DIRECTORY";

fn open(directory: &Path) -> (Journal, lastunit_journal::Recovered) {
    let storage = Arc::new(FileStorage::open(directory).expect("nobody owns it"));
    Journal::open(storage, small(SEGMENT_BYTES)).expect("the journal opens")
}

#[test]
fn journal_on_real_files_comes_back_with_its_snapshot() {
    let directory = tempfile::tempdir().expect("a directory");
    let nested = directory.path().join("not/there/yet");
    let (journal, _) = open(&nested);
    flush(&journal, 1..=300);
    journal.write_snapshot(300, b"state").expect("works");
    flush(&journal, 301..=310);
    journal.seal(0).expect("works");
    drop(journal);
    let (journal, mut recovered) = open(&nested);

    assert_eq!(
        (310, 2, None),
        (recovered.last_sequence, recovered.epoch, recovered.cut)
    );
    assert_eq!(
        b"state",
        &recovered.snapshot.as_ref().expect("there").bytes[..]
    );
    assert_eq!(10, replay(&mut recovered).len());
    support::check(&journal.reader().read_after(0, 1000).expect("readable"), 0);
    assert!(
        recovered.notes.is_empty(),
        "the lock file is no stranger: {:?}",
        recovered.notes
    );
}

#[test]
fn second_owner_is_refused_by_process_id_until_the_first_is_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path());
    let error = FileStorage::open(directory.path()).expect_err("it is owned");

    assert_eq!("JOURNAL_OWNED", error.reason());
    let process = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&process), "{error}");
    drop(journal);
    FileStorage::open(directory.path()).expect("it is free");
}

#[test]
fn directory_is_looked_at_beside_its_owner_and_never_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path());
    flush(&journal, 1..=200);
    let storage = Arc::new(FileStorage::open_read_only(directory.path()).expect("there"));
    let mut recovered = inspect(Arc::clone(&storage) as Arc<dyn Storage>).expect("whole");

    assert_eq!((200, 1), (recovered.last_sequence, recovered.epoch));
    assert_eq!(200, replay(&mut recovered).len());
    assert_eq!(
        50,
        recovered
            .reader()
            .read_after(150, 100)
            .expect("readable")
            .len()
    );
    let report = verify(&*storage).expect("readable");
    assert_eq!((200, 0), (report.record_count, report.problems.len()));
    let refused = storage
        .write("segment-0000000001.journal", 0, b"x")
        .expect_err("read only");
    assert_eq!(std::io::ErrorKind::ReadOnlyFilesystem, refused.kind());
    for refused in [
        storage.sync("segment-0000000001.journal"),
        storage.rename("segment-0000000001.journal", "x"),
        storage.remove("segment-0000000001.journal"),
        storage.sync_directory(),
    ] {
        assert!(refused.is_err());
    }
    assert!(Journal::open(storage, small(SEGMENT_BYTES)).is_err());
}

#[test]
fn missing_directory_is_not_made_by_looking() {
    let directory = tempfile::tempdir().expect("a directory");
    let missing = directory.path().join("missing");
    let error = FileStorage::open_read_only(&missing).expect_err("not there");

    assert_eq!("JOURNAL_STORAGE", error.reason());
    assert!(!missing.exists());
}

#[test]
fn flush_changes_neither_length_nor_blocks_of_a_segment() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path());
    let file = directory.path().join("segment-0000000001.journal");
    let shape = || {
        file.metadata()
            .map(|data| (data.len(), data.blocks()))
            .expect("there")
    };
    let before = shape();
    flush(&journal, 1..=50);

    assert_eq!(before, shape());
    assert_eq!(u64::from(SEGMENT_BYTES), before.0);
}

#[test]
fn readers_beside_the_writer_see_each_durable_record_once_in_order() {
    const LAST: i64 = 3000;
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for page in [1, 7, 500] {
            let reader = journal.reader();
            scope.spawn(move || {
                let mut after = 0;
                while after < LAST {
                    let records = reader.read_after(after, page).expect("readable");
                    support::check(&records, after);
                    assert!(records.len() <= page);
                    after += i64::try_from(records.len()).expect("few");
                    assert!(
                        after <= reader.durable_sequence(),
                        "nothing is seen before it is durable"
                    );
                    thread::yield_now();
                }
            });
        }
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                journal.prepare_segment().expect("there is room");
                let durable = journal.durable_sequence();
                if durable > 0 {
                    journal.write_snapshot(durable, &[7; 5000]).expect("works");
                }
                thread::yield_now();
            }
        });
        write_beside(&journal, LAST);
        is_done.store(true, Ordering::Release);
    });

    drop(journal);
    let (_, recovered) = open(directory.path());
    assert_eq!(LAST, recovered.last_sequence);
    assert!(recovered.snapshot.is_some());
}

#[test]
fn directory_in_use_is_never_taken_for_damaged() {
    const LAST: i64 = 2000;
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                let durable = journal.durable_sequence();
                let storage = FileStorage::open_read_only(directory.path()).expect("there");
                let mut recovered = inspect(Arc::new(storage)).expect("it is whole");
                replay(&mut recovered);
                assert!(recovered.last_sequence >= durable);
            }
        });
        for sequence in 1..=LAST {
            flush(&journal, sequence..=sequence);
        }
        is_done.store(true, Ordering::Release);
    });
}

/// Appends from one thread and flushes from another, as a node does.
fn write_beside(journal: &Journal, last: i64) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for sequence in 1..=last {
                while let Err(error) = append(journal, sequence) {
                    assert!(matches!(error, JournalError::NoRoom { .. }), "{error}");
                    thread::yield_now();
                }
            }
        });
        scope.spawn(|| {
            while journal.durable_sequence() < last {
                if let Some(batch) = journal.take_batch() {
                    journal.write_and_sync(batch).expect("the disk works");
                }
                thread::yield_now();
            }
        });
    });
}

#[test]
fn killed_process_loses_nothing_that_it_acknowledged() {
    if let Ok(directory) = std::env::var(CHILD_DIRECTORY) {
        write_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut acked = 0;
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "killed_process_loses_nothing_that_it_acknowledged",
                "--nocapture",
            ])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let acks = output
            .lines()
            .map_while(Result::ok)
            .filter_map(|line| ack_of(&line));
        let before = acked;
        for ack in acks.take(20 + round * 17) {
            acked = ack;
        }
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        let (_, mut recovered) = open(directory.path());

        assert!(
            before < acked && acked <= recovered.last_sequence,
            "{recovered:?}"
        );
        replay(&mut recovered);
    }
}

fn ack_of(line: &str) -> Option<i64> {
    line.strip_prefix("durable ")?.parse().ok()
}

/// Appends and flushes for ever, telling each durable sequence.
fn write_until_killed(directory: &Path) -> ! {
    let (journal, recovered) = open(directory);
    let mut next = recovered.last_sequence + 1;
    loop {
        let durable = flush(&journal, next..=next + 4);
        next = durable + 1;
        let mut out = std::io::stdout();
        writeln!(out, "durable {durable}")
            .and_then(|()| out.flush())
            .expect("someone listens");
    }
}

#[test]
fn journal_of_default_options_starts_with_room_to_spare() {
    let directory = tempfile::tempdir().expect("a directory");
    let storage = Arc::new(FileStorage::open(directory.path()).expect("free"));
    let (journal, _) = Journal::open(storage, JournalOptions::default()).expect("opens");

    assert!(!journal.is_space_low() && !journal.is_preparation_due());
}
