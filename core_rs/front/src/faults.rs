//! What only a front can see is wrong with a call.
//!
//! Owns: the faults of listener, metadata and streams. The other front words them in the same way;
//! the conformance suite holds both to it. Where next: `status.rs`.

use lastunit_node::{Answer, Listener};
use lastunit_wire::{Code, Fault, Violation};
use tonic::Status;

use crate::status;

/// The largest number that metadata may hold.
const NUMBER_MAX: i64 = i64::MAX;

pub(crate) fn status_of(fault: &Fault) -> Status {
    let answer = Answer {
        code: fault.code as i32,
        body: fault.to_status(),
    };
    match status::of(answer) {
        Err(status) => status,
        // A fault never has code 0.
        Ok(_) => Status::internal("a fault without a code"),
    }
}

pub(crate) fn caller_invalid(key: &'static str) -> Fault {
    metadata_invalid("CALLER_INVALID", key, "1 to 64 bytes of [A-Za-z0-9._:-]")
}

pub(crate) fn number_invalid(key: &'static str) -> Fault {
    let allowed = format!("a whole number, 0 to {NUMBER_MAX}");
    metadata_invalid("METADATA_INVALID", key, &allowed)
}

fn metadata_invalid(reason: &'static str, key: &'static str, allowed: &str) -> Fault {
    let message = format!("metadata {key} must be {allowed}; correct it");
    let mut fault = Fault::new(Code::InvalidArgument, reason, message).with_metadata("key", &key);
    fault.violations.push(Violation {
        field: key.to_owned(),
        rule: "metadata.form",
        description: format!("must be {allowed}"),
    });
    fault
}

pub(crate) fn wrong_listener(path: &str, listener: Listener, address: &str) -> Fault {
    let (here, there) = match listener {
        Listener::Data => ("data", "settlement"),
        Listener::Settlement => ("settlement", "data"),
    };
    let message = format!(
        "{path} is not served on the {here} listener, call the {there} listener at {address}"
    );
    Fault::new(Code::FailedPrecondition, "WRONG_LISTENER", message)
        .with_metadata("method", &path)
        .with_metadata("listener", &there)
        .with_metadata("address", &address)
}

pub(crate) fn draining() -> Fault {
    let message = "the server is stopping, open the stream again in a moment";
    Fault::new(Code::Unavailable, "DRAINING", message)
}

pub(crate) fn too_many_streams(limit: usize, advice: &str) -> Fault {
    let message = format!("{limit} streams are open already, {advice}");
    Fault::new(Code::ResourceExhausted, "TOO_MANY_STREAMS", message).with_metadata("limit", &limit)
}

pub(crate) fn message_late() -> Fault {
    let message = "the message of this call did not come in time, send the call again";
    Fault::new(Code::Unavailable, "MESSAGE_LATE", message)
}

pub(crate) fn message_missing() -> Fault {
    let message = "this method takes one message and none came, send it";
    Fault::new(Code::InvalidArgument, "MESSAGE_MISSING", message)
}

pub(crate) fn past_the_end(after_sequence: i64) -> Fault {
    let message = format!(
        "after_sequence {after_sequence} lies beyond the end of the journal, which may have been \
         rolled back; check that this is the right server before reading from an earlier sequence"
    );
    Fault::new(Code::OutOfRange, "SEQUENCE_NOT_REACHED", message)
        .with_metadata("after_sequence", &after_sequence)
}

pub(crate) fn events_removed(after_sequence: i64, first_sequence: i64) -> Fault {
    let message = format!(
        "events after {after_sequence} were removed, the journal starts at {first_sequence}; \
         compare your own state with the ledger's (GetReservation, ListReservations), then read \
         after {}",
        first_sequence - 1
    );
    Fault::new(Code::OutOfRange, "EVENTS_REMOVED", message)
        .with_metadata("after_sequence", &after_sequence)
        .with_metadata("first_sequence", &first_sequence)
}

pub(crate) fn journal_unreadable(cause: &str) -> Fault {
    let message = format!("the journal cannot be read: {cause}; look after the server's disk");
    Fault::new(Code::DataLoss, "JOURNAL_UNREADABLE", message)
}

pub(crate) fn no_answer() -> Fault {
    let message = "the node ended before it answered; ask again with the same id";
    Fault::new(Code::Unavailable, "DRAINING", message)
}
