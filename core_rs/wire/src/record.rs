//! Owns the body of a journal record: the events of one command, each with its length before it.
//!
//! Must give the same bytes for the same events, always. A reader of the stream is served from
//! these bytes as they are, without taking the events apart. Next: `event.rs`.

use lastunit_engine::{Event, Sequence};
use prost::Message;

use crate::event::{EventError, event_from_proto, event_to_proto};
use crate::event_out::write_event;
use crate::{contract, writer};

/// Room for one event, so that the usual record grows only once: a Reserved of one line has 110
/// bytes (measured).
const EVENT_BYTES_TYPICAL: usize = 160;

/// Encodes the events of one command as the body of one journal record.
#[must_use]
pub fn encode_record(events: &[Event]) -> Vec<u8> {
    let mut body = Vec::with_capacity(EVENT_BYTES_TYPICAL * events.len());
    write_record(&mut body, events);
    body
}

/// Like [`encode_record`], at the end of a buffer that the caller keeps.
pub fn write_record(out: &mut Vec<u8>, events: &[Event]) {
    for event in events {
        writer::delimited(out, |out| write_event(out, event));
    }
}

/// Decodes the body of one journal record.
///
/// # Errors
///
/// [`EventError`] if the bytes are not whole events, or an event lacks what its effect needs.
pub fn decode_record(body: &[u8]) -> Result<Vec<Event>, EventError> {
    split(body)
        .map(|bytes| {
            let event = contract::Event::decode(bytes?).map_err(|error| malformed(&error))?;
            event_from_proto(event)
        })
        .collect()
}

/// What a reader is told of the journal beside events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalExtent {
    /// The oldest event that the journal still has.
    pub first_sequence: Sequence,
    /// The last event that is durable.
    pub durable_sequence: Sequence,
    /// How often the journal was opened.
    pub epoch: i64,
}

/// Encodes `ReadEventsResponse` from events.
#[must_use]
pub fn encode_events(events: &[Event], extent: JournalExtent) -> Vec<u8> {
    contract::ReadEventsResponse {
        events: events.iter().map(event_to_proto).collect(),
        durable_sequence: extent.durable_sequence,
        epoch: extent.epoch,
        first_sequence: extent.first_sequence,
    }
    .encode_to_vec()
}

/// Encodes `ReadEventsResponse` from the bodies of journal records, leaving out the events up to
/// `after_sequence`. Gives the bytes and the last sequence in them, 0 if there is none.
///
/// # Errors
///
/// [`EventError::Malformed`] if a body is not a row of events.
pub fn encode_record_events<'a>(
    bodies: impl IntoIterator<Item = &'a [u8]>,
    after_sequence: Sequence,
    extent: JournalExtent,
) -> Result<(Vec<u8>, Sequence), EventError> {
    let mut response = Vec::new();
    let mut last_sequence = 0;
    for body in bodies {
        for event in split(body) {
            let event = event?;
            let Place { sequence } = Place::decode(event).map_err(|error| malformed(&error))?;
            if sequence > after_sequence {
                writer::bytes(&mut response, 1, event);
                last_sequence = sequence;
            }
        }
    }
    response.extend_from_slice(&encode_events(&[], extent));
    Ok((response, last_sequence))
}

/// `Event` with nothing but its position; the rest is skipped as unknown fields.
#[derive(Clone, PartialEq, prost::Message)]
struct Place {
    #[prost(int64, tag = "1")]
    sequence: i64,
}

fn malformed(error: &prost::DecodeError) -> EventError {
    EventError::Malformed {
        detail: error.to_string(),
    }
}

/// Splits a body into the bytes of its events; ends after the first error.
fn split(body: &[u8]) -> impl Iterator<Item = Result<&[u8], EventError>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = split_first(rest);
        rest = next.as_ref().map_or(&[][..], |(_, rest)| rest);
        Some(next.map(|(event, _)| event))
    })
}

fn split_first(mut rest: &[u8]) -> Result<(&[u8], &[u8]), EventError> {
    let length = prost::decode_length_delimiter(&mut rest).map_err(|error| malformed(&error))?;
    rest.split_at_checked(length)
        .ok_or_else(|| EventError::Malformed {
            detail: format!("an event of {length} bytes in {} bytes", rest.len()),
        })
}
