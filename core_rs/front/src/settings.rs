//! What one native listener is told.
//!
//! Owns: names, defaults and ranges. Must not: read files. Where next: `front.rs`.

use std::net::SocketAddr;
use std::time::Duration;

use lastunit_node::Listener;

use crate::control::Control;
use crate::credentials::Credentials;
use crate::limits::Limits;
use crate::tls::Material;

/// Settings of one native listener.
#[derive(Debug)]
pub struct FrontSettings {
    /// Where to listen; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Which calls it serves.
    pub listener: Listener,
    /// Whether RehearsalService is served: only when the node's clock is manual.
    pub is_rehearsal: bool,
    /// Whether reflection is served.
    pub has_reflection: bool,
    /// Threads that serve, 1 to 64.
    pub thread_count: usize,
    /// What a stranger may cost.
    pub limits: Limits,
    /// Certificates; none speaks plain text.
    pub material: Option<Material>,
    /// What callers are known by; the default lets them name themselves.
    pub credentials: Credentials,
    /// Upper bounds of the spans in which the lengths of calls are counted, rising.
    pub latency_bounds: Vec<Duration>,
    /// Whether finished calls are kept for a collector until the owner takes them.
    pub is_traced: bool,
    /// What the front's owner answers by itself; none leaves it to the other front.
    pub control: Option<Control>,
}
