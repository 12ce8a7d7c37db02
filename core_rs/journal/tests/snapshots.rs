//! Snapshots: written beside the journal, taken over by the next opening, passed over when damaged.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Fault, Image, MemoryStorage};
use lastunit_journal::{Journal, JournalError, RecordInput};
use support::{append, flush, open, outcome, replay, try_open};

fn snapshots(storage: &MemoryStorage) -> Vec<String> {
    storage
        .image()
        .into_keys()
        .filter(|name| name.starts_with("snapshot-"))
        .collect()
}

/// Twenty records in small segments, with snapshots after 5, 10 and 15.
fn with_snapshots() -> Image {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 1024);
    for group in 0..4 {
        flush(&journal, group * 5 + 1..=group * 5 + 5);
        if group < 3 {
            write_snapshot(&journal, group * 5 + 5);
        }
    }
    journal.seal(0).expect("works");
    storage.image()
}

fn write_snapshot(journal: &Journal, sequence: i64) {
    let state = format!("state {sequence}");
    journal
        .write_snapshot(sequence, state.as_bytes())
        .expect("works");
}

fn open_image(image: &Image) -> (Option<i64>, usize, Vec<String>) {
    let storage = Arc::new(MemoryStorage::from_image(image));
    let (_, mut recovered) = open(&storage, 1024);
    let replayed = replay(&mut recovered).len();
    if let Some(snapshot) = &recovered.snapshot {
        assert_eq!(
            format!("state {}", snapshot.sequence).as_bytes(),
            snapshot.bytes
        );
    }
    (
        recovered.snapshot.map(|snapshot| snapshot.sequence),
        replayed,
        recovered.notes,
    )
}

#[test]
fn newest_snapshot_is_taken_over_and_only_what_follows_is_replayed() {
    let image = with_snapshots();

    assert_eq!((Some(15), 5, Vec::new()), open_image(&image));
    let kept: Vec<_> = image
        .keys()
        .filter(|name| name.starts_with("snapshot-"))
        .collect();
    assert_eq!(2, kept.len(), "the newest two are kept: {kept:?}");
}

#[test]
fn journal_before_the_snapshot_is_still_readable() {
    let storage = Arc::new(MemoryStorage::from_image(&with_snapshots()));
    let (journal, _) = open(&storage, 1024);
    for after in 0..20 {
        let records = journal.reader().read_after(after, 100).expect("readable");

        support::check(&records, after);
        assert_eq!(20 - after, i64::try_from(records.len()).expect("few"));
    }
}

#[test]
fn damaged_snapshots_cost_a_longer_replay_and_a_note_each() {
    let mut image = with_snapshots();
    let names: Vec<_> = image
        .keys()
        .filter(|name| name.starts_with("snapshot-"))
        .cloned()
        .collect();
    image.get_mut(&names[1]).expect("there")[70] ^= 1;
    let (snapshot, replayed, notes) = open_image(&image);
    assert_eq!((Some(10), 10, 1), (snapshot, replayed, notes.len()));
    image.get_mut(&names[0]).expect("there").pop();
    let (snapshot, replayed, notes) = open_image(&image);

    assert_eq!((None, 20, 2), (snapshot, replayed, notes.len()));
    assert!(
        notes[0].contains("snapshot 15 was passed over"),
        "{}",
        notes[0]
    );
}

#[test]
fn any_bit_or_cut_of_a_snapshot_is_noticed_and_the_state_is_the_same() {
    let image = with_snapshots();
    let name = image
        .keys()
        .rfind(|name| name.starts_with("snapshot-"))
        .expect("there")
        .clone();
    let length = image[&name].len();
    for bit in 0..length * 8 {
        let mut flipped = image.clone();
        flipped.get_mut(&name).expect("there")[bit / 8] ^= 1 << (bit % 8);

        assert_eq!(
            20,
            outcome(&flipped).expect("the older one serves"),
            "bit {bit}"
        );
        assert_eq!(Some(10), open_image(&flipped).0);
    }
    for cut in 0..length {
        let mut short = image.clone();
        short.get_mut(&name).expect("there").truncate(cut);

        assert_eq!(Some(10), open_image(&short).0, "cut at {cut}");
    }
}

#[test]
fn bit_flips_with_a_snapshot_are_refused_or_harmless() {
    let image = with_snapshots();
    for (name, bytes) in image
        .iter()
        .filter(|(name, _)| name.starts_with("segment-"))
    {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = image.clone();
            flipped.get_mut(name).expect("there")[bit / 8] ^= 1 << (bit % 8);
            if let Ok(last) = outcome(&flipped) {
                assert_eq!(20, last, "{name} bit {bit}");
            }
        }
    }
}

