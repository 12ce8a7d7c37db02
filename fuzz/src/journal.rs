//! Directories of a journal that no journal wrote, or that something changed afterwards.
//!
//! `run_bytes`: files made of the input. `run_edits`: a journal with a snapshot, changed in places;
//! some changes make the checksum of a header right again, as no disk does but a fuzzer cannot.
//! What must hold: no panic; memory in proportion; looking and opening agree; a second opening
//! finds what the first did; and unless a checksum was forged, no record and no snapshot differs
//! from what was written, however much is missing.

use std::sync::{Arc, OnceLock};

use lastunit_journal::testing::{Image, MemoryStorage};
use lastunit_journal::{
    Journal, JournalOptions, Position, Record, RecordInput, Recovered, Storage, inspect, verify,
};

use crate::draw::Draw;
use crate::memory::{Bound, bounded};

const JOURNAL_ID: u128 = 77;
const SEGMENT_BYTES: u32 = 1_024;
const SLOT_BYTES: usize = 64;
const SNAPSHOT: &[u8] = b"the state after eight events";
const EDITS_MAX: usize = 12;

/// The journal's own buffers (a window for each walk), and the files once more.
const MEMORY: Bound = Bound {
    bytes: 4 << 20,
    per_byte: 16,
};

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: SEGMENT_BYTES,
        reserve_bytes: 0,
        time_ms: 0,
        journal_id: Some(JOURNAL_ID),
        epoch_step: Some(1),
    }
}

fn bytes_of(image: &Image) -> usize {
    image.values().map(Vec::len).sum()
}

/// What an opening found, in a form that two can be compared by.
#[derive(Debug, PartialEq)]
struct Found {
    last_sequence: i64,
    snapshot: Option<(i64, Vec<u8>)>,
    records: Vec<(i64, u32, i64, Vec<u8>)>,
    is_readable: bool,
}

fn found(recovered: &mut Recovered) -> Found {
    let snapshot = recovered.snapshot.take();
    let mut is_readable = true;
    let mut records = Vec::new();
    for record in recovered.records.by_ref() {
        match record {
            Ok(Record {
                first_sequence,
                event_count,
                time_ms,
                body,
                ..
            }) => {
                records.push((first_sequence, event_count, time_ms, body));
            }
            Err(_) => is_readable = false,
        }
    }
    Found {
        last_sequence: recovered.last_sequence,
        snapshot: snapshot.map(|it| (it.sequence, it.bytes)),
        records,
        is_readable,
    }
}

/// Opens twice, looks and verifies.
fn judge(image: &Image) -> Option<Found> {
    let storage = Arc::new(MemoryStorage::from_image(image));
    let size = bytes_of(image);
    bounded(size, MEMORY, || verify(&*storage)).expect("memory can be read");
    let looked = inspect(Arc::clone(&storage) as Arc<dyn Storage>);
    assert_eq!(0, storage.change_count(), "looking writes nothing");
    let open = || Journal::open(Arc::clone(&storage) as Arc<dyn Storage>, options());
    let Ok((journal, mut recovered)) = bounded(size, MEMORY, open) else {
        let is_refused_late = storage.change_count() > 0;
        assert!(
            looked.is_err() || is_refused_late,
            "the same is refused both ways"
        );
        return None;
    };
    let first = found(&mut recovered);
    let mut looked = looked.expect("what opens can be looked at");
    assert_eq!(
        first,
        found(&mut looked),
        "looking and opening find the same"
    );
    let epoch = journal.epoch();
    drop((journal, recovered));

    let (journal, mut recovered) = open().expect("what opened opens again");
    assert_eq!(first, found(&mut recovered), "recovery is idempotent");
    assert_eq!(epoch + 1, journal.epoch(), "each opening has its number");
    Some(first)
}

/// Files made of the input: a byte chooses what a file is, two say how long it is.
pub(crate) fn run_bytes(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut image = Image::new();
    for number in 1..=3_u32 {
        if draw.is_empty() {
            break;
        }
        let name = match draw.below(4) {
            0 => format!("snapshot-{:019}.state", draw.byte()),
            1 => format!("segment-{number:010}.journal.temporary"),
            _ => format!("segment-{number:010}.journal"),
        };
        let length = usize::from(draw.short()) % 4_096;
        let bytes = (0..length).map(|_| draw.byte()).collect();
        image.insert(name, bytes);
    }
    judge(&image);
}

/// Twelve records in groups of three, a snapshot after the eighth, and a seal.
fn base() -> &'static (Image, Found) {
    static BASE: OnceLock<(Image, Found)> = OnceLock::new();
    BASE.get_or_init(|| {
        let storage = Arc::new(MemoryStorage::new());
        let opened = Journal::open(Arc::clone(&storage) as Arc<dyn Storage>, options());
        let (journal, _) = opened.expect("an empty directory opens");
        for group in 0..4_i64 {
            for sequence in group * 3 + 1..=group * 3 + 3 {
                append(&journal, sequence);
            }
            flush(&journal);
            if group == 2 {
                journal.write_snapshot(8, SNAPSHOT).expect("memory works");
            }
        }
        journal.seal(20).expect("memory works");
        drop(journal);
        let image = storage.image();
        let mut recovered = inspect(storage).expect("a journal of ours");
        let whole = found(&mut recovered);
        let reader = recovered.reader();
        let records = reader.read_after(0, 100).expect("memory can be read");
        let records = records
            .into_iter()
            .map(|it| (it.first_sequence, it.event_count, it.time_ms, it.body));
        (
            image,
            Found {
                records: records.collect(),
                ..whole
            },
        )
    })
}

