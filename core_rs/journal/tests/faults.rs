//! The N-th change fails, for every N and every kind of failure: stop at once, lose nothing
//! acknowledged.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Fault, MemoryStorage, Random, seed_from_environment};
use lastunit_journal::{Journal, JournalError};
use support::{append, open, replay, small, try_open};

const SEGMENT_BYTES: u32 = 1024;
const LAST: i64 = 24;
const FAULTS: [Fault; 4] = [Fault::Device, Fault::Full, Fault::Short, Fault::PowerLoss];

/// What a run came to before it stopped.
#[derive(Debug, Default)]
struct Run {
    /// Last sequence that a flush returned.
    acked: i64,
    /// Last sequence that was appended, and may be there or not.
    appended: i64,
    is_complete: bool,
}

/// Opens, appends in groups, rolls, seals and takes snapshots, until something fails or all is
/// done.
fn run(storage: &Arc<MemoryStorage>) -> Run {
    let mut run = Run::default();
    let Ok((journal, _)) = try_open(storage, SEGMENT_BYTES) else {
        return run;
    };
    let outcome = work(&journal, &mut run);
    run.is_complete = outcome.is_ok();
    if journal.poison().is_some() {
        assert_poisoned(&journal, storage);
    }
    run
}

fn work(journal: &Journal, run: &mut Run) -> Result<(), JournalError> {
    for group in 0..LAST / 4 {
        for sequence in group * 4 + 1..=group * 4 + 4 {
            append(journal, sequence)?;
            run.appended = sequence;
        }
        if let Some(batch) = journal.take_batch() {
            run.acked = journal.write_and_sync(batch)?;
        }
        journal.prepare_segment()?;
        if group % 2 == 1 {
            journal.write_snapshot(run.acked, b"state")?;
        }
        if group % 3 == 2 {
            journal.seal(0)?;
        }
    }
    Ok(())
}

fn assert_poisoned(journal: &Journal, storage: &MemoryStorage) {
    let changes = storage.change_count();
    let durable = journal.durable_sequence();

    assert_eq!(
        "JOURNAL_POISONED",
        append(journal, 1).expect_err("stopped").reason()
    );
    if let Some(batch) = journal.take_batch() {
        let error = journal.write_and_sync(batch).expect_err("stopped");
        assert_eq!("JOURNAL_POISONED", error.reason());
    }
    assert!(journal.seal(0).is_err());
    assert!(journal.prepare_segment().is_err());
    assert!(durable == 0 || journal.write_snapshot(durable, b"state").is_err());
    assert_eq!(
        changes,
        storage.change_count(),
        "a poisoned journal touches nothing"
    );
}

fn change_count_of_a_whole_run() -> u64 {
    let storage = Arc::new(MemoryStorage::new());
    let whole = run(&storage);

    assert!(whole.is_complete && whole.acked == LAST, "{whole:?}");
    storage.change_count()
}

/// Opens twice and asserts that all acknowledged and nothing unknown is there, the same both times.
fn assert_recovers(storage: &Arc<MemoryStorage>, run: &Run, context: &str) {
    let (journal, mut recovered) = open(storage, SEGMENT_BYTES);
    let last = recovered.last_sequence;
    assert!(
        (run.acked..=run.appended).contains(&last),
        "{context}: {last} of {run:?}"
    );
    let records = replay(&mut recovered);
    drop(journal);
    let (journal, mut again) = open(storage, SEGMENT_BYTES);
    assert_eq!((last, None), (again.last_sequence, again.cut), "{context}");
    assert_eq!(recovered.snapshot, again.snapshot, "{context}");
    assert_eq!(records, replay(&mut again), "{context}");
    append(&journal, last + 1).expect("the journal goes on");
    let batch = journal.take_batch().expect("one record waits");
    assert_eq!(
        last + 1,
        journal.write_and_sync(batch).expect("the disk works"),
        "{context}"
    );
}

#[test]
fn any_failed_change_stops_the_journal_and_a_restart_recovers() {
    for change in 0..change_count_of_a_whole_run() {
        for fault in FAULTS {
            let storage = Arc::new(MemoryStorage::new());
            storage.fail_at(change, fault);
            let run = run(&storage);
            assert!(
                !run.is_complete || fault == Fault::Full,
                "change {change} {fault:?}: {run:?}"
            );
            if fault == Fault::PowerLoss {
                storage.crash_with(usize::MAX, &mut |_| lastunit_journal::testing::Fate::Lost);
            }
            assert_recovers(&storage, &run, &format!("change {change} {fault:?}"));
        }
    }
}

