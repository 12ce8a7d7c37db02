//! Owns the two forms of an event, the engine's and the contract's, and the way between them.
//!
//! Must not lose or add anything: what is written to the journal is read back equal, field by
//! field. Next: `event_out.rs`, `event_in.rs`, then `record.rs`.

use lastunit_engine::Event;

use crate::event_in::{body_from_proto, instant};
use crate::event_out::body_to_proto;
use crate::{contract, time};

/// A journal record whose events can't be read: it was damaged, or a newer version wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventError {
    /// The bytes are not events of the contract.
    Malformed {
        /// What the decoder said.
        detail: String,
    },
    /// The event lacks a field that its effect needs, or has a value that is not known.
    Incomplete {
        /// The event's position.
        sequence: i64,
        /// The field, as the contract names it.
        field: &'static str,
    },
}

impl std::fmt::Display for EventError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed { detail } => write!(
                formatter,
                "the journal record holds no events ({detail}); restore it from a copy"
            ),
            Self::Incomplete { sequence, field } => write!(
                formatter,
                "event {sequence} lacks {field} or a newer version wrote it; start that version"
            ),
        }
    }
}

impl std::error::Error for EventError {}

/// Makes the contract's form of an event.
#[must_use]
pub fn event_to_proto(event: &Event) -> contract::Event {
    contract::Event {
        sequence: event.sequence,
        time: Some(time::instant(event.time)),
        request_id: event.request_id.to_string(),
        caller: event.caller.to_string(),
        sale_id: event.sale_id.to_string(),
        reservation_id: event.reservation_id.to_string(),
        actor: event.actor.to_string(),
        reason: event.reason.to_string(),
        body: body_to_proto(&event.body),
    }
}

/// Makes the engine's form of an event.
///
/// # Errors
///
/// [`EventError::Incomplete`] names the field that is missing or has a value that is not known.
pub fn event_from_proto(event: contract::Event) -> Result<Event, EventError> {
    let lack = |field| EventError::Incomplete {
        sequence: event.sequence,
        field,
    };
    let body = event
        .body
        .ok_or("body")
        .and_then(body_from_proto)
        .map_err(lack)?;
    let time = instant(event.time, "time").map_err(lack)?;
    Ok(Event {
        sequence: event.sequence,
        time,
        request_id: event.request_id.into(),
        caller: event.caller.into(),
        actor: event.actor.into(),
        reason: event.reason.into(),
        sale_id: event.sale_id.into(),
        reservation_id: event.reservation_id.into(),
        body,
    })
}
