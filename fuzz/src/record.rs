//! Bodies of journal records: rows of events, as a disk gives them back.
//!
//! What must hold: no panic; memory in proportion; what can be read is written back so that it
//! reads the same; and the stream to readers shows the same events as the replay.

use lastunit_wire::{
    JournalExtent, contract, decode_record, encode_events, encode_record, encode_record_events,
};
use prost::Message;

use crate::ledger;
use crate::memory::{Bound, bounded};

/// An event of two bytes becomes a struct of words, and vectors grow by doubling.
const MEMORY: Bound = Bound {
    bytes: 64 << 10,
    per_byte: 800,
};

const EXTENT: JournalExtent = JournalExtent {
    first_sequence: 1,
    durable_sequence: 9,
    epoch: 1,
};

pub(crate) fn run(data: &[u8]) {
    let decoded = bounded(data.len(), MEMORY, || decode_record(data));
    let streamed = bounded(data.len(), MEMORY, || {
        encode_record_events([data], 0, EXTENT)
    });
    let Ok(events) = decoded else { return };
    let body = encode_record(&events);
    let again = decode_record(&body).expect("what was written can be read");
    assert_eq!(events, again);
    assert_eq!(body, encode_record(&again), "writing is a function");

    // A reader is served from the bytes themselves, so it must see what the replay sees.
    let (response, last_sequence) = streamed.expect("what can be replayed can be streamed");
    let response = contract::ReadEventsResponse::decode(&response[..]).expect("a response");
    let sent = response.events.iter().map(|event| event.sequence);
    let shown = events.iter().map(|event| event.sequence);
    assert!(sent.eq(shown.clone().filter(|sequence| *sequence > 0)));
    assert_eq!(last_sequence, shown.rev().find(|it| *it > 0).unwrap_or(0));
    let _ = encode_events(&events, EXTENT);
}

/// The records of a history in which most things happen.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let records = ledger::example_records().into_iter().enumerate();
    let named = records.map(|(number, body)| (format!("example-{number:03}"), body));
    named.collect()
}
