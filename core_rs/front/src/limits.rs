//! What a stranger may cost on one listener: the numbers.
//!
//! Owns: names and ranges. Must not: enforce them. The defaults and their reasons are the owner's
//! (`server/lastunit_server/options.py` and its settings). Where next: `crowd.rs`, `guard.rs`,
//! `connection.rs`, `anteroom.rs`.

use std::time::Duration;

use serde::Deserialize;

/// Limits of one listener, each at least 1; spans in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Calls that one connection may have open; more wait in the client.
    pub max_concurrent_streams: u32,
    /// Exchange, ReadEvents and WatchAvailability streams at once.
    pub streams_max: usize,
    /// Connections at once.
    pub connections_max: usize,
    /// Of them, connections from one address; of IPv6 from one network of 64 bits.
    pub connections_per_address_max: usize,
    /// After this a connection is renewed, which spreads connections over servers again.
    pub connection_age_ms: u64,
    /// After this a connection without calls is closed.
    pub connection_idle_ms: u64,
    /// How long a connection may take for its handshake and for its first words.
    pub handshake_ms: u64,
    /// How long a call may wait for its message, and a frame that has begun for its end.
    pub message_wait_ms: u64,
    /// Calls that may wait for their message at once; of more, those go that have waited for
    /// `half_open_patience_ms`, the oldest first.
    pub half_open_max: usize,
    /// Calls that may wait for their message in a rush; of more, the oldest goes at once.
    pub half_open_rush_max: usize,
    /// How long a call may wait for its message whoever else waits.
    pub half_open_patience_ms: u64,
    /// How long a caller may take nothing of the answers that wait for it.
    pub reader_wait_ms: u64,
    /// Bytes that may wait in memory, of answers not taken and of messages not whole.
    pub waiting_bytes_max: usize,
    /// Frames in ten seconds that carry nothing (pings, settings, empty data, …), beside two for
    /// each frame of an answer.
    pub control_frames_max: u32,
    /// Bytes of a call's headers, unpacked.
    pub header_bytes_max: u32,
    /// Calls that were opened and reset again before they were looked at.
    pub pending_resets_max: usize,
}

/// A limit that is not one.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// Not of the form above.
    #[error("the limits do not read: {0}")]
    Form(#[from] serde_json::Error),
    /// A limit of nothing would let nobody in.
    #[error("{0} must be 1 or more")]
    Zero(&'static str),
}

impl Limits {
    /// Reads limits from JSON.
    ///
    /// # Errors
    /// A name that is missing or unknown, or a number that is 0.
    pub fn from_json(text: &str) -> Result<Self, LimitsError> {
        let limits: Self = serde_json::from_str(text)?;
        let checked = [
            ("max_concurrent_streams", limits.max_concurrent_streams == 0),
            ("streams_max", limits.streams_max == 0),
            ("connections_max", limits.connections_max == 0),
            (
                "connections_per_address_max",
                limits.connections_per_address_max == 0,
            ),
            ("connection_age_ms", limits.connection_age_ms == 0),
            ("connection_idle_ms", limits.connection_idle_ms == 0),
            ("handshake_ms", limits.handshake_ms == 0),
            ("message_wait_ms", limits.message_wait_ms == 0),
            ("half_open_max", limits.half_open_max == 0),
            ("half_open_rush_max", limits.half_open_rush_max == 0),
            ("half_open_patience_ms", limits.half_open_patience_ms == 0),
            ("reader_wait_ms", limits.reader_wait_ms == 0),
            ("waiting_bytes_max", limits.waiting_bytes_max == 0),
            ("control_frames_max", limits.control_frames_max == 0),
            ("header_bytes_max", limits.header_bytes_max == 0),
            ("pending_resets_max", limits.pending_resets_max == 0),
        ];
        match checked.iter().find(|(_, is_zero)| *is_zero) {
            Some((name, _)) => Err(LimitsError::Zero(name)),
            None => Ok(limits),
        }
    }

    pub(crate) fn connection_age(&self) -> Duration {
        Duration::from_millis(self.connection_age_ms)
    }

    pub(crate) fn connection_idle(&self) -> Duration {
        Duration::from_millis(self.connection_idle_ms)
    }

    pub(crate) fn handshake(&self) -> Duration {
        Duration::from_millis(self.handshake_ms)
    }

    pub(crate) fn message_wait(&self) -> Duration {
        Duration::from_millis(self.message_wait_ms)
    }

    pub(crate) fn half_open_patience(&self) -> Duration {
        Duration::from_millis(self.half_open_patience_ms)
    }

    pub(crate) fn reader_wait(&self) -> Duration {
        Duration::from_millis(self.reader_wait_ms)
    }
}

#[cfg(test)]
pub(crate) fn of_tests() -> Limits {
    Limits {
        max_concurrent_streams: 100,
        streams_max: 10,
        connections_max: 100,
        connections_per_address_max: 100,
        connection_age_ms: 60_000,
        connection_idle_ms: 60_000,
        handshake_ms: 5000,
        message_wait_ms: 10_000,
        half_open_max: 1024,
        half_open_rush_max: 32_768,
        half_open_patience_ms: 1000,
        reader_wait_ms: 20_000,
        waiting_bytes_max: 1 << 20,
        control_frames_max: 1000,
        header_bytes_max: 16 * 1024,
        pending_resets_max: 20,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_nothing_and_an_unknown_one_are_refused() {
        let text = |streams_max: u32, more: &str| {
            format!(
                r#"{{"max_concurrent_streams":1,"streams_max":{streams_max},"connections_max":1,
                "connections_per_address_max":1,"connection_age_ms":1,"connection_idle_ms":1,
                "handshake_ms":1,"message_wait_ms":1,"half_open_max":1,"half_open_rush_max":1,
                "half_open_patience_ms":1,"reader_wait_ms":1,
                "waiting_bytes_max":1,"control_frames_max":1,"header_bytes_max":1,
                "pending_resets_max":1{more}}}"#
            )
        };

        assert!(Limits::from_json(&text(1, "")).is_ok());
        let zero = Limits::from_json(&text(0, "")).expect_err("lets nobody in");
        assert_eq!("streams_max must be 1 or more", zero.to_string());
        assert!(Limits::from_json(&text(1, r#","guess":1"#)).is_err());
    }
}
