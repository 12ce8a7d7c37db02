//! Appending, flushing, reopening: what goes in comes out, and what must not go in does not.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::MemoryStorage;
use lastunit_journal::{Journal, JournalError, JournalOptions, RecordInput, limits};
use support::{append, flush, open, replay, small, try_open, write_all};

const SEGMENT_BYTES: u32 = 4096;

#[test]
fn new_journal_is_empty_and_in_its_first_epoch() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, mut recovered) = open(&storage, SEGMENT_BYTES);

    assert_eq!((1, 0), (recovered.epoch, recovered.last_sequence));
    assert_eq!(i64::MIN, recovered.last_time_ms);
    assert!(recovered.snapshot.is_none() && recovered.cut.is_none() && recovered.notes.is_empty());
    assert!(replay(&mut recovered).is_empty());
    assert_eq!(
        (0, 0, 1),
        (
            journal.durable_sequence(),
            journal.appended_sequence(),
            journal.epoch()
        )
    );
}

#[test]
fn openings_of_one_state_take_different_epochs() {
    let storage = Arc::new(MemoryStorage::new());
    drop(open(&storage, SEGMENT_BYTES));
    let image = storage.image();
    let options = JournalOptions {
        epoch_step: None,
        ..small(SEGMENT_BYTES)
    };
    let epochs: std::collections::BTreeSet<i64> = (0..8)
        .map(|_| {
            let copy = Arc::new(MemoryStorage::from_image(&image));
            let (journal, _) = Journal::open(copy, options.clone()).expect("the journal opens");
            journal.epoch()
        })
        .collect();

    // Two of eight agree once in about 2,300 runs; six of them never do.
    assert!(epochs.len() >= 3, "{epochs:?}");
    assert!(
        epochs.iter().all(|epoch| (2..=65_536).contains(epoch)),
        "{epochs:?}"
    );
}

#[test]
fn flushed_records_come_back_and_each_opening_raises_the_epoch() {
    let storage = Arc::new(MemoryStorage::new());
    for opening in 1..=4 {
        let (journal, mut recovered) = open(&storage, SEGMENT_BYTES);
        let before = (opening - 1) * 10;

        assert_eq!(opening, recovered.epoch);
        assert_eq!(
            before,
            i64::try_from(replay(&mut recovered).len()).expect("few")
        );
        assert_eq!(before + 10, flush(&journal, before + 1..=before + 10));
    }
}

#[test]
fn appended_records_are_neither_durable_nor_readable_before_the_flush() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    append(&journal, 1).expect("there is room");
    let batch = journal.take_batch().expect("one record waits");

    assert_eq!((1, Some(1)), (batch.record_count(), batch.last_sequence()));
    assert_eq!(
        (0, 1),
        (journal.durable_sequence(), journal.appended_sequence())
    );
    assert!(
        journal
            .reader()
            .read_after(0, 10)
            .expect("readable")
            .is_empty()
    );
    assert_eq!(1, journal.write_and_sync(batch).expect("the disk works"));
    assert_eq!(
        1,
        journal.reader().read_after(0, 10).expect("readable").len()
    );
    assert!(journal.take_batch().is_none());
}

#[test]
fn record_of_many_events_takes_as_many_sequences() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    let input = RecordInput {
        first_sequence: 1,
        event_count: 5,
        time_ms: 9,
        body: b"five",
    };
    journal.append(input).expect("there is room");
    journal
        .append(RecordInput {
            first_sequence: 6,
            ..input
        })
        .expect("it continues");
    write_all(&journal);
    drop(journal);
    let (journal, recovered) = open(&storage, SEGMENT_BYTES);

    assert_eq!((10, 9), (recovered.last_sequence, recovered.last_time_ms));
    for (after, first, count) in [(0, 1, 2), (4, 1, 2), (5, 6, 1), (9, 6, 1)] {
        let records = journal.reader().read_after(after, 10).expect("readable");

        assert_eq!(
            (first, count),
            (records[0].first_sequence, records.len()),
            "after {after}"
        );
    }
}

