//! Admission: who may come in now, decided before the ledger sees the call.
//!
//! Owns: token buckets per lane and per caller, the bound on calls in flight, what an operation
//! costs, and the counters of all of it. Every decision is a pure function of (state, time) in
//! whole numbers, so a recorded run can be decided again and gives the same answers.
//!
//! Must not: read a clock, start a thread, do I/O, use a float, know stock. `no_std` makes most of
//! that a compile error.
//!
//! Where next: `bucket.rs` for the arithmetic, `admission.rs` for the decision that the node makes,
//! `door.rs` for the whole one, `policy.rs` for what an operator sets. `README.md` says which parts
//! the node uses.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod admission;
mod bucket;
mod callers;
mod door;
mod gate;
mod keyed;
mod lines;
mod policy;
mod queue;
mod shadow;
mod stats;
mod turns;
mod verdict;
mod window;

pub use admission::{Admission, Call};
pub use bucket::{Bucket, BucketPolicy, BucketStart, Denial, Micros, Nanos, TOKEN};
pub use door::{Answer, Ask, Chance, Door, DoorPolicy, SKUS_MAX};
pub use gate::{
    Cause, GATE_SPAN_MAX, Gate, GateInputs, GatePolicy, GateRules, GateState, GateView,
    queue_count_max,
};
pub use keyed::KeyedPolicy;
pub use lines::{Called, WaitingLines};
pub use policy::{
    BURST_MAX, CALLERS_MAX, CALLS_IN_FLIGHT_MAX, COST_MAX, Costs, Lane, LanePolicy, Operation,
    Policy, PolicyError, RATE_MAX,
};
pub use queue::{Popped, QUEUE_LENGTH_MAX, QUEUE_WAIT_MAX, QueuePolicy, WaitQueue};
pub use shadow::{Shadow, ShadowCounts};
pub use stats::{CallerStats, LaneStats, Stats};
pub use turns::{SHARE_MAX, Turns};
pub use verdict::{Limit, Refusal, Verdict, Violation};
pub use window::{Report, ReportError, Window, WindowPolicy, WindowStats};