#[test]
fn any_failed_change_and_a_power_cut_after_it_lose_nothing_acknowledged() {
    let mut random = Random::new(seed_from_environment("JOURNAL_SEED", 1));
    for change in 0..change_count_of_a_whole_run() {
        for fault in FAULTS {
            for _ in 0..8 {
                let storage = Arc::new(MemoryStorage::new());
                storage.fail_at(change, fault);
                let run = run(&storage);
                storage.crash(&mut random);
                assert_recovers(&storage, &run, &format!("change {change} {fault:?}"));
            }
        }
    }
}

#[test]
fn what_the_next_process_builds_on_a_failed_change_survives_a_power_cut() {
    // Above all a segment whose name was seen, because only the sync of the directory had failed.
    for change in 0..change_count_of_a_whole_run() {
        for fault in FAULTS {
            let storage = Arc::new(MemoryStorage::new());
            storage.fail_at(change, fault);
            let _ = run(&storage);
            if fault == Fault::PowerLoss {
                storage.crash_with(usize::MAX, &mut |_| lastunit_journal::testing::Fate::Kept);
            }
            let (journal, recovered) = open(&storage, SEGMENT_BYTES);
            let mut last = recovered.last_sequence;
            // Into the segments that are there, without preparing another.
            while append(&journal, last + 1).is_ok() {
                let batch = journal.take_batch().expect("one record waits");
                last = journal.write_and_sync(batch).expect("the disk works");
            }
            assert!(last > recovered.last_sequence, "there is room");
            drop(journal);
            storage.crash_with(0, &mut |_| lastunit_journal::testing::Fate::Lost);
            let again = try_open(&storage, SEGMENT_BYTES);
            let (_, recovered) =
                again.unwrap_or_else(|error| panic!("{change} {fault:?}: {error}"));

            assert_eq!(last, recovered.last_sequence);
        }
    }
}

#[test]
fn failed_sync_that_the_next_process_cannot_see_is_made_good_before_it_serves() {
    // The first process dies of a failed sync: the bytes are in memory, the system holds them for
    // clean. The second reads them, so it must write them again: a sync alone would leave nothing
    // on the disk.
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    for sequence in 1..=3 {
        append(&journal, sequence).expect("there is room");
    }
    storage.fail_at(storage.change_count() + 1, Fault::Device);
    let batch = journal.take_batch().expect("three records wait");
    journal.write_and_sync(batch).expect_err("the sync fails");
    drop(journal);
    let (journal, recovered) = open(&storage, 4096);
    assert_eq!(3, recovered.last_sequence, "what can be read is kept");
    drop(journal);
    storage.crash_with(0, &mut |_| lastunit_journal::testing::Fate::Lost);
    let (_, mut recovered) = open(&storage, 4096);

    assert_eq!(3, replay(&mut recovered).len());
}

#[test]
fn power_cut_at_any_change_of_the_recovery_itself_changes_nothing() {
    let mut random = Random::new(seed_from_environment("JOURNAL_SEED", 2));
    for round in 0..60 {
        let torn = Arc::new(MemoryStorage::new());
        torn.fail_at(20 + round % 40, Fault::PowerLoss);
        let run = run(&torn);
        torn.crash(&mut random);
        let image = torn.image();
        let last = support::outcome(&image).expect("recovers");
        for change in 0.. {
            let storage = Arc::new(MemoryStorage::from_image(&image));
            storage.fail_at(change, Fault::PowerLoss);
            let is_open = try_open(&storage, SEGMENT_BYTES).is_ok();
            storage.crash(&mut random);
            let (_, recovered) = open(&storage, SEGMENT_BYTES);

            assert_eq!(
                last, recovered.last_sequence,
                "round {round} change {change} {run:?}"
            );
            if is_open {
                break;
            }
        }
    }
}

#[test]
fn poison_names_the_first_failure_and_only_that() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = Journal::open(storage.clone(), small(4096)).expect("opens");
    append(&journal, 1).expect("there is room");
    storage.fail_at(storage.change_count(), Fault::Short);
    let batch = journal.take_batch().expect("one record waits");
    let error = journal.write_and_sync(batch).expect_err("short");

    assert!(
        error
            .to_string()
            .contains("cannot write segment-0000000001.journal"),
        "{error}"
    );
    assert!(journal.poison().expect("stopped").contains("short write"));
    let error = append(&journal, 2).expect_err("stopped").to_string();
    assert!(
        error.contains("short write") && error.contains("restart"),
        "{error}"
    );
    assert!(
        journal
            .reader()
            .read_after(0, 10)
            .expect("reading goes on")
            .is_empty()
    );
}