#[test]
fn snapshot_of_records_that_are_gone_refuses_the_opening() {
    let image = with_snapshots();
    let mut restored = image.clone();
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 1024);
    flush(&journal, 1..=5);
    drop(journal);
    for name in image.keys() {
        if name.starts_with("segment-") {
            restored.remove(name);
        }
    }
    restored.extend(storage.image());
    let error = outcome(&restored).expect_err("an older journal beside newer snapshots");
    assert!(
        error.to_string().contains("snapshot 15 was taken after"),
        "{error}"
    );

    restored.retain(|name, _| name.starts_with("snapshot-"));
    let error = outcome(&restored).expect_err("no journal beside snapshots");
    assert!(
        error.to_string().contains("every segment is missing"),
        "{error}"
    );
}

#[test]
fn snapshot_is_refused_where_no_durable_record_ends() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    let reason = |sequence| match journal.write_snapshot(sequence, b"state") {
        Err(JournalError::Snapshot { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    let pair = RecordInput {
        first_sequence: 1,
        event_count: 2,
        time_ms: 0,
        body: b"two",
    };
    journal.append(pair).expect("there is room");

    assert!(reason(0).contains("no event"));
    assert!(reason(2).contains("only 0 is durable"));
    support::write_all(&journal);
    assert!(reason(1).contains("inside a record"));
    assert!(reason(3).contains("only 2 is durable"));
    journal
        .write_snapshot(2, b"state")
        .expect("here a record ends");
}

#[test]
fn one_snapshot_at_a_time_and_a_dropped_one_leaves_nothing() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    flush(&journal, 1..=3);
    let mut first = journal.start_snapshot(3).expect("works");
    first.write(&vec![1; 3 << 20]).expect("works");
    let error = journal.start_snapshot(3).expect_err("one is open");
    assert!(error.to_string().contains("another one"), "{error}");
    drop(first);

    assert!(
        storage
            .image()
            .keys()
            .all(|name| name.starts_with("segment-"))
    );
    let mut chunks = journal.start_snapshot(3).expect("works");
    for chunk in [&b"in "[..], b"", b"chunks"] {
        chunks.write(chunk).expect("works");
    }
    chunks.finish().expect("works");
    drop(journal);
    let (_, recovered) = open(&storage, 4096);
    assert_eq!(b"in chunks", &recovered.snapshot.expect("there").bytes[..]);
}

#[test]
fn a_long_snapshot_is_synced_as_it_grows() {
    // Dirty sectors that no sync has reached are what a flush of the journal would wait for.
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 1024);
    flush(&journal, 1..=3);
    let mut snapshot = journal.start_snapshot(3).expect("works");
    let mut most = 0;
    for _ in 0..40 {
        snapshot.write(&vec![1; 1 << 20]).expect("works");
        most = most.max(storage.dirty_sector_count());
    }
    snapshot.finish().expect("works");

    let sector_bytes = 512;
    assert!(most * sector_bytes < 10 << 20, "{most} sectors");
    assert!(most > 0, "it is not synced at every chunk");
}

#[test]
fn snapshot_on_a_full_disk_fails_alone() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    flush(&journal, 1..=3);
    storage.set_capacity(Some(0));
    let error = journal
        .write_snapshot(3, b"state")
        .expect_err("the disk is full");

    assert_eq!("JOURNAL_STORAGE", error.reason());
    assert_eq!(None, journal.poison());
    assert!(snapshots(&storage).is_empty());
    flush(&journal, 4..=4);
    storage.set_capacity(None);
    write_snapshot(&journal, 4);
}

#[test]
fn snapshot_that_fails_on_the_device_poisons_the_journal() {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 4096);
    flush(&journal, 1..=3);
    storage.fail_at(storage.change_count() + 2, Fault::Device);
    journal
        .write_snapshot(3, b"state")
        .expect_err("its sync fails");

    assert!(journal.poison().is_some());
    assert_eq!(
        "JOURNAL_POISONED",
        append(&journal, 4).expect_err("stopped").reason()
    );
    assert!(try_open(&storage, 4096).is_ok());
}

#[test]
fn unfinished_snapshot_is_removed_by_the_next_opening() {
    let mut image = with_snapshots();
    let name = "snapshot-0000000000000000020.state.temporary";
    image.insert(name.to_owned(), vec![1, 2, 3]);
    image.insert("notes.txt".to_owned(), b"of the operator".to_vec());
    let storage = Arc::new(MemoryStorage::from_image(&image));
    let (_, recovered) = open(&storage, 1024);

    assert!(!storage.image().contains_key(name));
    assert!(
        storage.image().contains_key("notes.txt"),
        "strangers are left alone"
    );
    assert!(
        recovered.notes[0].contains("notes.txt"),
        "{:?}",
        recovered.notes
    );
}
