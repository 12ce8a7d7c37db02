//! Rolling to the next segment, limits of records and batches, and what happens when space runs
//! out.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::MemoryStorage;
use lastunit_journal::{Journal, JournalOptions, RecordInput, limits};
use support::{append, flush, open, replay, small, write_all};

/// Header, epoch record, end record: what a first segment of minimal length holds beside records.
const AROUND_BYTES: usize = 3 * limits::SLOT_BYTES as usize;

fn input(sequence: i64, body: &[u8]) -> RecordInput<'_> {
    RecordInput {
        first_sequence: sequence,
        event_count: 1,
        time_ms: 0,
        body,
    }
}

fn segment_count(storage: &MemoryStorage) -> usize {
    storage
        .image()
        .keys()
        .filter(|name| name.starts_with("segment-"))
        .count()
}

#[test]
fn record_that_fills_the_segment_exactly_stays_in_it_and_one_slot_more_rolls() {
    let left = limits::SEGMENT_BYTES_MIN as usize - AROUND_BYTES - limits::SLOT_BYTES as usize;
    for (length, segment) in [(left - 64, 1), (left - 1, 1), (left, 1), (left + 1, 2)] {
        let storage = Arc::new(MemoryStorage::new());
        let (journal, _) = open(&storage, limits::SEGMENT_BYTES_MIN);
        let body = vec![7; length];
        if length > left {
            // Too long for any segment beside the epoch record: the longest that fits an empty one.
            journal
                .append(input(1, &body))
                .expect("it fits the next segment");
        } else {
            journal.append(input(1, &body)).expect("it fits");
        }
        write_all(&journal);
        let records = journal.reader().read_after(0, 1).expect("readable");

        assert_eq!(
            (segment, &body),
            (records[0].position.segment, &records[0].body),
            "{length}"
        );
        drop(journal);
        let (journal, mut recovered) = open(&storage, limits::SEGMENT_BYTES_MIN);
        let found: Vec<_> = recovered
            .records
            .by_ref()
            .collect::<Result<_, _>>()
            .expect("whole");
        assert_eq!(body, found[0].body);
        journal
            .append(input(2, b"next"))
            .expect("the journal goes on");
        write_all(&journal);
        assert_eq!(2, journal.durable_sequence());
    }
}

#[test]
fn journals_over_many_segments_of_many_lengths_come_back_whole() {
    for segment_bytes in (1024..=2048).step_by(64) {
        let storage = Arc::new(MemoryStorage::new());
        let (journal, _) = open(&storage, segment_bytes);
        for group in 0..20 {
            flush(&journal, group * 5 + 1..=group * 5 + 5);
        }
        let read = journal.reader().read_after(0, 1000).expect("readable");
        drop(journal);
        let (_, mut recovered) = open(&storage, segment_bytes);

        assert_eq!(read, replay(&mut recovered));
        assert_eq!(100, read.len());
        assert!(segment_count(&storage) > 5);
    }
}

#[test]
fn group_over_two_segments_is_flushed_as_one_batch() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 1024);
    let body = [1; 64];
    let mut count = 0;
    while journal.append(input(count + 1, &body)).is_ok() {
        count += 1;
    }
    let batch = journal.take_batch().expect("records wait");

    assert_eq!(count, journal.write_and_sync(batch).expect("works"));
    let records = journal.reader().read_after(0, 100).expect("readable");
    assert_eq!(
        (1, 2),
        (
            records[0].position.segment,
            records.last().expect("some").position.segment
        )
    );
}

#[test]
fn segment_length_may_change_from_opening_to_opening() {
    let storage = Arc::new(MemoryStorage::new());
    let mut next = 1;
    for segment_bytes in [1024, 4096, 1100, 8192] {
        let (journal, mut recovered) = open(&storage, segment_bytes);
        replay(&mut recovered);
        flush(&journal, next..=next + 30);
        next += 31;
    }
    let (_, mut recovered) = open(&storage, 1024);

    assert_eq!(124, replay(&mut recovered).len());
}

#[test]
fn longest_record_fits_an_empty_segment_and_one_byte_more_never_will() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    let longest = 4096 - AROUND_BYTES;

    journal
        .append(input(1, &vec![1; longest]))
        .expect("it fits an empty segment");
    let error = journal
        .append(input(2, &vec![1; longest + 1]))
        .expect_err("it never fits");
    assert_eq!("JOURNAL_RECORD_TOO_LARGE", error.reason());
}

