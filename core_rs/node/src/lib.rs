//! The node: engine, journal, admission and ledger time behind one call.
//!
//! Owns: threads, the one lock, ledger time, group commit and the completion of calls. A call is
//! bytes in and bytes out; an answer leaves only when the state it shows is durable.
//!
//! Must not: know Python, hold a rule about stock, touch a file. Where next: `serve.rs` for the way
//! of a call, `flusher.rs` for durability, `open.rs` for recovery, `README.md` for the threads.

mod answer;
mod batch;
mod clock;
mod core;
mod damage;
mod epochs;
mod events;
mod explain;
mod failpoints;
mod faults;
mod flusher;
mod gates;
mod gates_settings;
mod gone;
mod keeper;
mod lane_lock;
mod life;
mod meters;
mod metrics;
mod node;
mod offline;
mod open;
mod permissions;
mod permit;
mod policies;
mod query;
mod readers;
mod recorder;
mod recorder_files;
mod retention;
mod revisions;
mod serve;
mod settings;
mod settings_admission;
mod shared;
mod simulation;
mod snapshots;
mod spans;
#[cfg(feature = "testing")]
pub mod stepped;
mod storage;
mod timers;
mod waiters;
mod waiting;
mod watch;
mod workers;

pub use answer::{Answer, AnswerPort, Completion};
pub use clock::ClockKind;
pub use damage::{repair_directory, verify_directory};
pub use events::{READ_LIMIT_MAX, ReadError};
pub use failpoints::{FAILPOINT_VARIABLE, Failpoint};
pub use gates::{GATE_COUNT_MAX, GateError};
pub use lastunit_admission::{GateState, Report};
pub use lastunit_journal::JournalError;
pub use life::Phase;
pub use node::{CallInput, CloseError, Health, Listener, Node};
pub use offline::{DirectoryEvents, DirectoryView, audit_directory, read_directory_events};
pub use open::OpenError;
pub use permissions::{Lack, Permissions, Subject, Verdict};
pub use policies::{PolicyPut, check_policy, default_policy};
pub use recorder::ArrivalSettings;
pub use revisions::PolicyOrigin;
pub use settings::{DurabilityKind, NodeSettings, PolicyText, SEGMENT_BYTES_MIN, SettingsError};
pub use simulation::{ArrivalReplay, ReplayError};
pub use watch::{WATCH_COUNT_MAX, Watch, WatchBusy};
