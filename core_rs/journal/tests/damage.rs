//! Damage to the files: the journal is refused, or whole, or short of what was never acknowledged.
//!
//! The one exception is drawn in FORMAT.md: the last group, while no seal, opening or later group
//! stands behind it, cannot be told from a flush that a crash cut short. Callers notice by their
//! token.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Image, MemoryStorage, seed_from_environment};
use lastunit_journal::{Record, Storage, inspect};
use support::{image_of, open, outcome, replay};

const SEGMENT: &str = "segment-0000000001.journal";

/// What a damaged journal turned out to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdicts {
    refused: u64,
    whole: u64,
    cut: u64,
}

/// Flips bits of every file, one at a time, `bit_step` bits apart, and judges each outcome.
///
/// `kept` is the last event that must never be lost silently, `last` the last one there is.
fn flip_bits(image: &Image, bit_step: usize, kept: i64, last: i64) -> Verdicts {
    let storage = Arc::new(MemoryStorage::from_image(image));
    let mut verdicts = Verdicts::default();
    for (name, bytes) in image {
        for bit in (0..bytes.len() * 8).step_by(bit_step) {
            let flip = |bytes: &mut [u8]| bytes[bit / 8] ^= 1 << (bit % 8);
            storage.corrupt(name, flip);
            match inspect(Arc::clone(&storage) as Arc<dyn Storage>) {
                Err(error) => {
                    assert!(error.to_string().contains("segment-"), "{error}");
                    verdicts.refused += 1;
                }
                Ok(mut recovered) => {
                    let found = recovered.last_sequence;
                    assert!((kept..=last).contains(&found), "{name} bit {bit}: {found}");
                    replay(&mut recovered);
                    verdicts.whole += u64::from(found == last);
                    verdicts.cut += u64::from(found < last);
                }
            }
            storage.corrupt(name, flip);
        }
    }
    println!("{verdicts:?}");
    verdicts
}

#[test]
fn any_bit_of_a_sealed_journal_is_refused_or_harmless() {
    let image = image_of(4096, 4, 5, true);
    let verdicts = flip_bits(&image, 1, 20, 20);

    assert_eq!(0, verdicts.cut);
    assert!(
        verdicts.refused > 8 * 20 * 64,
        "every bit of every header is proven"
    );
}

#[test]
fn any_bit_of_an_unsealed_journal_costs_at_most_its_last_group() {
    let image = image_of(4096, 4, 5, false);
    let verdicts = flip_bits(&image, 1, 15, 20);

    assert!(verdicts.cut > 0, "the last group is not proven");
    assert!(verdicts.refused > 8 * 15 * 64, "the groups before it are");
}

#[test]
fn any_bit_of_a_journal_over_many_segments_is_refused_or_harmless() {
    let image = image_of(1024, 10, 2, true);
    assert!(image.len() > 3, "{}", image.len());

    assert_eq!(0, flip_bits(&image, 1, 20, 20).cut);
}

#[test]
fn bits_of_a_journal_of_200_records_are_refused_or_harmless() {
    // Set JOURNAL_FLIP_STEP=1 for every bit; any odd step comes by every bit of a byte.
    let step = seed_from_environment("JOURNAL_FLIP_STEP", 61);
    let step = usize::try_from(step).expect("a step");
    let image = image_of(32 << 10, 40, 5, true);

    assert_eq!(0, flip_bits(&image, step, 200, 200).cut);
}

#[test]
fn segment_cut_at_any_byte_is_refused() {
    let image = image_of(4096, 4, 5, true);
    for length in 0..4096 {
        let mut cut = image.clone();
        cut.get_mut(SEGMENT).expect("there").truncate(length);
        let error = outcome(&cut).expect_err("a segment never shrinks");

        assert_eq!("JOURNAL_DAMAGED", error.reason());
        assert!(error.to_string().contains(SEGMENT), "{error}");
        assert!(error.to_string().contains("restore"), "{error}");
    }
}

#[test]
fn zeros_from_any_byte_to_the_end_leave_exactly_the_records_before_it() {
    // As after a restore of an older copy: nothing behind the end can testify, so the files alone
    // cannot tell. Snapshots and the tokens of callers do. What must never come back is a wrong
    // record.
    let image = image_of(4096, 4, 5, true);
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::from_image(&image));
    let records = inspect(storage)
        .expect("whole")
        .reader()
        .read_after(0, 100)
        .expect("whole");
    let end = |record: &Record| record.position.offset as usize + 64 + record.body.len();
    for length in 64..4096 {
        let mut cut = image.clone();
        cut.get_mut(SEGMENT).expect("there")[length..].fill(0);
        let before = records
            .iter()
            .take_while(|record| end(record) <= length)
            .count();
        let found = outcome(&cut).expect("a cut tail is lawful");

        // The last bytes of a body may have been zero themselves.
        assert!(
            (before..=before + 1).contains(&usize::try_from(found).expect("few")),
            "{length}"
        );
    }
}

