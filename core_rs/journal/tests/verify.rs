//! The check at rest: it finds what is wrong, goes on behind it, and writes nothing.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Image, MemoryStorage};
use lastunit_journal::{VerifyReport, verify};
use support::{flush, image_of, open};

fn report(image: &Image) -> VerifyReport {
    let storage = MemoryStorage::from_image(image);
    let report = verify(&storage).expect("readable");
    assert_eq!(0, storage.change_count());
    report
}

#[test]
fn whole_journal_is_counted_and_has_no_problem() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 1024);
    flush(&journal, 1..=20);
    journal.write_snapshot(20, b"state").expect("works");
    flush(&journal, 21..=25);
    let report = report(&storage.image());

    assert_eq!(
        (25, 25, 1),
        (report.record_count, report.last_sequence, report.epoch)
    );
    assert_eq!((vec![20], None), (report.snapshot_sequences, report.cut));
    assert!(report.problems.is_empty() && report.segment_count > 3);
}

#[test]
fn empty_directory_is_whole() {
    assert_eq!(VerifyReport::default(), report(&Image::new()));
}

#[test]
fn each_damaged_record_is_named_and_those_behind_it_are_counted() {
    let image = image_of(4096, 10, 2, true);
    let whole = report(&image);
    let mut damaged = image.clone();
    let name = "segment-0000000001.journal";
    let records = record_places(&image);
    for place in [records[3], records[11]] {
        damaged.get_mut(name).expect("there")[place + 20] ^= 4;
    }
    let report = report(&damaged);

    let places: Vec<_> = report
        .problems
        .iter()
        .map(|problem| problem.offset)
        .collect();
    assert_eq!(vec![records[3] as u64, records[11] as u64], places);
    assert!(report.problems.iter().all(|problem| problem.file == name));
    assert_eq!(
        (whole.record_count - 2, 3),
        (report.record_count, report.last_sequence)
    );
}

/// Where the records with events start in the first segment.
fn record_places(image: &Image) -> Vec<usize> {
    let storage = Arc::new(MemoryStorage::from_image(image));
    let recovered = lastunit_journal::inspect(storage).expect("whole");
    let records = recovered.reader().read_after(0, usize::MAX).expect("whole");
    let first = records.iter().filter(|record| record.position.segment == 1);
    first
        .map(|record| record.position.offset as usize)
        .collect()
}

#[test]
fn snapshot_that_is_damaged_or_has_lost_its_record_is_named() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    flush(&journal, 1..=5);
    journal.write_snapshot(5, b"state").expect("works");
    flush(&journal, 6..=9);
    journal.write_snapshot(9, b"state").expect("works");
    let mut image = storage.image();
    let names: Vec<_> = image
        .keys()
        .filter(|name| name.starts_with("snapshot-"))
        .cloned()
        .collect();
    image.get_mut(&names[0]).expect("there")[66] ^= 1;
    let first = report(&image);
    assert_eq!(
        (vec![9], &names[0]),
        (first.snapshot_sequences, &first.problems[0].file)
    );

    let lost = record_places(&storage.image())[8];
    image.get_mut("segment-0000000001.journal").expect("there")[lost..].fill(0);
    let second = report(&image);
    assert!(second.snapshot_sequences.is_empty());
    assert_eq!(2, second.problems.len(), "{:?}", second.problems);
}

#[test]
fn missing_segment_and_unfinished_tail_are_told_apart() {
    let mut image = image_of(1024, 10, 2, false);
    let torn = image.keys().rev().nth(1).expect("in use").clone();
    let used = image[&torn]
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("in use");
    image.get_mut(&torn).expect("there")[used] ^= 1;
    let tail = report(&image);
    assert!(tail.cut.is_some() && tail.problems.is_empty(), "{tail:?}");

    image.remove("segment-0000000002.journal");
    let missing = report(&image);
    assert!(missing.problems[0].text.contains("missing"), "{missing:?}");
}
