//! Bytes that no journal ever wrote: random ones, and records whose checksums are right and whose
//! fields are not. Nothing may panic, and whatever is accepted must be accepted again.
//!
//! Set JOURNAL_SEED to repeat a run, JOURNAL_SEED_COUNT for more of them.

mod support;

use std::sync::Arc;

use lastunit_journal::testing::{Image, MemoryStorage, Random, seed_from_environment};
use lastunit_journal::{Position, inspect, verify};
use support::{flush, image_of, open, try_open};

/// The identity that `support::small` gives.
const JOURNAL_ID: u128 = 77;

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("below a length")
}

/// Values at the edges of what a field can hold, besides random ones.
fn edge(random: &mut Random) -> u64 {
    let edges = [
        0,
        1,
        63,
        64,
        1023,
        1 << 31,
        u64::MAX >> 33,
        u64::MAX >> 32,
        u64::MAX >> 1,
        u64::MAX,
    ];
    if random.is_one_in(3) {
        random.next_u64()
    } else {
        edges[below(random, edges.len())]
    }
}

/// Changes a field of a header and makes its checksum right again.
fn forge(random: &mut Random, header: &mut [u8], seed: u32) {
    let fields = [
        (4, 1),
        (8, 8),
        (16, 8),
        (24, 8),
        (32, 8),
        (40, 4),
        (44, 4),
        (48, 4),
        (52, 4),
    ];
    for _ in 0..=below(random, 3) {
        let (at, length) = fields[below(random, fields.len())];
        header[at..at + length].copy_from_slice(&edge(random).to_le_bytes()[..length]);
    }
    let crc = crc32c::crc32c_append(seed, &header[..60]);
    header[60..64].copy_from_slice(&crc.to_le_bytes());
}

fn record_seed(position: Position) -> u32 {
    let seed = crc32c::crc32c(&JOURNAL_ID.to_le_bytes());
    crc32c::crc32c_append(seed, &position.to_bits().to_le_bytes())
}

/// Opens twice, looks and verifies: no panic, and the second opening finds what the first accepted.
fn judge(image: &Image) {
    let storage = Arc::new(MemoryStorage::from_image(image));
    verify(&*storage).expect("memory can be read");
    let looked = inspect(storage.clone());
    let Ok((journal, mut recovered)) = try_open(&storage, 1024) else {
        assert!(
            looked.is_err() || storage.change_count() > 0,
            "the same is refused both ways"
        );
        return;
    };
    let records: Vec<_> = recovered.records.by_ref().collect();
    drop(journal);
    let (_, mut again) = open(&storage, 1024);

    assert_eq!(recovered.last_sequence, again.last_sequence);
    let repeated: Vec<_> = again.records.by_ref().collect();
    assert_eq!(format!("{records:?}"), format!("{repeated:?}"));
}

fn with_a_snapshot() -> Image {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, 1024);
    flush(&journal, 1..=8);
    journal.write_snapshot(8, b"state").expect("works");
    flush(&journal, 9..=12);
    storage.image()
}

#[test]
fn forged_headers_never_panic_and_are_judged_the_same_twice() {
    let first = seed_from_environment("JOURNAL_SEED", 1);
    let count = seed_from_environment("JOURNAL_SEED_COUNT", 3000);
    let images = [
        image_of(1024, 4, 3, true),
        image_of(1024, 4, 3, false),
        with_a_snapshot(),
    ];
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let mut image = images[below(&mut random, images.len())].clone();
        let names: Vec<_> = image.keys().cloned().collect();
        for _ in 0..=below(&mut random, 2) {
            let number = below(&mut random, names.len());
            let bytes = image.get_mut(&names[number]).expect("there");
            let slot = below(&mut random, bytes.len() / 64);
            let position = Position::new(
                u32::try_from(number + 1).expect("few"),
                u32::try_from(slot * 64).expect("short"),
            );
            // The first slot is a header of the file, whose checksum is bound to nothing.
            let crc_seed = if slot == 0 { 0 } else { record_seed(position) };
            forge(&mut random, &mut bytes[slot * 64..][..64], crc_seed);
        }
        println!("seed {seed}");
        judge(&image);
    }
}

#[test]
fn random_edits_never_panic_and_are_judged_the_same_twice() {
    let first = seed_from_environment("JOURNAL_SEED", 1);
    let count = seed_from_environment("JOURNAL_SEED_COUNT", 3000);
    let images = [image_of(1024, 4, 3, true), with_a_snapshot()];
    for seed in first..first + count {
        let mut random = Random::new(seed);
        let mut image = images[below(&mut random, images.len())].clone();
        let names: Vec<_> = image.keys().cloned().collect();
        for _ in 0..=below(&mut random, 4) {
            let bytes = image
                .get_mut(&names[below(&mut random, names.len())])
                .expect("there");
            let start = below(&mut random, bytes.len());
            let end = (start + below(&mut random, 200)).min(bytes.len());
            match random.below(4) {
                0 => bytes[start..end].fill(0),
                1 => bytes.truncate(start),
                2 => bytes[start..end].iter_mut().for_each(|byte| *byte ^= 0x10),
                _ => bytes.copy_within(start..end, below(&mut random, start + 1)),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        println!("seed {seed}");
        judge(&image);
    }
}
