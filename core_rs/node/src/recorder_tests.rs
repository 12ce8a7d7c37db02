//! What is handed over is on the disk or counted as dropped, within the bound, whatever the disk
//! does.

use lastunit_admission::{Ask, Call, Chance, Operation};
use lastunit_arrivals::{Blocks, Outcome};
use lastunit_journal::testing::MemoryStorage;

use super::*;

const BYTES_MAX: u64 = 1 << 20;

fn draft(count: u64) -> Draft {
    let mut draft = Draft::new("order-service");
    for number in 0..count {
        let sku = format!("sku-{number}");
        let skus = [sku.as_str()];
        let ask = Ask {
            call: Call {
                operation: Operation::Reserve,
                line_count: 1,
                caller: "order-service",
            },
            sale: "summer",
            skus: &skus,
            chance: Chance::Possible,
        };
        draft.add(&ask, Outcome::NoEffect, number, 0);
    }
    draft
}

fn read(storage: &dyn Storage) -> (u64, u64) {
    let mut files = storage.list().expect("is read");
    files.sort_by(|one, other| one.name.cmp(&other.name));
    let (mut rows, mut dropped) = (0, 0);
    for file in &files {
        let mut bytes = vec![0; usize::try_from(file.bytes).expect("is small")];
        storage.read(&file.name, 0, &mut bytes).expect("is read");
        for block in Blocks::new(&bytes).flatten() {
            rows += block.rows.len() as u64;
            dropped = block.origin.dropped_count;
        }
    }
    (rows, dropped)
}

fn count(recorder: &Recorder, name: &str) -> u64 {
    recorder.json()[name].as_u64().expect("is a count")
}

#[test]
fn everything_that_is_kept_is_read_back_after_the_stop() {
    let storage = Arc::new(MemoryStorage::new());
    let recorder = Recorder::open_on(storage.clone(), BYTES_MAX).expect("opens");
    for _ in 0..100 {
        recorder.keep(Box::new(draft(7)), 100);
    }
    recorder.stop();

    assert_eq!((700, 0), read(&*storage));
    assert_eq!(700, count(&recorder, "recorded_count"));
    recorder.stop();
}

#[test]
fn the_bytes_on_the_disk_stay_within_the_bound_and_the_newest_are_kept() {
    let storage = Arc::new(MemoryStorage::new());
    for _ in 0..3 {
        let recorder = Recorder::open_on(storage.clone(), BYTES_MAX).expect("opens");
        for _ in 0..20 {
            recorder.keep(Box::new(draft(2_000)), 100);
        }
        recorder.stop();
        assert_eq!(0, count(&recorder, "dropped_count"), "there was room");
        let files = storage.list().expect("is read");
        let bytes: u64 = files.iter().map(|it| it.bytes).sum();
        assert!(bytes <= BYTES_MAX, "{bytes}");
        assert_eq!(bytes, count(&recorder, "bytes"));
    }
    let (rows, _) = read(&*storage);

    assert!((30_000..120_000).contains(&rows), "{rows}");
}

#[test]
fn a_full_disk_costs_arrivals_that_are_counted_and_a_free_one_goes_on() {
    let storage = Arc::new(MemoryStorage::new());
    storage.set_capacity(Some(300 << 20));
    let mut files = Files::open(storage.clone(), BYTES_MAX);
    files.leave_free(300 << 20);
    let mut encoder = Encoder::default();
    encoder.add(&draft(1), 0, 5);
    let block = encoder.finish(&Origin::default());
    let refused = files.append(&block).expect_err("is too full");
    assert_eq!(std::io::ErrorKind::StorageFull, refused.kind());

    files.leave_free(0);
    files.append(&block).expect("is written");
    storage.set_capacity(Some(block.len() as u64 + 10));
    files.append(&block).expect_err("is full in the middle");
    storage.set_capacity(None);
    files.append(&block).expect("goes to a new file");

    assert_eq!((2, 0), read(&*storage));
    assert_eq!(2, storage.list().expect("is read").len());
}

#[test]
fn what_finds_no_room_in_line_is_counted_and_told_in_the_next_block() {
    let storage = Arc::new(MemoryStorage::new());
    let recorder = Recorder::open_on(storage.clone(), 64 * BYTES_MAX).expect("opens");
    let large = draft(50_000);
    let fits = LINE_BYTES_MAX / large.bytes();
    // The writer may take some of the line in between: more is kept then.
    let call_count = fits * 4 + 1;
    for _ in 0..call_count {
        recorder.keep(Box::new(large.clone()), 100);
    }
    recorder.stop();
    let (rows, _) = read(&*storage);
    let dropped = count(&recorder, "dropped_count");

    assert_eq!(call_count as u64 * 50_000, rows + dropped);
    assert_eq!(rows, count(&recorder, "recorded_count"));
}