#[test]
fn record_at_its_limit_is_taken_and_one_byte_more_is_refused() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 2 * limits::RECORD_BODY_BYTES_MAX);
    let body = vec![3; limits::RECORD_BODY_BYTES_MAX as usize + 1];

    let error = journal
        .append(input(1, &body))
        .expect_err("one byte too many");
    assert_eq!("JOURNAL_RECORD_TOO_LARGE", error.reason());
    journal
        .append(input(1, &body[1..]))
        .expect("the limit itself");
    write_all(&journal);
    drop(journal);
    let (_, mut recovered) = open(&storage, limits::SEGMENT_BYTES_DEFAULT);
    let record = recovered
        .records
        .next()
        .expect("one record")
        .expect("whole");
    assert_eq!(body.len() - 1, record.body.len());
}

#[test]
fn batch_at_its_limit_is_taken_and_one_slot_more_waits_for_the_flush() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4 * limits::BATCH_BYTES_MAX);
    let quarter = vec![4; (limits::BATCH_BYTES_MAX / 4 - limits::SLOT_BYTES) as usize];
    for sequence in 1..=4 {
        journal
            .append(input(sequence, &quarter))
            .expect("four quarters make the limit");
    }

    assert_eq!(
        "JOURNAL_BATCH_FULL",
        journal.append(input(5, b"")).expect_err("full").reason()
    );
    assert_eq!(4, journal.appended_sequence());
    write_all(&journal);
    journal
        .append(input(5, b""))
        .expect("there is room after the flush");
}

#[test]
fn full_disk_lets_the_journal_use_what_it_has_and_then_refuses_without_poison() {
    let storage = Arc::new(MemoryStorage::new());
    let options = JournalOptions {
        reserve_bytes: 700,
        ..small(1024)
    };
    let (journal, _) = Journal::open(storage.clone(), options).expect("opens");
    storage.set_capacity(Some(0));
    let (mut low_at, mut full_at) = (0, 0);
    for sequence in 1..100 {
        if journal.is_preparation_due() {
            let error = journal.prepare_segment().expect_err("the disk is full");
            assert_eq!("JOURNAL_STORAGE", error.reason());
        }
        if low_at == 0 && journal.is_space_low() {
            low_at = sequence;
        }
        if let Err(error) = append(&journal, sequence) {
            assert_eq!("JOURNAL_SPACE", error.reason());
            full_at = sequence;
            break;
        }
        write_all(&journal);
    }

    assert!(
        1 < low_at && low_at < full_at,
        "low at {low_at}, full at {full_at}"
    );
    assert_eq!(None, journal.poison());
    storage.set_capacity(None);
    journal
        .prepare_segment()
        .expect("there is room on the disk again");
    assert_eq!(full_at, flush(&journal, full_at..=full_at));
}

#[test]
fn space_is_low_exactly_when_less_than_the_reserve_is_left() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    journal.set_reserve_bytes(journal.free_bytes());
    assert!(!journal.is_space_low());
    journal.append(input(1, b"")).expect("there is room");

    assert!(journal.is_space_low());
    journal.set_reserve_bytes(journal.free_bytes());
    assert!(!journal.is_space_low());
}

#[test]
fn larger_reserve_has_more_segments_prepared() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    journal.set_reserve_bytes(20_000);
    while journal.is_preparation_due() {
        journal
            .prepare_segment()
            .expect("there is room on the disk");
    }

    assert!(!journal.is_space_low());
    assert_eq!(1 + 6, segment_count(&storage));
    drop(journal);
    let (journal, _) = open(&storage, 4096);
    assert_eq!(
        7,
        segment_count(&storage),
        "prepared segments are used again"
    );
    flush(&journal, 1..=100);
}

#[test]
fn journal_opens_on_a_full_disk_with_the_segments_it_has() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    flush(&journal, 1..=40);
    drop(journal);
    storage.set_capacity(Some(0));
    let (journal, mut recovered) = open(&storage, 4096);

    assert_eq!(40, replay(&mut recovered).len());
    assert_eq!(41, flush(&journal, 41..=41));
}