#[test]
fn record_that_does_not_continue_the_journal_is_refused_and_changes_nothing() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    flush(&journal, 1..=1);
    let input = RecordInput {
        first_sequence: 2,
        event_count: 1,
        time_ms: 1,
        body: b"",
    };
    let refused = |input| journal.append(input).expect_err("it is wrong").reason();

    assert_eq!(
        "JOURNAL_SEQUENCE_GAP",
        refused(RecordInput {
            first_sequence: 3,
            ..input
        })
    );
    assert_eq!(
        "JOURNAL_SEQUENCE_GAP",
        refused(RecordInput {
            first_sequence: 1,
            ..input
        })
    );
    assert_eq!(
        "JOURNAL_TIME_WENT_BACK",
        refused(RecordInput {
            time_ms: 0,
            ..input
        })
    );
    assert_eq!(
        "JOURNAL_EVENT_COUNT",
        refused(RecordInput {
            event_count: 0,
            ..input
        })
    );
    let past = limits::RECORD_EVENT_COUNT_MAX + 1;
    assert_eq!(
        "JOURNAL_EVENT_COUNT",
        refused(RecordInput {
            event_count: past,
            ..input
        })
    );
    assert_eq!(1, journal.appended_sequence());
    assert!(journal.take_batch().is_none());
    let most = RecordInput {
        event_count: limits::RECORD_EVENT_COUNT_MAX,
        ..input
    };
    journal.append(most).expect("the limit itself is allowed");
}

#[test]
fn time_of_the_opening_never_goes_behind_the_last_record() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    flush(&journal, 1..=50);
    drop(journal);
    let (journal, recovered) = open(&storage, SEGMENT_BYTES);

    assert_eq!(50, recovered.last_time_ms);
    let input = RecordInput {
        first_sequence: 51,
        event_count: 1,
        time_ms: 49,
        body: b"",
    };
    assert_eq!(
        "JOURNAL_TIME_WENT_BACK",
        journal.append(input).expect_err("early").reason()
    );
}

#[test]
fn seal_is_written_once_when_idle_and_never_under_way() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);

    assert!(
        !journal.seal(0).expect("works"),
        "the epoch record is as good as a seal"
    );
    append(&journal, 1).expect("there is room");
    assert!(!journal.seal(0).expect("works"), "a record waits");
    let batch = journal.take_batch().expect("one record waits");
    assert!(
        !journal.seal(0).expect("works"),
        "a batch is taken and not written"
    );
    journal.write_and_sync(batch).expect("works");
    assert!(journal.seal(500).expect("works"));
    assert!(!journal.seal(900).expect("works"), "it is sealed");
    drop(journal);
    let (_, recovered) = open(&storage, SEGMENT_BYTES);
    assert_eq!((1, 500), (recovered.last_sequence, recovered.last_time_ms));
}

#[test]
fn batches_out_of_order_poison_the_journal() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    append(&journal, 1).expect("there is room");
    let _dropped = journal.take_batch().expect("one record waits");
    append(&journal, 2).expect("there is room");
    let second = journal.take_batch().expect("one record waits");
    let error = journal
        .write_and_sync(second)
        .expect_err("the first one is missing");

    assert!(matches!(error, JournalError::BatchOrder { .. }), "{error}");
    assert_eq!(
        "JOURNAL_POISONED",
        append(&journal, 3).expect_err("stopped").reason()
    );
}

#[test]
fn options_out_of_range_are_refused_before_a_file_is_made() {
    let storage = Arc::new(MemoryStorage::new());
    let error = try_open(&storage, limits::SEGMENT_BYTES_MIN - 1).expect_err("too small");

    assert_eq!("JOURNAL_OPTION", error.reason());
    assert!(storage.image().is_empty());
}

#[test]
fn journals_get_different_identities_unless_told() {
    let images: Vec<_> = (0..2)
        .map(|_| {
            let storage = Arc::new(MemoryStorage::new());
            let options = JournalOptions {
                journal_id: None,
                ..small(4096)
            };
            Journal::open(storage.clone(), options).expect("opens");
            storage.image()
        })
        .collect();

    assert_ne!(images[0], images[1]);
}
