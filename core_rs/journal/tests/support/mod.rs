//! What the tests of the journal share: small journals, and what they must hold.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use lastunit_journal::testing::{Image, MemoryStorage};
use lastunit_journal::{
    Journal, JournalError, JournalOptions, Record, RecordInput, Recovered, Storage, inspect,
};

/// Journals of a few slots a segment, with nothing kept back and always the same identity.
pub(crate) fn small(segment_bytes: u32) -> JournalOptions {
    JournalOptions {
        segment_bytes,
        reserve_bytes: 0,
        time_ms: 0,
        journal_id: Some(77),
        epoch_step: Some(1),
    }
}

pub(crate) fn open(storage: &Arc<MemoryStorage>, segment_bytes: u32) -> (Journal, Recovered) {
    try_open(storage, segment_bytes).expect("the journal opens")
}

pub(crate) fn try_open(
    storage: &Arc<MemoryStorage>,
    segment_bytes: u32,
) -> Result<(Journal, Recovered), JournalError> {
    Journal::open(
        Arc::clone(storage) as Arc<dyn Storage>,
        small(segment_bytes),
    )
}

/// The body of the record with this first sequence: different for each, 0 to about 150 bytes.
pub(crate) fn body(sequence: i64) -> Vec<u8> {
    let length = usize::try_from(sequence * 37 % 150).expect("sequences are positive");
    (0..length)
        .map(|at| u8::try_from((at * 7 + length) % 251).expect("below 251"))
        .collect()
}

/// Appends one record of one event.
pub(crate) fn append(journal: &Journal, sequence: i64) -> Result<(), JournalError> {
    let body = body(sequence);
    let input = RecordInput {
        first_sequence: sequence,
        event_count: 1,
        time_ms: sequence,
        body: &body,
    };
    journal.append(input)
}

/// Appends the records and flushes them as one group, preparing segments where needed.
pub(crate) fn flush(journal: &Journal, sequences: std::ops::RangeInclusive<i64>) -> i64 {
    for sequence in sequences {
        if let Err(JournalError::NoRoom { .. }) = append(journal, sequence) {
            write_all(journal);
            journal
                .prepare_segment()
                .expect("a segment can be prepared");
            append(journal, sequence).expect("there is room again");
        }
    }
    write_all(journal);
    journal.durable_sequence()
}

/// Writes whatever waits.
pub(crate) fn write_all(journal: &Journal) {
    while let Some(batch) = journal.take_batch() {
        journal.write_and_sync(batch).expect("the disk works");
    }
}

/// Reads what was recovered to the end, checking each record against what was appended.
pub(crate) fn replay(recovered: &mut Recovered) -> Vec<Record> {
    let records: Result<Vec<_>, _> = recovered.records.by_ref().collect();
    let records = records.expect("what was recovered can be read");
    let after = recovered
        .snapshot
        .as_ref()
        .map_or(0, |snapshot| snapshot.sequence);
    check(&records, after);
    assert_eq!(
        recovered.last_sequence,
        records.last().map_or(after, Record::last_sequence)
    );
    records
}

/// Asserts that the records are those appended by `append` after a sequence, without a gap.
pub(crate) fn check(records: &[Record], after: i64) {
    for (record, sequence) in records.iter().zip(after + 1..) {
        assert_eq!(sequence, record.first_sequence);
        assert_eq!(body(sequence), record.body, "sequence {sequence}");
        assert_eq!(sequence, record.time_ms);
        assert_eq!(1, record.event_count);
    }
}

/// What an image holds: the last sequence, or the refusal. Checks every record on the way.
pub(crate) fn outcome(image: &Image) -> Result<i64, JournalError> {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::from_image(image));
    let mut recovered = inspect(storage)?;
    replay(&mut recovered);
    Ok(recovered.last_sequence)
}

/// A journal of `groups` groups of `per_group` records, closed with a seal if asked.
pub(crate) fn image_of(segment_bytes: u32, groups: i64, per_group: i64, is_sealed: bool) -> Image {
    let storage = Arc::new(MemoryStorage::new());
    let (journal, _) = open(&storage, segment_bytes);
    for group in 0..groups {
        flush(&journal, group * per_group + 1..=(group + 1) * per_group);
    }
    if is_sealed {
        assert!(journal.seal(i64::MAX / 2).expect("the disk works"));
    }
    journal
        .prepare_segment()
        .expect("a segment can be prepared");
    drop(journal);
    storage.image()
}
