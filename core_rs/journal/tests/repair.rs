//! Saving what a damaged journal still holds: a copy elsewhere, never a change in place.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Image, MemoryStorage};
use lastunit_journal::{JournalError, Salvage, repair_copy, verify, verify_with};
use support::{flush, image_of, open, replay};

const SEGMENT_BYTES: u32 = 1024;

/// Sixty records in small segments, snapshots after 20 and 40.
fn image_with_snapshots() -> Image {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, SEGMENT_BYTES);
    for group in 0..12 {
        flush(&journal, group * 5 + 1..=group * 5 + 5);
        if group == 3 || group == 7 {
            let sequence = group * 5 + 5;
            journal.write_snapshot(sequence, b"state").expect("works");
        }
    }
    journal.seal(0).expect("works");
    drop(journal);
    storage.image()
}

/// Repairs a copy of the image, opens it and reads it; gives what was saved.
fn repaired(image: &Image) -> Result<Salvage, JournalError> {
    let source = MemoryStorage::from_image(image);
    let target = Arc::new(MemoryStorage::new());
    let (report, copied) = repair_copy(&source, &*target)?;
    assert_eq!(
        *image,
        source.image(),
        "the damaged directory stays as it was"
    );
    assert_eq!(0, source.change_count());
    let salvage = report.salvage.expect("something was copied");
    let (journal, mut recovered) = open(&target, SEGMENT_BYTES);
    replay(&mut recovered);
    assert_eq!(salvage.last_sequence, recovered.last_sequence);
    assert_eq!(
        salvage.last_sequence,
        copied.last_sequence.max(salvage.last_sequence)
    );
    let next = salvage.last_sequence + 1;
    assert_eq!(
        next + 4,
        flush(&journal, next..=next + 4),
        "the copy goes on"
    );
    Ok(salvage)
}

#[test]
fn whole_journal_is_copied_whole() {
    let salvage = repaired(&image_with_snapshots()).expect("whole");

    assert_eq!((60, 0), (salvage.last_sequence, salvage.lost_event_count));
    assert_eq!(Some(40), salvage.snapshot_sequence);
}

#[test]
fn damage_anywhere_leaves_a_copy_that_opens_and_says_what_is_lost() {
    let image = image_with_snapshots();
    let source = MemoryStorage::from_image(&image);
    let last_witness = last_segment_before(&source, 40);
    for (name, bytes) in image
        .iter()
        .filter(|(name, _)| name.starts_with("segment-"))
    {
        for place in (0..bytes.len()).step_by(48) {
            let mut damaged = image.clone();
            damaged.get_mut(name).expect("there")[place] ^= 0x10;
            let source = MemoryStorage::from_image(&damaged);
            let report = verify(&source).expect("readable");
            let salvage = repaired(&damaged).expect("a state is always there");
            let lost = salvage.lost_event_count;

            assert!(
                lost >= 0 && salvage.last_sequence + lost <= 60,
                "{name} {place}"
            );
            if report.problems.is_empty() && report.cut.is_none() {
                assert_eq!((60, 0), (salvage.last_sequence, lost), "{name} {place}");
            }
            if name.as_str() < last_witness.as_str() {
                // The snapshot of 40 stands behind the damage, so no state is lost.
                assert_eq!(60, salvage.last_sequence, "{name} {place}");
            }
        }
    }
}

/// The segment that holds the record with an event.
fn last_segment_before(storage: &MemoryStorage, sequence: i64) -> String {
    let storage = Arc::new(MemoryStorage::from_image(&storage.image()));
    let recovered = lastunit_journal::inspect(storage).expect("whole");
    let records = recovered
        .reader()
        .read_after(sequence - 1, 1)
        .expect("there");
    format!("segment-{:010}.journal", records[0].position.segment)
}

#[test]
fn damage_without_a_snapshot_costs_everything_behind_it() {
    let image = image_of(SEGMENT_BYTES, 10, 2, true);
    let mut damaged = image.clone();
    damaged
        .get_mut("segment-0000000002.journal")
        .expect("there")[70] ^= 1;
    let salvage = repaired(&damaged).expect("the first segment is whole");

    assert!((1..20).contains(&salvage.last_sequence), "{salvage:?}");
    assert_eq!(20, salvage.last_sequence + salvage.lost_event_count);
    assert_eq!(None, salvage.snapshot_sequence);

    damaged.remove("segment-0000000001.journal");
    let error = repaired(&damaged).expect_err("no state leads to what is left");
    assert!(error.to_string().contains("no state"), "{error}");
}

#[test]
fn cut_and_missing_segments_are_saved_around() {
    let image = image_with_snapshots();
    let mut cut = image.clone();
    cut.get_mut("segment-0000000002.journal")
        .expect("there")
        .truncate(512);
    let salvage = repaired(&cut).expect("the snapshot stands behind");
    assert_eq!(
        (60, Some(40)),
        (salvage.last_sequence, salvage.snapshot_sequence)
    );

    let mut missing = image;
    missing.remove("segment-0000000002.journal");
    missing.retain(|name, _| !name.starts_with("snapshot-"));
    let salvage = repaired(&missing).expect("the first segment is whole");
    let report = verify(&MemoryStorage::from_image(&missing)).expect("readable");
    assert_eq!(report.last_sequence, salvage.last_sequence);
    assert!(report.problems[0].text.contains("missing"), "{report:?}");
}

#[test]
fn target_that_holds_files_is_refused() {
    let source = MemoryStorage::from_image(&image_with_snapshots());
    let target = MemoryStorage::from_image(&Image::from([("letter".to_owned(), vec![1])]));
    let error = repair_copy(&source, &target).expect_err("somebody's files");

    assert!(error.to_string().contains("empty directory"), "{error}");
    assert_eq!(0, target.change_count());
}

#[test]
fn bodies_that_mean_nothing_are_named_by_place() {
    let image = image_with_snapshots();
    let storage = MemoryStorage::from_image(&image);
    let report = verify_with(&storage, &mut |sequence, body| {
        assert_eq!(support::body(sequence), body);
        if sequence % 20 == 7 {
            return Err(format!("{sequence} is not liked"));
        }
        Ok(())
    })
    .expect("readable");

    assert_eq!(3, report.problems.len());
    assert!(report.problems[1].text.contains("27 is not liked"));
    assert_eq!(
        (1, 60, 60),
        (
            report.first_sequence,
            report.last_sequence,
            report.record_count
        )
    );
}
