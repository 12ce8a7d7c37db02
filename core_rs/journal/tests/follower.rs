//! Looking at a journal that is being written, and at how it was earlier.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Fate, MemoryStorage};
use lastunit_journal::{Follower, Journal, Storage, inspect_as_of};
use support::{append, check, flush, open, replay};

const SEGMENT_BYTES: u32 = 1024;

fn follow(storage: &Arc<MemoryStorage>) -> Follower {
    Follower::open(Arc::clone(storage) as Arc<dyn Storage>).expect("readable")
}

/// What the follower shows after a sequence, checked; gives the last event.
fn read(follower: &Follower, after: i64) -> i64 {
    let records = follower.reader().read_after(after, 1_000).expect("whole");
    check(&records, after);
    let last = records.last().map_or(after, |record| record.first_sequence);
    assert_eq!(follower.reader().durable_sequence().max(after), last);
    last
}

#[test]
fn event_is_shown_once_a_later_record_proves_it() {
    let storage = Arc::new(MemoryStorage::new());
    let mut follower = follow(&storage);
    assert!(!follower.refresh().expect("an empty directory is no error"));
    let (journal, _) = open(&storage, 4 * SEGMENT_BYTES);
    assert_eq!(0, read(&follow(&storage), 0));

    flush(&journal, 1..=3);
    follower.refresh().expect("readable");
    assert_eq!(0, read(&follower, 0), "the last group is not proven yet");

    flush(&journal, 4..=5);
    assert!(follower.refresh().expect("readable"));
    assert_eq!(3, read(&follower, 0));

    journal.seal(9).expect("works");
    assert!(follower.refresh().expect("readable"));
    assert_eq!(5, read(&follower, 3));
    assert_eq!(1, follower.epoch());
}

#[test]
fn follower_goes_along_through_segments_snapshots_and_removals() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    let mut follower = follow(&storage);
    let mut last = 0;
    for group in 0..30 {
        let end = flush(&journal, group * 4 + 1..=group * 4 + 4);
        if group % 5 == 4 {
            journal.write_snapshot(end, b"state").expect("works");
        }
        while let Some(segment) = journal.removable_segment().expect("readable") {
            journal.remove_segment(segment).expect("works");
        }
        follower.refresh().expect("readable");
        last = read(&follower, last);
        assert!(last >= end - 4);
    }
    let error = follower
        .reader()
        .read_after(0, 1)
        .expect_err("removed long ago");
    assert_eq!("EVENTS_REMOVED", error.reason());
    let first = follower.reader().first_sequence().expect("readable");
    assert_eq!(first, journal.reader().first_sequence().expect("readable"));
    let end = read(&follow(&storage), first - 1);
    assert_eq!(120, end, "the last snapshot proves what it ends with");
}

#[test]
fn tail_that_a_crash_takes_back_was_never_shown() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    flush(&journal, 1..=3);
    flush(&journal, 4..=6);
    let mut follower = follow(&storage);
    append(&journal, 7).expect("works");
    write_unsynced(&storage, &journal);
    follower.refresh().expect("readable");
    let shown = read(&follower, 0);

    storage.crash_with(9, &mut |_| Fate::Lost);
    let (journal, mut recovered) = open(&storage, SEGMENT_BYTES);
    replay(&mut recovered);
    assert!(shown <= recovered.last_sequence);
    flush(&journal, recovered.last_sequence + 1..=20);
    journal.seal(30).expect("works");
    follower.refresh().expect("readable");
    assert_eq!(20, read(&follower, shown));
    assert_eq!(2, follower.epoch());
}

/// Writes the open batch and loses the power before it is synced.
fn write_unsynced(storage: &MemoryStorage, journal: &Journal) {
    let change = storage.change_count() + 1;
    storage.fail_at(change, lastunit_journal::testing::Fault::Device);
    let batch = journal.take_batch().expect("one record waits");
    journal.write_and_sync(batch).expect_err("the sync fails");
}

#[test]
fn earlier_state_is_the_latest_snapshot_before_it_and_the_records_up_to_it() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    flush(&journal, 1..=10);
    journal.write_snapshot(10, b"state").expect("works");
    flush(&journal, 11..=30);
    journal.write_snapshot(30, b"state").expect("works");
    flush(&journal, 31..=40);
    let as_of = |sequence| inspect_as_of(Arc::clone(&storage) as Arc<dyn Storage>, sequence);
    for sequence in 0..=50_i64 {
        let mut recovered = as_of(sequence).expect("everything is there");
        replay(&mut recovered);
        let expected = [0, 10, 30].into_iter().rev().find(|it| *it <= sequence);
        let from = recovered.snapshot.map_or(0, |snapshot| snapshot.sequence);

        assert_eq!(sequence.min(40), recovered.last_sequence);
        assert_eq!(expected, Some(from));
    }
    while let Some(segment) = journal.removable_segment().expect("readable") {
        journal.remove_segment(segment).expect("works");
    }
    let error = as_of(9).expect_err("its events were removed");
    assert_eq!("EVENTS_REMOVED", error.reason());
    assert!(error.to_string().contains("10"), "{error}");
    assert_eq!(
        12,
        as_of(12).expect("the older snapshot serves").last_sequence
    );
}
