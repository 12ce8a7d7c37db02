//! The native front: the node's calls over gRPC without Python and without its lock.
//!
//! Owns: a listener, its threads, and the way from an HTTP/2 stream to the node and back. Bytes in
//! and bytes out: no message is built or parsed here but a batch's length. Must not: hold a rule of
//! stock or of admission; the node answers, here as behind every other front. Where next:
//! `dispatch.rs` for which call goes where, `unary.rs` for the way of most calls.

mod accept;
mod activity;
mod anteroom;
mod caller;
mod connection;
mod control;
mod counts;
mod credentials;
mod crowd;
mod dispatch;
mod door;
mod events;
mod exchange;
mod faults;
mod framing;
mod front;
mod guard;
mod limits;
mod peer;
mod reflection;
mod reply;
mod settings;
mod status;
mod streams;
mod tls;
mod traces;
mod unary;
mod watch;

pub use control::{Control, Respond};
pub use counts::{CallCount, Latency};
pub use credentials::{Credentials, CredentialsError};
pub use door::UnknownCallers;
pub use front::{Front, FrontError};
pub use limits::{Limits, LimitsError};
pub use settings::FrontSettings;
pub use tls::{Material, TlsError};
pub use traces::TracedCall;