fn append(journal: &Journal, sequence: i64) {
    let length = usize::try_from(sequence * 37 % 150).expect("sequences are positive");
    let body: Vec<u8> = (0..=250).cycle().take(length).collect();
    let input = RecordInput {
        first_sequence: sequence,
        event_count: 1,
        time_ms: sequence,
        body: &body,
    };
    while journal.append(input).is_err() {
        flush(journal);
        journal.prepare_segment().expect("memory works");
    }
}

fn flush(journal: &Journal) {
    while let Some(batch) = journal.take_batch() {
        journal.write_and_sync(batch).expect("memory works");
    }
}

pub(crate) fn run_edits(data: &[u8]) {
    let mut draw = Draw::new(data);
    let (image, whole) = base();
    let mut image = image.clone();
    let mut is_forged = false;
    for _ in 0..EDITS_MAX {
        if draw.is_empty() || image.is_empty() {
            break;
        }
        is_forged |= edit(&mut draw, &mut image);
    }
    let Some(found) = judge(&image) else { return };
    if is_forged {
        return;
    }
    if let Some((sequence, bytes)) = &found.snapshot {
        assert_eq!(
            (8, SNAPSHOT),
            (*sequence, &bytes[..]),
            "a snapshot is whole or not used"
        );
    }
    for record in &found.records {
        assert!(
            whole.records.contains(record),
            "never another record than was written"
        );
    }
    assert!(found.last_sequence <= whole.last_sequence);
}

/// Changes one file; says whether it forged a checksum.
fn edit(draw: &mut Draw<'_>, image: &mut Image) -> bool {
    let names: Vec<_> = image.keys().cloned().collect();
    let name = draw
        .pick(&names.iter().map(String::as_str).collect::<Vec<_>>())
        .to_owned();
    let bytes = image.get_mut(&name).expect("a name of the image");
    if bytes.is_empty() {
        return false;
    }
    let at = usize::from(draw.short()) % bytes.len();
    match draw.below(8) {
        0 => bytes[at] ^= 1 << draw.below(8),
        1 => bytes[at] = draw.byte(),
        2 => bytes.truncate(at),
        3 => bytes[at / SLOT_BYTES * SLOT_BYTES..].fill(0),
        4 => {
            let end = (at + 1 + usize::from(draw.byte())).min(bytes.len());
            bytes[at..end].fill(0);
        }
        5 => swap_slots(draw, bytes, at),
        6 => {
            image.remove(&name);
        }
        _ => return forge(draw, &name, bytes, at),
    }
    false
}

fn swap_slots(draw: &mut Draw<'_>, bytes: &mut [u8], at: usize) {
    let slots = bytes.len() / SLOT_BYTES;
    if slots < 2 {
        return;
    }
    let (first, second) = (at / SLOT_BYTES % slots, draw.below(slots.min(256)));
    for byte in 0..SLOT_BYTES {
        bytes.swap(first * SLOT_BYTES + byte, second * SLOT_BYTES + byte);
    }
}

/// Changes fields of a header and makes its checksum right again, as `FORMAT.md` draws it.
fn forge(draw: &mut Draw<'_>, name: &str, bytes: &mut [u8], at: usize) -> bool {
    const FIELDS: [(usize, usize); 9] = [
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
    let slot = at / SLOT_BYTES * SLOT_BYTES;
    let Some(header) = bytes.get_mut(slot..slot + SLOT_BYTES) else {
        return false;
    };
    for _ in 0..=draw.below(3) {
        let (field, length) = draw.pick(&FIELDS);
        header[field..field + length].copy_from_slice(&draw.number().to_le_bytes()[..length]);
    }
    let number = name
        .strip_prefix("segment-")
        .and_then(|rest| rest.get(..10)?.parse().ok());
    // The first slot is a header of the file, whose checksum is bound to nothing.
    let seed = match number {
        Some(number) if slot > 0 => {
            let position = Position::new(number, u32::try_from(slot).expect("short files"));
            let seed = crc32c::crc32c(&JOURNAL_ID.to_le_bytes());
            crc32c::crc32c_append(seed, &position.to_bits().to_le_bytes())
        }
        _ => 0,
    };
    let crc = crc32c::crc32c_append(seed, &header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    true
}

pub(crate) fn seeds_of_bytes() -> Vec<(String, Vec<u8>)> {
    let mut whole = Vec::new();
    for (name, bytes) in &base().0 {
        if name.starts_with("segment-") {
            whole.push(3);
            whole.extend_from_slice(&u16::try_from(bytes.len()).expect("small").to_le_bytes());
            whole.extend_from_slice(bytes);
        }
    }
    vec![
        ("whole".to_owned(), whole),
        ("nothing".to_owned(), Vec::new()),
        ("stranger".to_owned(), vec![3, 3, 0, b'L', b'U', b'S']),
    ]
}

pub(crate) fn seeds_of_edits() -> Vec<(String, Vec<u8>)> {
    (0..8_u8)
        .map(|kind| {
            (
                format!("kind-{kind}"),
                vec![1, 90, 1, kind, 5, 0, 200, 0, 7, 2, 2, 0, 9],
            )
        })
        .collect()
}
