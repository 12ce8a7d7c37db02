//! Old segments: removed only when recovery can do without them, and never leaving a gap.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Fault, Image, MemoryStorage};
use lastunit_journal::{Journal, JournalError, verify};
use support::{check, flush, open, replay, try_open};

const SEGMENT_BYTES: u32 = 1024;

/// Sixty records in small segments, with snapshots after 20, 40 and 50.
fn with_history() -> (Arc<MemoryStorage>, Journal) {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    for group in 0..12 {
        flush(&journal, group * 5 + 1..=group * 5 + 5);
        if [3, 7, 9].contains(&group) {
            let sequence = group * 5 + 5;
            journal.write_snapshot(sequence, b"state").expect("works");
        }
    }
    (storage, journal)
}

fn remove_all(journal: &Journal) -> Vec<u32> {
    let mut removed = Vec::new();
    while let Some(segment) = journal.removable_segment().expect("readable") {
        journal.remove_segment(segment).expect("works");
        removed.push(segment.number);
    }
    removed
}

fn segments(image: &Image) -> Vec<String> {
    let names = image.keys().filter(|name| name.starts_with("segment-"));
    names.cloned().collect()
}

#[test]
fn segments_before_the_older_snapshot_go_and_everything_after_it_stays() {
    let (storage, journal) = with_history();
    let before = segments(&storage.image()).len();
    let bytes = journal.total_bytes();
    let removed = remove_all(&journal);

    assert!(removed.len() > 2, "{removed:?}");
    assert!(
        removed
            .iter()
            .zip(1..)
            .all(|(number, expected)| *number == expected)
    );
    let left = segments(&storage.image()).len();
    assert_eq!(before - removed.len(), left);
    let freed = u64::from(SEGMENT_BYTES) * removed.len() as u64;
    assert_eq!(bytes - freed, journal.total_bytes());
    let first = journal.reader().first_sequence().expect("readable");
    assert!(
        first > 1 && first <= 41,
        "the record of 40 must stay: {first}"
    );
    let records = journal
        .reader()
        .read_after(first - 1, 100)
        .expect("readable");
    check(&records, first - 1);
    assert_eq!(Some(60), records.last().map(|record| record.first_sequence));
}

#[test]
fn readers_that_come_too_late_are_told_where_the_journal_starts() {
    let (_storage, journal) = with_history();
    remove_all(&journal);
    let first = journal.reader().first_sequence().expect("readable");
    for after in 0..first - 1 {
        let error = journal.reader().read_after(after, 10).expect_err("gone");

        assert_eq!("EVENTS_REMOVED", error.reason());
        assert!(
            matches!(error, JournalError::Removed { after_sequence, first_sequence }
                if after_sequence == after && first_sequence == first),
            "{error}"
        );
    }
}

#[test]
fn nothing_is_removed_without_two_whole_snapshots() {
    let (storage, journal) = with_history();
    let mut image = storage.image();
    drop(journal);
    let snapshots: Vec<_> = image
        .keys()
        .filter(|name| name.starts_with("snapshot-"))
        .cloned()
        .collect();
    assert_eq!(2, snapshots.len());
    let damaged = image.get_mut(&snapshots[0]).expect("there");
    damaged[66] ^= 1;
    let (journal, _) = open(&Arc::new(MemoryStorage::from_image(&image)), SEGMENT_BYTES);
    let error = journal
        .removable_segment()
        .expect_err("not to be relied on");
    assert_eq!("JOURNAL_DAMAGED", error.reason());

    image.remove(&snapshots[0]);
    let (journal, _) = open(&Arc::new(MemoryStorage::from_image(&image)), SEGMENT_BYTES);
    assert_eq!(None, journal.removable_segment().expect("readable"));
}

#[test]
fn journal_without_its_first_segments_opens_from_either_snapshot() {
    let (storage, journal) = with_history();
    remove_all(&journal);
    drop(journal);
    let image = storage.image();
    let newest = image
        .keys()
        .rfind(|name| name.starts_with("snapshot-"))
        .expect("there")
        .clone();
    for (is_damaged, expected) in [(false, 50), (true, 40)] {
        let storage = Arc::new(MemoryStorage::from_image(&image));
        if is_damaged {
            storage.corrupt(&newest, |bytes| bytes[66] ^= 1);
        }
        let (journal, mut recovered) = open(&storage, SEGMENT_BYTES);
        let from = recovered.snapshot.as_ref().map(|it| it.sequence);
        let replayed = replay(&mut recovered).len();

        assert_eq!(
            (Some(expected), 60 - expected),
            (from, i64::try_from(replayed).expect("few"))
        );
        assert_eq!(65, flush(&journal, 61..=65));
        assert_eq!(storage.image().len(), {
            let report = verify(&*storage).expect("readable");
            assert_eq!(usize::from(is_damaged), report.problems.len(), "{report:?}");
            assert_eq!(65, report.last_sequence);
            storage.image().len()
        });
    }
}

#[test]
fn first_segments_that_are_gone_without_a_snapshot_are_refused() {
    let (storage, journal) = with_history();
    remove_all(&journal);
    drop(journal);
    let mut image = storage.image();
    image.retain(|name, _| !name.starts_with("snapshot-"));
    let storage = Arc::new(MemoryStorage::from_image(&image));
    let error = try_open(&storage, SEGMENT_BYTES).expect_err("the state is gone");

    assert_eq!("JOURNAL_DAMAGED", error.reason());
    assert!(error.to_string().contains("no snapshot"), "{error}");
    assert_eq!(image, storage.image(), "nothing was changed");
}

#[test]
fn power_lost_at_any_step_of_a_removal_costs_nothing() {
    let (_, journal) = with_history();
    let steps = 2 * remove_all(&journal).len() as u64;
    for step in 0..steps {
        for kept_names in 0..2 {
            let (storage, journal) = with_history();
            storage.fail_at(storage.change_count() + step, Fault::PowerLoss);
            let outcome = loop {
                match journal.removable_segment() {
                    Ok(Some(segment)) => {
                        if let Err(error) = journal.remove_segment(segment) {
                            break error;
                        }
                    }
                    other => panic!("the power goes first: {other:?}"),
                }
            };
            assert_eq!("JOURNAL_STORAGE", outcome.reason());
            assert!(journal.poison().is_some());
            storage.crash_with(kept_names, &mut |_| lastunit_journal::testing::Fate::Lost);
            let (_, mut recovered) = open(&storage, SEGMENT_BYTES);
            replay(&mut recovered);

            assert_eq!(
                60, recovered.last_sequence,
                "step {step}, {kept_names} names kept"
            );
        }
    }
}