#[test]
fn sector_lost_in_the_acknowledged_part_is_refused() {
    let image = image_of(8192, 8, 5, true);
    let used = image[SEGMENT]
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty");
    for sector in 0..(used - 64) / 512 {
        let mut damaged = image.clone();
        damaged.get_mut(SEGMENT).expect("there")[sector * 512..][..512].fill(0);

        assert!(outcome(&damaged).is_err(), "sector {sector}");
    }
}

#[test]
fn sectors_in_each_others_place_are_refused() {
    let image = image_of(8192, 8, 5, true);
    let used = image[SEGMENT]
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty");
    for one in 0..used / 512 {
        for other in one + 1..used / 512 {
            let mut damaged = image.clone();
            let bytes = damaged.get_mut(SEGMENT).expect("there");
            let (front, back) = bytes.split_at_mut(other * 512);
            front[one * 512..][..512].swap_with_slice(&mut back[..512]);

            assert!(outcome(&damaged).is_err(), "sectors {one} and {other}");
        }
    }
}

#[test]
fn any_missing_segment_but_an_unused_last_one_is_refused() {
    let image = image_of(1024, 10, 2, true);
    let last = image.keys().next_back().expect("not empty").clone();
    for name in image.keys() {
        let mut missing = image.clone();
        missing.remove(name);
        let result = outcome(&missing);
        if *name == last {
            assert_eq!(20, result.expect("the last one is prepared and unused"));
        } else {
            let text = result.expect_err("a segment in use is missing").to_string();
            assert!(text.contains(name) && text.contains("missing"), "{text}");
        }
    }
}

#[test]
fn segment_of_another_journal_or_of_another_history_is_refused() {
    let image = image_of(1024, 10, 2, true);
    let other = {
        let storage = Arc::new(MemoryStorage::new());
        let options = lastunit_journal::JournalOptions {
            journal_id: Some(78),
            ..support::small(1024)
        };
        let (journal, _) =
            lastunit_journal::Journal::open(storage.clone(), options).expect("opens");
        support::flush(&journal, 1..=20);
        storage.image()
    };
    // The same identity, other groups: as after a restore from a copy that went on by itself.
    let history = image_of(1024, 5, 4, true);
    for foreign in [other, history] {
        for name in image.keys().take(3) {
            let mut mixed = image.clone();
            mixed.insert(name.clone(), foreign[name].clone());

            assert!(outcome(&mixed).is_err(), "{name}");
        }
    }
}

#[test]
fn version_of_the_future_is_refused_by_name() {
    let mut image = image_of(1024, 1, 1, true);
    let bytes = image.get_mut(SEGMENT).expect("there");
    bytes[4] = 2;
    let crc = crc32c::crc32c_append(0, &bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let error = outcome(&image).expect_err("unknown version");

    assert_eq!("JOURNAL_UNSUPPORTED_VERSION", error.reason());
    assert!(error.to_string().contains("version 2"), "{error}");
}

#[test]
fn garbage_behind_the_end_is_cleared_and_garbage_behind_the_file_is_passed_over() {
    let image = image_of(4096, 2, 5, true);
    let used = image[SEGMENT]
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty");
    let mut garbage = image.clone();
    let bytes = garbage.get_mut(SEGMENT).expect("there");
    bytes[used + 100..used + 300].fill(0xA5);
    bytes.extend_from_slice(&[0x5A; 1000]);
    let storage = Arc::new(MemoryStorage::from_image(&garbage));
    let (journal, mut recovered) = open(&storage, 4096);

    assert!(recovered.cut.is_some());
    assert_eq!(10, replay(&mut recovered).len());
    drop(journal);
    let (_, recovered) = open(&storage, 4096);
    assert_eq!(None, recovered.cut, "it was cleared");
}

#[test]
fn data_too_far_behind_the_end_for_one_flush_is_refused() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 2 * lastunit_journal::limits::BATCH_BYTES_MAX);
    let end = journal.reader();
    support::flush(&journal, 1..=1);
    drop((journal, end));
    let far = lastunit_journal::limits::BATCH_BYTES_MAX as usize + 4096;
    storage.corrupt(SEGMENT, |bytes| bytes[far] = 1);
    let error = inspect(storage as Arc<dyn Storage>).expect_err("no flush reaches so far");

    assert!(error.to_string().contains("too far"), "{error}");
}

#[test]
fn refusal_changes_no_byte() {
    let image = image_of(4096, 4, 5, true);
    let storage = Arc::new(MemoryStorage::from_image(&image));
    storage.corrupt(SEGMENT, |bytes| bytes[200] ^= 1);
    let before = storage.image();
    let changes = storage.change_count();

    assert!(support::try_open(&storage, 4096).is_err());
    assert_eq!((before, changes), (storage.image(), storage.change_count()));
}

#[test]
fn read_error_at_the_opening_is_no_damage_and_changes_nothing() {
    let storage = Arc::new(MemoryStorage::from_image(&image_of(4096, 4, 5, true)));
    storage.fail_reads(true);
    let error = support::try_open(&storage, 4096).expect_err("unreadable");

    assert_eq!("JOURNAL_STORAGE", error.reason());
    assert_eq!(0, storage.change_count());
}
