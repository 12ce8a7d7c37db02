//! Owns the way from bytes of the contract to the engine's words and back.
//!
//! Must not decide anything, read a clock or touch a file. Every input is hostile: nothing here
//! panics, whatever the bytes. Read next: `decode.rs` for the way in, `reply.rs` for the way out,
//! `event.rs` for the journal.

mod check;
mod command;
mod decode;
mod enums;
mod event;
mod event_in;
mod event_out;
mod exchange;
mod fault;
mod method;
mod query;
mod record;
mod reply;
mod status;
mod time;
mod transport;
mod usual;
mod view;
mod writer;

pub use check::{VIOLATION_COUNT_MAX, Violation};
pub use decode::{MESSAGE_BYTES_MAX, Query, Request, decode};
pub use event::{EventError, event_from_proto, event_to_proto};
pub use exchange::{Batch, Operation, Replies};
pub use fault::{Code, DOMAIN, Fault};
pub use method::{Lane, Method};
pub use record::{
    JournalExtent, decode_record, encode_events, encode_record, encode_record_events, write_record,
};
pub use reply::{Durability, Place, encode_reply};
pub use transport::{FILE_DESCRIPTOR_SET, is_watch_going_on, read_status};
pub use view::{
    Reach, Transition, encode_audit, encode_availabilities, encode_clock, encode_explanation,
    encode_reservation, encode_reservations, encode_transitions,
};

#[expect(
    clippy::all,
    clippy::pedantic,
    reason = "written by build/emit.rs, which prefers being simple to being pretty"
)]
mod checks {
    use crate::check::{At, Check, Items, Pattern, Violations};
    use crate::contract;

    include!(concat!(env!("OUT_DIR"), "/checks.rs"));
}
/// The messages of `lastunit.stock.v1`, as prost makes them of the protos.
#[expect(
    clippy::large_enum_variant,
    clippy::pedantic,
    reason = "made from the protos; boxing each reply would cost more than it saves"
)]
pub mod contract {
    include!(concat!(env!("OUT_DIR"), "/lastunit.stock.v1.rs"));
}
